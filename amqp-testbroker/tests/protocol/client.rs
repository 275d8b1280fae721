//! The client's machine against the broker, in one thread.

use std::sync::Arc;

use amqp_proto::wire::*;
use amqp_proto::{CloseReason, Config, ConfirmOutcome, Connection, Event, Instant, RecvBuf, SendBuf};
use amqp_testbroker::{Broker, BrokerConfig, ConnectionKey};
use bytes::Buf;

struct Pair {
    client: Connection,
    broker: Broker,
    key: ConnectionKey,
    to_client: RecvBuf,
    to_broker: RecvBuf,
}

impl Pair {
    fn new() -> Self {
        let mut broker = Broker::new(BrokerConfig::default());
        let key = broker.accept(Instant::EPOCH);
        let client = Connection::new(Arc::new(Config::default()), Instant::EPOCH, 0);
        Self {
            client,
            broker,
            key,
            to_client: RecvBuf::new(),
            to_broker: RecvBuf::new(),
        }
    }

    /// The next event, with octets going both ways until there is one.
    fn event(&mut self) -> Event {
        let now = Instant::EPOCH;
        for _ in 0..100 {
            if let Some(event) = self.client.poll_event(now, &mut self.to_client) {
                return event;
            }
            let mut output = SendBuf::new();
            self.client.poll_transmit(now, &mut output);
            let octets = output.copy_to_bytes(output.remaining());
            assert_eq!(self.to_broker.extend(&octets), octets.len());
            self.broker.handle_input(self.key, now, &mut self.to_broker);
            self.broker.poll_transmit(self.key, now, &mut output);
            let octets = output.copy_to_bytes(output.remaining());
            assert_eq!(self.to_client.extend(&octets), octets.len());
        }
        panic!("nothing happens any more");
    }
}

#[test]
fn a_client_declares_publishes_consumes_and_closes() {
    let mut pair = Pair::new();
    assert_eq!(pair.event(), Event::Connected);
    let id = pair.client.open_channel().unwrap();
    assert_eq!(pair.event(), Event::ChannelOpened { channel: id });

    let mut channel = pair.client.channel(id).unwrap();
    let queue = ShortStr::new("hello").unwrap();
    let declare = channel
        .request(&QueueDeclare {
            queue,
            ..Default::default()
        })
        .unwrap();
    let confirm = channel.request(&ConfirmSelect::default()).unwrap();
    let Event::Reply(reply) = pair.event() else {
        panic!("no declare-ok")
    };
    assert_eq!(reply.read(declare).unwrap().queue, queue);
    let Event::Reply(reply) = pair.event() else {
        panic!("no select-ok")
    };
    assert!(reply.read(confirm).is_some());

    let mut channel = pair.client.channel(id).unwrap();
    let publish = BasicPublish {
        routing_key: queue,
        ..Default::default()
    };
    let tag = channel
        .publish(&publish, &Properties::default(), b"Hello World!")
        .unwrap();
    assert!(tag.is_some());
    let Event::Confirmed { outcome, .. } = pair.event() else {
        panic!("no confirm")
    };
    assert_eq!(outcome, ConfirmOutcome::Acked);
    assert_eq!(pair.broker.queue_len("/", "hello"), Some(1));

    let mut channel = pair.client.channel(id).unwrap();
    channel
        .consume(&BasicConsume {
            queue,
            ..Default::default()
        })
        .unwrap();
    let delivery = loop {
        match pair.event() {
            Event::Delivery(delivery) => break delivery,
            Event::Reply(_) => {}
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(&*delivery.message.body(), b"Hello World!");
    pair.client.channel(id).unwrap().ack(delivery.tag).unwrap();

    pair.client.close(ReplyCode::REPLY_SUCCESS, "bye");
    assert!(matches!(pair.event(), Event::ChannelClosed { .. }));
    assert_eq!(
        pair.event(),
        Event::Closed(CloseReason::Requested { acknowledged: true })
    );
    assert!(pair.broker.is_over(pair.key));
    pair.broker.handle_disconnect(pair.key, Instant::EPOCH);
    assert_eq!(pair.broker.queue_len("/", "hello"), Some(0));
    assert!(pair.broker.connections().is_empty());
}
