//! A session that uses most of the protocol, as a script and as a client; and a ledger in which each request and each publish
//! is resolved exactly once.

use std::collections::HashMap;

use amqp_proto::wire::*;
use amqp_proto::{ChannelId, Config, Connection, Event, RequestId};
use amqp_testbroker::{CraftedFrame, LinkConfig, Pair, Script, ScriptedPeer};

const BODY: &[u8] = b"a body of some length, so that it can be cut";

/// The server's half: two channels, a queue, a consumer, gets, returns, confirms and a close by the client.
pub(crate) fn script() -> Script {
    let declare_ok = QueueDeclareOk {
        queue: short("tasks"),
        message_count: 1,
        consumer_count: 0,
    };
    let get_ok = BasicGetOk {
        delivery_tag: 1,
        redelivered: false,
        exchange: short(""),
        routing_key: short("tasks"),
        message_count: 0,
    };
    let script = Script::new()
        .handshake()
        .expect("ch 1 channel.open")
        .expect("confirm.select")
        .expect(r#"ch 1 queue.declare queue="tasks""#)
        .send(CraftedFrame::method(1, ChannelOpenOk {}))
        .reply(ConfirmSelectOk {})
        .reply(declare_ok)
        .expect("basic.get")
        .send_all(CraftedFrame::content(1, get_ok, Properties::default(), BODY))
        .expect("basic.ack")
        .expect("basic.get")
        .reply(BasicGetEmpty {});
    consumer(confirms(script))
        .expect("ch 1 basic.cancel")
        .reply(BasicCancelOk {
            consumer_tag: short("eater"),
        })
        .expect("ch 1 channel.close")
        .reply(ChannelCloseOk {})
        .expect("connection.close")
        .reply(ConnectionCloseOk {})
        .hang_up()
}

/// Four publishes: one comes back, two are confirmed in one go, one is refused.
fn confirms(script: Script) -> Script {
    let returned = BasicReturn {
        reply_code: ReplyCode::NO_ROUTE,
        reply_text: short("NO_ROUTE"),
        exchange: short(""),
        routing_key: short("nowhere"),
    };
    script
        .expect_content("basic.publish", BODY)
        .expect_content("basic.publish", BODY)
        .expect_content("basic.publish", BODY)
        .expect_content("basic.publish", BODY)
        .send_all(CraftedFrame::content(1, returned, Properties::default(), BODY))
        .reply(BasicAck {
            delivery_tag: 3,
            multiple: true,
        })
        .reply(BasicNack {
            delivery_tag: 4,
            multiple: false,
            requeue: false,
        })
}

/// A consumer that gets one message and acknowledges it.
fn consumer(script: Script) -> Script {
    let deliver = BasicDeliver {
        consumer_tag: short("eater"),
        delivery_tag: 2,
        redelivered: false,
        exchange: short(""),
        routing_key: short("tasks"),
    };
    script
        .expect("basic.consume")
        .reply(BasicConsumeOk {
            consumer_tag: short("eater"),
        })
        .send_all(CraftedFrame::content(1, deliver, Properties::default(), BODY))
        .expect("basic.ack")
}

pub(crate) fn short(text: &str) -> ShortStr<'_> {
    ShortStr::new(text).unwrap()
}

/// The client's half: gives commands as events come, and keeps account of what is open.
#[derive(Debug, Default)]
pub(crate) struct Session {
    /// What was asked, and how often it was resolved.
    requests: HashMap<RequestId, usize>,
    /// What was published, and how often that was resolved.
    publishes: HashMap<u64, usize>,
    closed: usize,
    /// Events, by their names.
    pub(crate) story: Vec<&'static str>,
}

impl Session {
    /// Runs it to its end.
    #[track_caller]
    pub(crate) fn run(link: LinkConfig) -> (Self, Pair<ScriptedPeer>) {
        let mut session = Self::default();
        // A link with a small window makes events of this, how many depends on the link.
        let config = Config::default().backpressure_multiplier(0);
        let mut pair = Pair::new(config, ScriptedPeer::new(script()), link);
        for _ in 0..100_000 {
            while let Some(event) = pair.client.events.pop_front() {
                session.on_event(&mut pair.client, &event);
            }
            if pair.client.is_over() && pair.client.events.is_empty() {
                return (session, pair);
            }
            pair.step();
        }
        panic!("{session:?} comes to no end");
    }

