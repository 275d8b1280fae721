//! What the stories of the channel machine share: methods in few words, and how a connection ends over a violation.

use amqp_proto::wire::*;
use amqp_proto::{Channel, ChannelId, CloseReason, ConfirmTag, ConsumerId, Delivery, Event};

use crate::peer::Peer;

pub(crate) fn short(text: &str) -> ShortStr<'_> {
    ShortStr::new(text).unwrap()
}

pub(crate) fn deliver(consumer_tag: &str, delivery_tag: u64) -> BasicDeliver<'_> {
    BasicDeliver {
        consumer_tag: short(consumer_tag),
        delivery_tag,
        redelivered: false,
        exchange: short("x"),
        routing_key: short("k"),
    }
}

pub(crate) fn get_ok(delivery_tag: u64) -> BasicGetOk<'static> {
    BasicGetOk {
        delivery_tag,
        redelivered: true,
        exchange: short("x"),
        routing_key: short("k"),
        message_count: 3,
    }
}

pub(crate) fn returned(routing_key: &str) -> BasicReturn<'_> {
    BasicReturn {
        reply_code: ReplyCode::NO_ROUTE,
        reply_text: short("NO_ROUTE"),
        exchange: short("x"),
        routing_key: short(routing_key),
    }
}

/// The broker's close of a channel, because of a `queue.declare`.
pub(crate) fn close_406() -> ChannelClose<'static> {
    ChannelClose {
        reply_code: ReplyCode::PRECONDITION_FAILED,
        reply_text: short("PRECONDITION_FAILED - unequal"),
        class_id: 50,
        method_id: 10,
    }
}

/// The delivery that an event is.
#[track_caller]
pub(crate) fn delivery(event: Event) -> Delivery {
    match event {
        Event::Delivery(delivery) => delivery,
        other => panic!("{other:?}"),
    }
}

impl Peer {
    /// An open channel, to command it.
    #[track_caller]
    pub(crate) fn channel(&mut self, id: ChannelId) -> Channel<'_> {
        self.connection.channel(id).unwrap()
    }

    /// A consumer that is there.
    pub(crate) fn consume(&mut self, id: ChannelId, tag: &str, no_ack: bool) -> ConsumerId {
        let consume = BasicConsume {
            queue: short("q"),
            consumer_tag: short(tag),
            no_ack,
            ..BasicConsume::default()
        };
        let (consumer, _) = self.channel(id).consume(&consume).unwrap();
        self.send(
            id.number(),
            BasicConsumeOk {
                consumer_tag: short(tag),
            },
        );
        assert!(matches!(self.event(), Event::Reply(_)));
        self.sent();
        consumer
    }

    /// Puts a channel into confirm mode.
    pub(crate) fn select_confirms(&mut self, id: ChannelId) {
        self.channel(id).request(&ConfirmSelect::default()).unwrap();
        self.send(id.number(), ConfirmSelectOk {});
        assert!(matches!(self.event(), Event::Reply(_)));
        self.sent();
    }

    /// Publishes a mandatory message to the exchange "x".
    #[track_caller]
    pub(crate) fn publish(&mut self, id: ChannelId, routing_key: &str, body: &[u8]) -> Option<ConfirmTag> {
        let publish = BasicPublish {
            exchange: short("x"),
            routing_key: short(routing_key),
            mandatory: true,
            ..BasicPublish::default()
        };
        let properties = Properties::default();
        self.channel(id).publish(&publish, &properties, body).unwrap()
    }

    /// The connection ends, because the peer broke the protocol: what it is told.
    #[track_caller]
    pub(crate) fn violation(&mut self) -> String {
        let mut events = self.events();
        let Some(Event::Closed(CloseReason::Protocol(error))) = events.pop() else {
            panic!("it goes on: {events:?}");
        };
        let code = error.reply_code().0;
        let sent = self.sent();
        let close = sent.last().map(String::as_str).unwrap_or_default();
        assert!(
            close.starts_with("ch 0 connection.close ") && close.contains(&code.to_string()),
            "{sent:?}"
        );
        format!("{code} {}", error.problem)
    }

    /// The other end acknowledged nothing and heard nothing: no event, and not an octet.
    #[track_caller]
    pub(crate) fn assert_quiet(&mut self) {
        assert_eq!(self.events(), []);
        assert_eq!(self.sent(), [""; 0]);
    }
}
