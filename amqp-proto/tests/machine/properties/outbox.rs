//! Publishes that are kept and published again, against a list of what is not settled.

use std::collections::{BTreeMap, BTreeSet};

use amqp_proto::wire::*;
use amqp_proto::{
    ChannelCloseReason, ChannelId, CloseReason, ConfirmLimits, ConfirmOutcome, Event, Outbox, PeerClose,
    Republish, SendError,
};
use bytes::Bytes;
use proptest::prelude::*;
use proptest::sample::Index;

use super::transcript::{ack, nack};
use crate::peer::Peer;

const COUNT: usize = 12;
const OCTETS: usize = 1500;

#[derive(Debug, Clone)]
enum Step {
    Publish {
        size: usize,
        /// It brings a header with an id.
        has_id: bool,
        mandatory: bool,
    },
    Confirm {
        which: Index,
        multiple: bool,
        nack: bool,
    },
    Return(Index),
    /// Another life begins, where so many publishes may be in flight.
    Lose {
        blames_publish: bool,
        in_flight: usize,
    },
}

struct Session {
    peer: Peer,
    channel: ChannelId,
    outbox: Outbox,
    /// What is not settled, in order, with its size.
    kept: BTreeMap<u64, usize>,
    /// Those among them that had ids of their own, and mandatory ones.
    own_ids: BTreeSet<u64>,
    mandatory: BTreeSet<u64>,
    /// What was sent in this life, in order.
    life: Vec<u64>,
    /// What must be sent first in it.
    again: Vec<u64>,
    /// What must be alone in flight.
    suspects: BTreeSet<u64>,
    returned: BTreeSet<u64>,
    last: u64,
}

impl Session {
    fn new() -> Self {
        let limits = ConfirmLimits::default().count(COUNT).octets(OCTETS);
        let mut session = Self {
            peer: Peer::open(),
            channel: ChannelId::new(1, 0),
            outbox: Outbox::new(Republish::default().limits(limits).header("id"), "p"),
            kept: BTreeMap::new(),
            own_ids: BTreeSet::new(),
            mandatory: BTreeSet::new(),
            life: Vec::new(),
            again: Vec::new(),
            suspects: BTreeSet::new(),
            returned: BTreeSet::new(),
            last: 0,
        };
        session.begin_life(usize::MAX);
        session
    }

    fn begin_life(&mut self, in_flight: usize) {
        self.peer = Peer::open();
        self.channel = self.peer.open_channel();
        let mut view = self.peer.connection.channel(self.channel).unwrap();
        view.send_nowait(&ConfirmSelect::default()).unwrap();
        view.set_confirm_limits(ConfirmLimits::default().count(in_flight));
        self.peer.sent();
        self.life.clear();
        self.returned.clear();
        self.again = self.kept.keys().copied().collect();
    }