    /// Exactly one `Closed`, and nothing open or resolved twice.
    #[track_caller]
    pub(crate) fn check(&self) {
        assert_eq!(self.closed, 1, "{:?}", self.story);
        assert_eq!(self.story.last(), Some(&"closed"));
        let resolved = self.requests.values().chain(self.publishes.values());
        for count in resolved {
            assert_eq!(*count, 1, "{self:#?}");
        }
    }

    pub(crate) fn counts(&self) -> (usize, usize) {
        (self.requests.len(), self.publishes.len())
    }

    fn on_event(&mut self, client: &mut Connection, event: &Event) {
        self.story.push(name(event));
        match event {
            Event::Connected => self.begin(client),
            Event::Reply(reply) => {
                self.resolve(reply.request());
                match reply.method() {
                    Some(Method::QueueDeclareOk(_)) => self.get(client, reply.request().channel()),
                    Some(Method::BasicCancelOk(_)) => client.close(ReplyCode::REPLY_SUCCESS, "done"),
                    _ => {}
                }
            }
            Event::RequestFailed { request, .. } => self.resolve(*request),
            Event::Got(got) => {
                self.resolve(got.request.untyped());
                let channel = got.tag.channel();
                if let Ok(mut channel) = client.channel(channel) {
                    channel.ack(got.tag).unwrap();
                }
                self.get(client, channel);
            }
            Event::GetEmpty { request } => {
                self.resolve(request.untyped());
                self.publish(client, request.channel());
            }
            Event::Confirmed { tags, .. } => {
                for tag in tags.iter() {
                    *self.publishes.get_mut(&tag.value()).expect("published") += 1;
                }
                if tags.last() == 4 {
                    self.consume(client, tags.channel());
                }
            }
            Event::Delivery(delivery) => {
                if let Ok(mut channel) = client.channel(delivery.tag.channel()) {
                    channel.ack(delivery.tag).unwrap();
                    let cancel = channel.cancel(delivery.consumer).unwrap();
                    self.requests.insert(cancel.untyped(), 0);
                }
            }
            Event::Closed(_) => self.closed += 1,
            Event::ChannelOpened { .. } | Event::ChannelClosed { .. } | Event::Returned(_) => {}
            other => panic!("{other:?}"),
        }
    }

    fn resolve(&mut self, request: RequestId) {
        *self.requests.get_mut(&request).expect("it was asked") += 1;
    }

    fn begin(&mut self, client: &mut Connection) {
        let Ok(id) = client.open_channel() else {
            return;
        };
        let mut channel = client.channel(id).unwrap();
        let select = channel.request(&ConfirmSelect::default()).unwrap();
        let declare = QueueDeclare {
            queue: short("tasks"),
            ..Default::default()
        };
        let declare = channel.request(&declare).unwrap();
        self.requests.insert(select.untyped(), 0);
        self.requests.insert(declare.untyped(), 0);
    }

    fn get(&mut self, client: &mut Connection, channel: ChannelId) {
        let Ok(mut channel) = client.channel(channel) else {
            return;
        };
        let get = BasicGet {
            queue: short("tasks"),
            ..Default::default()
        };
        let request = channel.get(&get).unwrap();
        self.requests.insert(request.untyped(), 0);
    }

    fn publish(&mut self, client: &mut Connection, channel: ChannelId) {
        let Ok(mut channel) = client.channel(channel) else {
            return;
        };
        for routing_key in ["tasks", "nowhere", "tasks", "tasks"] {
            let publish = BasicPublish {
                routing_key: short(routing_key),
                mandatory: true,
                ..Default::default()
            };
            let tag = channel.publish(&publish, &Properties::default(), BODY).unwrap();
            self.publishes.insert(tag.unwrap().value(), 0);
        }
    }

    fn consume(&mut self, client: &mut Connection, channel: ChannelId) {
        let Ok(mut channel) = client.channel(channel) else {
            return;
        };
        let consume = BasicConsume {
            queue: short("tasks"),
            consumer_tag: short("eater"),
            ..Default::default()
        };
        let (_, request) = channel.consume(&consume).unwrap();
        self.requests.insert(request.untyped(), 0);
    }
}

fn name(event: &Event) -> &'static str {
    match event {
        Event::Connected => "connected",
        Event::ChannelOpened { .. } => "channel opened",
        Event::Reply(_) => "reply",
        Event::RequestFailed { .. } => "request failed",
        Event::Delivery(_) => "delivery",
        Event::Got(_) => "got",
        Event::GetEmpty { .. } => "get empty",
        Event::Returned(_) => "returned",
        Event::Confirmed { .. } => "confirmed",
        Event::ChannelClosed { .. } => "channel closed",
        Event::Closed(_) => "closed",
        _ => "other",
    }
}
