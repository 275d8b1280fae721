//! Acknowledgements that are joined: whatever is settled, in whatever order and on whatever occasion, the broker is told just that.

use std::collections::BTreeSet;
use std::time::Duration;

use amqp_proto::wire::*;
use amqp_proto::{AckCoalescing, Channel, ChannelId, ConsumerId, DeliveryTag, SendError};
use proptest::prelude::*;

use crate::peer::Peer;
use crate::stage::{deliver, get_ok};

const DELAY: Duration = Duration::from_millis(10);

#[derive(Debug, Clone)]
enum Step {
    /// Something comes to the consumer of that number; to the last one without acknowledgements.
    Deliver(usize),
    /// Something comes that was asked for.
    Get {
        no_ack: bool,
    },
    /// One of what is unsettled.
    Settle(prop::sample::Index, Way),
    /// So many milliseconds.
    Wait(u64),
    Ask,
    Recover,
    Cancel,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Way {
    Ack,
    AckMultiple,
    Nack,
    NackMultiple,
    Reject,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let way = prop_oneof![
        20 => Just(Way::Ack),
        1 => Just(Way::AckMultiple),
        1 => Just(Way::Nack),
        1 => Just(Way::NackMultiple),
        1 => Just(Way::Reject),
    ];
    let step = prop_oneof![
        20 => (0..3_usize).prop_map(Step::Deliver),
        2 => any::<bool>().prop_map(|no_ack| Step::Get { no_ack }),
        20 => (any::<prop::sample::Index>(), way).prop_map(|(index, way)| Step::Settle(index, way)),
        4 => (0..15_u64).prop_map(Step::Wait),
        1 => Just(Step::Ask),
        1 => Just(Step::Recover),
        1 => Just(Step::Cancel),
    ];
    prop::collection::vec(step, 0..120)
}

/// Both ends: what the user did, and what the broker knows.
struct Session {
    peer: Peer,
    id: ChannelId,
    /// The first consumer, until it is cancelled.
    first: Option<ConsumerId>,
    last_tag: u64,
    unsettled: BTreeSet<u64>,
    acked: BTreeSet<u64>,
    refused: BTreeSet<u64>,
    /// By the broker: delivered, and not settled.
    outstanding: BTreeSet<u64>,
    /// What the broker was told.
    told_acked: BTreeSet<u64>,
    told_refused: BTreeSet<u64>,
}

const CONSUMERS: [&str; 3] = ["first", "second", "without"];

impl Session {
    fn new(count: u16, prefetch: u16) -> Self {
        let mut peer = Peer::open();
        let id = peer.open_channel();
        let options = AckCoalescing::new(count, DELAY);
        peer.channel(id).set_ack_coalescing(Some(options)).unwrap();
        let qos = BasicQos {
            prefetch_count: prefetch,
            ..BasicQos::default()
        };
        peer.channel(id).request(&qos).unwrap();
        peer.send(1, BasicQosOk {});
        peer.event();
        let consumers = CONSUMERS.map(|tag| peer.consume(id, tag, tag == "without"));
        Self {
            peer,
            id,
            first: Some(consumers[0]),
            last_tag: 0,
            unsettled: BTreeSet::new(),
            acked: BTreeSet::new(),
            refused: BTreeSet::new(),
            outstanding: BTreeSet::new(),
            told_acked: BTreeSet::new(),
            told_refused: BTreeSet::new(),
        }
    }

    fn channel(&mut self) -> Channel<'_> {
        self.peer.channel(self.id)
    }

    /// A delivery, small or in two frames.
    fn come(&mut self, needs_ack: bool, method: Method<'_>) {
        let body: &[u8] = if self.last_tag.is_multiple_of(2) {
            b"m"
        } else {
            b""
        };
        self.peer.send_content(1, method, body);
        self.peer.event();
        if needs_ack {
            self.unsettled.insert(self.last_tag);
            self.outstanding.insert(self.last_tag);
        }
    }

