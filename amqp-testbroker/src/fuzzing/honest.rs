//! A client that does what is right: it must be served, whatever others did before.

use std::sync::Arc;

use amqp_proto::wire::*;
use amqp_proto::{ChannelId, Config, ConfirmOutcome, Connection, Event, Instant, RecvBuf, Request, SendBuf};
use bytes::Buf;

use super::short;
use crate::broker::{Broker, ConnectionKey};

const BODY: &[u8] = b"sixteen octets !";

/// The honest client on a stream of its own, at one moment.
pub(super) struct Honest<'b> {
    broker: &'b mut Broker,
    key: ConnectionKey,
    now: Instant,
    connection: Connection,
    channel: ChannelId,
    to_client: RecvBuf,
    to_broker: RecvBuf,
    to_write: SendBuf,
}

impl<'b> Honest<'b> {
    pub(super) fn connect(broker: &'b mut Broker, now: Instant) -> Self {
        let key = broker.accept(now);
        let mut client = Self {
            broker,
            key,
            now,
            connection: Connection::new(Arc::new(Config::default()), now, 0),
            channel: ChannelId::CONNECTION,
            to_client: RecvBuf::new(),
            to_broker: RecvBuf::new(),
            to_write: SendBuf::new(),
        };
        assert_eq!(client.event(), Event::Connected);
        let channel = client.connection.open_channel().expect("it is open");
        client.channel = channel;
        assert_eq!(client.event(), Event::ChannelOpened { channel });
        client
    }

    /// A message of its own into a queue of its own, and out again.
    pub(super) fn works(&mut self) {
        let declare = QueueDeclare {
            exclusive: true,
            ..QueueDeclare::default()
        };
        let name = match self.ask(&declare).decode() {
            Ok(Method::QueueDeclareOk(ok)) => ok.queue.as_bytes().to_vec(),
            other => panic!("{other:?}"),
        };
        self.ask(&ConfirmSelect::default());
        let queue = short(&name);
        let publish = BasicPublish {
            routing_key: queue,
            mandatory: true,
            ..BasicPublish::default()
        };
        let mut channel = self.connection.channel(self.channel).expect("it is open");
        let tag = channel.publish(&publish, &Properties::default(), BODY);
        assert!(tag.expect("there is room").is_some());
        match self.event() {
            Event::Confirmed { outcome, .. } => assert_eq!(outcome, ConfirmOutcome::Acked),
            other => panic!("{other:?}"),
        }
        let get = BasicGet {
            queue,
            ..BasicGet::default()
        };
        let mut channel = self.connection.channel(self.channel).expect("it is open");
        channel.get(&get).expect("there is room");
        let tag = match self.event() {
            Event::Got(got) => {
                assert_eq!(&*got.message.body(), BODY);
                got.tag
            }
            other => panic!("{other:?}"),
        };
        let mut channel = self.connection.channel(self.channel).expect("it is open");
        channel.ack(tag).expect("it is open");
    }

    /// Deletes every queue there is: no message is left then, nor counted.
    pub(super) fn clear(&mut self) {
        let hosts = self.broker.common.hosts.values();
        let names: Vec<Vec<u8>> = hosts
            .flat_map(|host| host.queue_names().map(|name| name.to_vec()))
            .collect();
        for name in names {
            self.ask(&QueueDelete {
                queue: short(&name),
                ..QueueDelete::default()
            });
        }
        assert_eq!(self.broker.common.memory(), 0, "octets that nobody has");
        assert!(self.broker.common.reply_consumers.is_empty());
    }

    pub(super) fn leave(mut self) {
        self.connection.close(ReplyCode::REPLY_SUCCESS, "bye");
        assert!(matches!(self.event(), Event::ChannelClosed { .. }));
        assert!(matches!(self.event(), Event::Closed(_)));
        assert!(self.broker.is_over(self.key));
        self.broker.handle_disconnect(self.key, self.now);
    }

    /// The answer to a request, which must be no refusal.
    fn ask<R: Request>(&mut self, method: &R) -> Answer {
        let mut channel = self.connection.channel(self.channel).expect("it is open");
        channel.request(method).expect("there is room");
        match self.event() {
            Event::Reply(reply) => {
                let mut octets = Vec::new();
                let method = reply.method().expect("it can be read");
                method.encode(&mut octets, 0, u32::MAX).expect("it is short");
                Answer(octets)
            }
            other => panic!("{other:?}"),
        }
    }

    /// The next event, with octets going both ways until there is one.
    fn event(&mut self) -> Event {
        for _ in 0..100 {
            if let Some(event) = self.connection.poll_event(self.now, &mut self.to_client) {
                return event;
            }
            self.connection.poll_transmit(self.now, &mut self.to_write);
            move_all(&mut self.to_write, &mut self.to_broker);
            self.broker.handle_input(self.key, self.now, &mut self.to_broker);
            self.broker.poll_transmit(self.key, self.now, &mut self.to_write);
            move_all(&mut self.to_write, &mut self.to_client);
        }
        panic!("the broker is silent");
    }
}

/// A method frame.
struct Answer(Vec<u8>);

impl Answer {
    fn decode(&self) -> Result<Method<'_>, ProtocolError> {
        Method::decode(&self.0[HEADER_SIZE..self.0.len() - 1])
    }
}

fn move_all(from: &mut SendBuf, to: &mut RecvBuf) {
    let octets = from.copy_to_bytes(from.remaining());
    assert_eq!(to.extend(&octets), octets.len());
}