    /// What was sent in this life and is not settled.
    fn in_flight(&self) -> Vec<u64> {
        let is_kept = |number: &&u64| self.kept.contains_key(number);
        self.life.iter().filter(is_kept).copied().collect()
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Publish {
                size,
                has_id,
                mandatory,
            } => self.publish(size, has_id, mandatory),
            Step::Confirm {
                which,
                multiple,
                nack,
            } if !self.life.is_empty() => self.confirm(which.index(self.life.len()), multiple, nack),
            Step::Return(which) => self.give_back(which),
            Step::Lose {
                blames_publish,
                in_flight,
            } => self.lose(blames_publish, in_flight),
            Step::Confirm { .. } => {}
        }
        self.republish();
        assert_eq!(self.outbox.kept(), self.kept.len());
        assert_eq!(self.outbox.unsent(), self.kept.len() - self.in_flight().len());
        assert!(self.kept.len() <= COUNT);
        let octets = self.outbox.octets();
        assert!(self.kept.len() == 1 || octets <= OCTETS, "{octets}");
        assert!(octets >= self.kept.values().sum::<usize>());
        for (index, number) in self.life.iter().enumerate() {
            let expected = self.kept.contains_key(number).then_some(*number);
            assert_eq!(self.outbox.number(index as u64 + 1), expected);
        }
        assert_eq!(self.outbox.number(self.life.len() as u64 + 1), None);
    }

    fn publish(&mut self, size: usize, has_id: bool, mandatory: bool) {
        let number = self.last + 1;
        let (body, key) = (format!("{number}").repeat(size), number.to_string());
        let id = FieldTable::new().with("id", "my own").unwrap();
        let properties = Properties {
            headers: has_id.then(|| id.as_ref()),
            ..Properties::default()
        };
        let method = BasicPublish {
            routing_key: key.as_str().try_into().unwrap(),
            mandatory,
            ..BasicPublish::default()
        };
        let mut view = self.peer.connection.channel(self.channel).unwrap();
        let body = Bytes::from(body);
        let (len, is_behind) = (body.len(), self.outbox.is_behind());
        match self.outbox.publish(&mut view, &method, &properties, &body) {
            Ok(published) => {
                let tag = published.unwrap().value();
                assert_eq!(self.outbox.number(tag), Some(number));
                assert!(!is_behind && self.again.iter().all(|number| self.life.contains(number)));
                self.last = number;
                self.kept.insert(number, len);
                if has_id {
                    self.own_ids.insert(number);
                }
                if mandatory {
                    self.mandatory.insert(number);
                }
                self.note_sent();
            }
            Err(error) => assert_eq!(error, SendError::InFlight),
        }
    }

    fn republish(&mut self) {
        let mut view = self.peer.connection.channel(self.channel).unwrap();
        let result = self.outbox.republish(&mut view);
        assert!(matches!(result, Ok(()) | Err(SendError::InFlight)), "{result:?}");
        self.note_sent();
        self.suspects.retain(|number| self.kept.contains_key(number));
        let in_flight = self.in_flight();
        match self.suspects.is_empty() {
            true => assert_eq!(self.outbox.is_behind(), result.is_err()),
            false => assert!(self.outbox.is_behind() && in_flight.len() <= 1),
        }
        // Nothing is forgotten: with room for it, all is sent that need not be alone.
        if in_flight.is_empty() {
            assert_eq!(self.outbox.unsent(), 0);
        }
    }

    /// Looks at what was written.
    fn note_sent(&mut self) {
        let octets = self.peer.sent_octets();
        let (mut rest, mut message) = (&octets[..], (0, false));
        while let Some(raw) = RawFrame::parse(rest, &FrameLimits::default()).unwrap() {
            rest = &rest[raw.size()..];
            match raw.decode().unwrap() {
                Frame::Method {
                    method: Method::BasicPublish(method),
                    ..
                } => {
                    message = (
                        method.routing_key.to_str().unwrap().parse().unwrap(),
                        method.mandatory,
                    )
                }
                Frame::Header { header, .. } => {
                    let (number, mandatory) = message;
                    let id = header.properties.headers.unwrap().get("id").unwrap().unwrap();
                    let expected = match self.own_ids.contains(&number) {
                        true => "my own".to_owned(),
                        false => format!("p-{number}"),
                    };
                    assert_eq!(id.as_str(), Some(&*expected));
                    assert_eq!(mandatory, self.mandatory.contains(&number));
                    assert_eq!(header.body_size, self.kept[&number] as u64);
                    assert!(self.life.last() < Some(&number));
                    let place = self.life.len();
                    assert!(self.again.get(place).is_none_or(|expected| *expected == number));
                    self.life.push(number);
                }
                _ => {}
            }
        }
    }

    fn confirm(&mut self, index: usize, multiple: bool, is_nack: bool) {
        let tag = index as u64 + 1;
        let number = self.channel.number();
        let multiple_nack = BasicNack {
            multiple,
            ..nack(tag)
        };
        match is_nack {
            true => self.peer.send(number, multiple_nack),
            false => self.peer.send(number, ack(tag, multiple)),
        }
        let first = if multiple { 0 } else { index };
        let outcome = |number: &u64| match is_nack {
            true => ConfirmOutcome::Nacked,
            false if self.returned.contains(number) => ConfirmOutcome::Returned,
            false => ConfirmOutcome::Acked,
        };
        let settled = self.life[first..=index].iter();
        let settled = settled.filter(|number| self.kept.contains_key(number));
        let expected: BTreeMap<_, _> = settled.map(|number| (*number, outcome(number))).collect();
        let mut told = BTreeMap::new();
        for event in self.peer.events() {
            let Event::Confirmed { tags, outcome } = event else {
                panic!("{event:?}");
            };
            self.outbox.settled(tags, |first, last| {
                told.extend((first..=last).map(|number| (number, outcome.clone())));
            });
        }
        assert_eq!(told, expected);
        self.kept.retain(|number, _| !told.contains_key(number));
    }

    fn give_back(&mut self, which: Index) {
        let in_flight = self.in_flight();
        let can_return = |number: &u64| {
            let is_last = self.returned.last().is_none_or(|last| last < number);
            self.mandatory.contains(number) && is_last
        };
        let candidates: Vec<u64> = in_flight.into_iter().filter(can_return).collect();
        if candidates.is_empty() {
            return;
        }
        let number = *which.get(&candidates);
        let key = number.to_string();
        let method = BasicReturn {
            routing_key: key.as_str().try_into().unwrap(),
            ..BasicReturn::default()
        };
        self.peer.send_content(self.channel.number(), method, b"x");
        let Event::Returned(returned) = self.peer.event() else {
            panic!("no return");
        };
        assert_eq!(self.outbox.number(returned.tag.unwrap().value()), Some(number));
        self.returned.insert(number);
    }

    fn lose(&mut self, blames_publish: bool, in_flight: usize) {
        let sent = self.in_flight();
        let method = blames_publish.then_some(BasicPublish::SPEC.id);
        let peer = PeerClose::new(ReplyCode::NOT_FOUND, "no exchange", method);
        let reason = match self.last.is_multiple_of(2) {
            true => ChannelCloseReason::Peer(peer),
            false => ChannelCloseReason::Connection(CloseReason::Peer(peer)),
        };
        let refused = self.outbox.interrupt(&reason);
        match &sent[..] {
            [only] if blames_publish => {
                assert_eq!(refused, Some(*only));
                self.kept.remove(only);
            }
            _ => {
                assert_eq!(refused, None);
                self.suspects.extend(sent.iter().filter(|_| blames_publish));
            }
        }
        self.begin_life(in_flight);
    }

    fn end(mut self) {
        let mut told = Vec::new();
        self.outbox.end(|first, last| told.extend(first..=last));
        assert_eq!(told, self.kept.into_keys().collect::<Vec<_>>());
        assert_eq!(
            (self.outbox.kept(), self.outbox.octets(), self.outbox.unsent()),
            (0, 0, 0)
        );
        assert!(!self.outbox.is_behind());
    }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let size = prop_oneof![0..3_usize, 0..300_usize];
    let publish = (size, prop::bool::weighted(0.1), any::<bool>());
    let publish = publish.prop_map(|(size, has_id, mandatory)| Step::Publish {
        size,
        has_id,
        mandatory,
    });
    let confirm = (
        any::<Index>(),
        prop::bool::weighted(0.3),
        prop::bool::weighted(0.2),
    );
    let confirm = confirm.prop_map(|(which, multiple, nack)| Step::Confirm {
        which,
        multiple,
        nack,
    });
    let lose = (any::<bool>(), prop_oneof![1..5_usize, Just(usize::MAX)]);
    let lose = lose.prop_map(|(blames_publish, in_flight)| Step::Lose {
        blames_publish,
        in_flight,
    });
    let give_back = any::<Index>().prop_map(Step::Return);
    let step = prop_oneof![8 => publish, 4 => confirm, 2 => give_back, 1 => lose];
    prop::collection::vec(step, 1..150)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_lost_each_publish_is_settled_once_and_published_until_then(steps in steps()) {
        let mut session = Session::new();
        steps.iter().for_each(|step| session.step(step));
        session.end();
    }
}