    fn take(&mut self, step: &Step) -> Result<(), TestCaseError> {
        let mut is_flushed = false;
        match step {
            Step::Deliver(0) if self.first.is_none() => {}
            Step::Deliver(number) => {
                self.last_tag += 1;
                let method = deliver(CONSUMERS[*number], self.last_tag).into();
                self.come(*number != 2, method);
            }
            Step::Get { no_ack } => {
                let get = BasicGet {
                    no_ack: *no_ack,
                    ..BasicGet::default()
                };
                self.channel().get(&get).unwrap();
                self.last_tag += 1;
                let method = get_ok(self.last_tag).into();
                self.come(!no_ack, method);
            }
            Step::Settle(index, way) if !self.unsettled.is_empty() => {
                let tags: Vec<u64> = self.unsettled.iter().copied().collect();
                self.settle(*index.get(&tags), *way).unwrap();
                is_flushed = *way != Way::Ack;
            }
            Step::Settle(..) => {}
            Step::Wait(milliseconds) => {
                let duration = Duration::from_millis(*milliseconds);
                self.peer.advance(duration);
                is_flushed = duration >= DELAY;
            }
            Step::Ask => {
                self.channel().request(&QueuePurge::default()).unwrap();
                self.peer.send(1, QueuePurgeOk::default());
                self.peer.event();
                is_flushed = true;
            }
            Step::Recover => {
                self.channel().request(&BasicRecover { requeue: true }).unwrap();
                self.read()?;
                self.outstanding.clear();
                self.unsettled.clear();
                self.peer.send(1, BasicRecoverOk {});
                self.peer.event();
                is_flushed = true;
            }
            Step::Cancel => {
                if let Some(consumer) = self.first.take() {
                    self.channel().cancel(consumer).unwrap();
                    is_flushed = true;
                    let consumer_tag = ShortStr::new("first").unwrap();
                    self.peer.send(1, BasicCancelOk { consumer_tag });
                    self.peer.event();
                }
            }
        }
        self.read()?;
        if is_flushed {
            prop_assert_eq!(&self.acked, &self.told_acked);
        }
        Ok(())
    }

    fn settle(&mut self, value: u64, way: Way) -> Result<(), SendError> {
        let tag = DeliveryTag::new(self.id, value);
        let is_multiple = matches!(way, Way::AckMultiple | Way::NackMultiple);
        let settled: Vec<u64> = match is_multiple {
            true => self.unsettled.range(..=value).copied().collect(),
            false => vec![value],
        };
        self.unsettled.retain(|tag| !settled.contains(tag));
        let list = match way {
            Way::Ack | Way::AckMultiple => &mut self.acked,
            _ => &mut self.refused,
        };
        list.extend(settled);
        let mut channel = self.channel();
        match way {
            Way::Ack => channel.ack(tag),
            Way::AckMultiple => channel.ack_multiple(tag),
            Way::Nack => channel.nack(tag, true),
            Way::NackMultiple => channel.nack_multiple(tag, true),
            Way::Reject => channel.reject(tag, true),
        }
    }

    /// The broker reads what was written.
    fn read(&mut self) -> Result<(), TestCaseError> {
        for line in self.peer.sent() {
            let mut words = line.split(' ').skip(2);
            let method = words.next().unwrap_or_default().to_owned();
            if !matches!(&*method, "basic.ack" | "basic.nack" | "basic.reject") {
                continue;
            }
            let tag = words.next().and_then(|word| word.strip_prefix("delivery_tag="));
            let tag: u64 = tag.unwrap().parse().unwrap();
            prop_assert!(self.outstanding.contains(&tag), "unknown: {}", line);
            let is_multiple = words.any(|word| word == "multiple");
            let first = if is_multiple { 0 } else { tag };
            let settled: BTreeSet<u64> = self.outstanding.range(first..=tag).copied().collect();
            let (wanted, told) = match &*method {
                "basic.ack" => (&self.acked, &mut self.told_acked),
                _ => (&self.refused, &mut self.told_refused),
            };
            prop_assert!(settled.is_subset(wanted), "not settled by the user: {}", line);
            self.outstanding.retain(|tag| !settled.contains(tag));
            told.extend(settled);
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_the_broker_is_told_is_what_was_settled(
        count in 0..12_u16,
        prefetch in prop_oneof![Just(0), 1..20_u16],
        steps in steps(),
        closes_connection in any::<bool>(),
    ) {
        let mut session = Session::new(count, prefetch);
        let half = if prefetch == 0 { count } else { count.min(prefetch / 2) };
        for step in &steps {
            session.take(step)?;
            let held = session.acked.len() - session.told_acked.len();
            prop_assert!(held < usize::from(half.max(1)), "{} are held back", held);
            prop_assert_eq!(&session.refused, &session.told_refused);
            prop_assert_eq!(session.channel().unsettled(), session.outstanding.len());
        }
        match closes_connection {
            true => session.peer.connection.close(ReplyCode::REPLY_SUCCESS, ""),
            false => session.channel().close(ReplyCode::REPLY_SUCCESS, "").unwrap(),
        }
        session.read()?;
        prop_assert_eq!(&session.acked, &session.told_acked);
        prop_assert_eq!(&session.unsettled, &session.outstanding);
    }
}
