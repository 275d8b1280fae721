//! A TCP server and AMQP on one `Poll`: a chat. Each line that a guest writes goes to an exchange, and what comes from there goes to every
//! guest, whichever server with the same broker he is with. Until Ctrl-C.
//!
//! ```sh
//! cargo run -p amqp-mio --example mio_chat -- 127.0.0.1:7000 # The broker is that of AMQP_URL, or else this machine's.
//! nc 127.0.0.1 7000
//! ```

mod common;

use std::collections::HashMap;
use std::error::Error;
use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;

use amqp_mio::proto::wire::{
    BasicConsume, BasicPublish, ExchangeDeclare, Properties, QueueBind, QueueDeclare, ReplyCode,
};
use amqp_mio::proto::{ChannelId, CloseReason, Delivery, SendError};
use amqp_mio::{Event, MioConnection};
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token, Waker};

const BROKER: Token = Token(0);
const LISTENER: Token = Token(1);
const CTRL_C: Token = Token(2);
const FIRST_GUEST: usize = 3;

/// So much is read at once, and so long is a line at most.
const MOST_READ: usize = 4096;

/// How many events of the broker are told before the guests get their turn.
const MOST_EVENTS: usize = 64;

fn main() -> Result<(), Box<dyn Error>> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:7000".into());
    let mut poll = Poll::new()?;
    let mut listener = TcpListener::bind(address.parse::<SocketAddr>()?)?;
    let registry = poll.registry();
    registry.register(&mut listener, LISTENER, Interest::READABLE)?;
    let mut connection = common::connector()?.connect()?;
    registry.register(&mut connection, BROKER, Interest::READABLE)?;
    let waker = Waker::new(registry, CTRL_C)?;
    ctrlc::set_handler(move || {
        let _ = waker.wake();
    })?;
    println!("listening on {}", listener.local_addr()?);

    let mut chat = Chat {
        connection,
        channel: None,
        guests: HashMap::new(),
        next_guest: FIRST_GUEST,
    };
    let mut ready = Events::with_capacity(64);
    loop {
        match poll.poll(&mut ready, chat.connection.next_timeout()) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            polled => polled?,
        }
        for event in &ready {
            match event.token() {
                BROKER => chat.connection.on_ready(event),
                LISTENER => chat.welcome(&listener, &poll)?,
                CTRL_C => chat.connection.close(ReplyCode::REPLY_SUCCESS, "Normal shutdown"),
                guest => chat.hear(guest)?,
            }
        }
        chat.connection.on_timeout();
        if let Some(reason) = chat.hear_broker()? {
            println!("{reason}");
            return Ok(());
        }
    }
}

struct Chat {
    connection: MioConnection,
    /// There is none before the broker is reached: what guests say until then only they know.
    channel: Option<ChannelId>,
    /// With what each has written of a line.
    guests: HashMap<Token, (TcpStream, Vec<u8>)>,
    next_guest: usize,
}

impl Chat {
    fn welcome(&mut self, listener: &TcpListener, poll: &Poll) -> io::Result<()> {
        loop {
            let (mut guest, _) = match listener.accept() {
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                accepted => accepted?,
            };
            let token = Token(self.next_guest);
            self.next_guest += 1;
            poll.registry().register(&mut guest, token, Interest::READABLE)?;
            self.guests.insert(token, (guest, Vec::new()));
        }
    }

    /// Publishes the lines of a guest. Who is gone, or writes no end of a line, is forgotten.
    fn hear(&mut self, token: Token) -> Result<(), SendError> {
        let Some((guest, line)) = self.guests.get_mut(&token) else {
            return Ok(());
        };
        let mut buffer = [0; MOST_READ];
        loop {
            match guest.read(&mut buffer) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Ok(count) if count > 0 && line.len() + count <= MOST_READ => {
                    line.extend_from_slice(&buffer[..count]);
                }
                _ => {
                    self.guests.remove(&token);
                    return Ok(());
                }
            }
            while let Some(end) = line.iter().position(|&octet| octet == b'\n') {
                let rest = line.split_off(end + 1);
                let said = std::mem::replace(line, rest);
                if let Some(channel) = self.channel {
                    let to_all = BasicPublish {
                        exchange: common::short("chat"),
                        ..Default::default()
                    };
                    let mut channel = self.connection.channel(channel)?;
                    channel.publish(&to_all, &Properties::default(), said)?;
                }
            }
        }
    }

    /// What happened at the broker; its last words, if that was the end.
    fn hear_broker(&mut self) -> Result<Option<CloseReason>, Box<dyn Error>> {
        for _ in 0..MOST_EVENTS {
            match self.connection.poll_event()? {
                Some(Event::Connected) => self.join()?,
                Some(Event::Reply(_)) => println!("joined the chat"),
                Some(Event::Delivery(delivery)) => self.tell(&delivery),
                Some(Event::ChannelClosed { reason, .. }) if reason.peer().is_some() => {
                    return Err(reason.into());
                }
                Some(Event::Closed(reason)) => return Ok(Some(reason)),
                Some(_) => {}
                None => break,
            }
        }
        Ok(None)
    }

    fn join(&mut self) -> Result<(), SendError> {
        let id = self.connection.open_channel()?;
        let mut channel = self.connection.channel(id)?;
        let exchange = common::short("chat");
        channel.send_nowait(&ExchangeDeclare {
            exchange,
            exchange_type: common::short("fanout"),
            ..Default::default()
        })?;
        // The queue has a name of the broker's, and is the one that is meant where none is named.
        let queue = QueueDeclare {
            exclusive: true,
            ..Default::default()
        };
        channel.send_nowait(&queue)?;
        channel.send_nowait(&QueueBind {
            exchange,
            ..Default::default()
        })?;
        channel.consume(&BasicConsume {
            no_ack: true,
            ..Default::default()
        })?;
        self.channel = Some(id);
        Ok(())
    }

    /// Who is gone, or does not read what he is told, is forgotten.
    fn tell(&mut self, delivery: &Delivery) {
        let line = delivery.message.body();
        self.guests.retain(|_, (guest, _)| guest.write_all(&line).is_ok());
    }
}
