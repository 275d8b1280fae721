//! A client on a blocking stream. Whatever does not come in time, or comes instead, panics.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant as Clock};

use amqp_proto::wire::{BasicGet, BasicPublish, ConfirmSelect, Properties, QueueDeclare, ShortStr};
use amqp_proto::{
    ChannelCloseReason, ChannelId, ConfirmOutcome, Connection, ConnectionParameters, Event, Instant, RecvBuf,
    SendBuf, TransportError,
};
use bytes::Buf;

/// Longer than anything takes on a busy machine, and shorter than what wakes the broker by itself (a heartbeat, after 30 s).
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct Client<S> {
    pub(crate) stream: S,
    pub(crate) connection: Connection,
    input: RecvBuf,
    output: SendBuf,
    epoch: Clock,
}

/// A socket to where the URI points.
pub(crate) fn socket(uri: &str) -> TcpStream {
    let parameters = ConnectionParameters::from_uri(uri).unwrap();
    let address = parameters.addresses().next().unwrap();
    let socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.set_write_timeout(Some(PATIENCE)).unwrap();
    socket
}

impl Client<TcpStream> {
    /// Over TCP, when the handshake is done.
    pub(crate) fn connect(uri: &str) -> Self {
        Self::over(socket(uri), uri)
    }
}

impl<S: Read + Write> Client<S> {
    /// The same over that stream.
    pub(crate) fn over(stream: S, uri: &str) -> Self {
        let config = ConnectionParameters::from_uri(uri).unwrap().config;
        let mut client = Self {
            stream,
            connection: Connection::new(Arc::new(config), Instant::EPOCH, 0),
            input: RecvBuf::new(),
            output: SendBuf::new(),
            epoch: Clock::now(),
        };
        client.until(|event| matches!(event, Event::Connected).then_some(()));
        client
    }

    /// Goes on until that event. Those before are dropped.
    pub(crate) fn until<T>(&mut self, mut wanted: impl FnMut(&Event) -> Option<T>) -> T {
        loop {
            let now = Instant::since_epoch(self.epoch.elapsed());
            while let Some(event) = self.connection.poll_event(now, &mut self.input) {
                if let Some(found) = wanted(&event) {
                    return found;
                }
                let is_bad = match &event {
                    // The end of the connection follows.
                    Event::ChannelClosed { reason, .. } => !matches!(
                        reason,
                        ChannelCloseReason::Requested | ChannelCloseReason::Connection(_)
                    ),
                    event => matches!(event, Event::Closed(_)),
                };
                assert!(!is_bad, "{event:?}");
            }
            self.flush();
            let now = Instant::since_epoch(self.epoch.elapsed());
            let end = match self.stream.read(self.input.spare_mut()) {
                Ok(0) => TransportError::end_of_stream(),
                Ok(count) => {
                    self.input.advance(count);
                    continue;
                }
                Err(error) => {
                    let is_late = matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut);
                    assert!(!is_late, "nothing came within {PATIENCE:?}");
                    error.into()
                }
            };
            self.connection.handle_disconnect(now, Some(end));
        }
    }

    /// Writes all that there is to write.
    pub(crate) fn flush(&mut self) {
        let now = Instant::since_epoch(self.epoch.elapsed());
        while self.connection.poll_transmit(now, &mut self.output) || self.output.has_remaining() {
            let count = self.stream.write(self.output.chunk()).unwrap();
            self.output.advance(count);
        }
        self.stream.flush().unwrap();
    }

    pub(crate) fn open_channel(&mut self) -> ChannelId {
        let channel = self.connection.open_channel().unwrap();
        let is_open = |event: &Event| {
            matches!(event, Event::ChannelOpened { channel: id } if *id == channel).then_some(())
        };
        self.until(is_open);
        channel
    }

    pub(crate) fn declare(&mut self, channel: ChannelId, queue: &str) {
        let declare = QueueDeclare {
            queue: ShortStr::new(queue).unwrap(),
            durable: true, // RabbitMQ 4.3 wants that of a queue that is not exclusive.
            ..Default::default()
        };
        self.connection
            .channel(channel)
            .unwrap()
            .request(&declare)
            .unwrap();
        self.until(is_reply);
    }

    pub(crate) fn select_confirms(&mut self, channel: ChannelId) {
        let select = ConfirmSelect::default();
        self.connection
            .channel(channel)
            .unwrap()
            .request(&select)
            .unwrap();
        self.until(is_reply);
    }

    pub(crate) fn publish(&mut self, channel: ChannelId, queue: &str, body: &[u8]) {
        let publish = BasicPublish {
            routing_key: ShortStr::new(queue).unwrap(),
            ..Default::default()
        };
        let mut channel = self.connection.channel(channel).unwrap();
        channel.publish(&publish, &Properties::default(), body).unwrap();
    }

    /// Until so many publishes are acked.
    pub(crate) fn await_acks(&mut self, mut count: u64) {
        self.until(|event| {
            if let Event::Confirmed { tags, outcome } = event {
                assert_eq!(*outcome, ConfirmOutcome::Acked);
                count -= tags.iter().count() as u64;
            }
            (count == 0).then_some(())
        });
    }

    pub(crate) fn get(&mut self, channel: ChannelId, queue: &str) -> Vec<u8> {
        self.ask(channel, queue);
        self.answer()
    }

    /// Asks for a message, which [`answer`](Self::answer) waits for.
    pub(crate) fn ask(&mut self, channel: ChannelId, queue: &str) {
        let get = BasicGet {
            queue: ShortStr::new(queue).unwrap(),
            no_ack: true,
        };
        self.connection.channel(channel).unwrap().get(&get).unwrap();
    }

    pub(crate) fn answer(&mut self) -> Vec<u8> {
        self.until(|event| match event {
            Event::Got(got) => Some(got.message.body().into_owned()),
            Event::GetEmpty { .. } => panic!("the queue is empty"),
            _ => None,
        })
    }

    /// Until the stream ends.
    pub(crate) fn await_end(&mut self) {
        self.until(|event| matches!(event, Event::Closed(_)).then_some(()));
    }
}

fn is_reply(event: &Event) -> Option<()> {
    matches!(event, Event::Reply(_)).then_some(())
}
