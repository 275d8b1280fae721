//! Confirms and returns through a whole connection, in every order that a broker may send them in.

use std::collections::BTreeMap;

use amqp_proto::wire::*;
use amqp_proto::{ChannelId, ConfirmOutcome, Event};
use proptest::prelude::*;

use super::transcript::{ack, content_with, nack};
use crate::peer::Peer;

/// What is published, and what the broker makes of it.
#[derive(Debug, Clone, Copy)]
struct Plan {
    /// Of few keys, so that many are alike.
    key: usize,
    mandatory: bool,
    /// The key leads to a queue, when the broker comes to this publish.
    is_routed: bool,
}

impl Plan {
    fn routing_key(self) -> ShortStr<'static> {
        ["a", "b", "c"][self.key].try_into().unwrap()
    }
}

#[derive(Debug, Clone)]
enum Step {
    Publish,
    /// The broker comes to the next publish, and returns it if it must.
    Route,
    /// Confirms one that it came to, or all up to it.
    Confirm {
        which: prop::sample::Index,
        multiple: bool,
        nack: bool,
    },
}

/// The broker, as naive as can be, and the client.
struct Session {
    peer: Peer,
    channel: ChannelId,
    plans: Vec<Plan>,
    /// The header frames of what was published, in order: what comes back has the same properties.
    headers: Vec<Vec<u8>>,
    routed: usize,
    /// What was returned, and is not confirmed.
    returned: Vec<u64>,
    expected: BTreeMap<u64, ConfirmOutcome>,
    told: BTreeMap<u64, ConfirmOutcome>,
}

impl Session {
    fn new(plans: Vec<Plan>, number_publishes: bool) -> Self {
        let mut peer = Peer::open();
        let channel = peer.open_channel();
        let mut view = peer.connection.channel(channel).unwrap();
        view.send_nowait(&ConfirmSelect::default()).unwrap();
        view.number_publishes(number_publishes);
        peer.sent();
        Self {
            peer,
            channel,
            plans,
            headers: Vec::new(),
            routed: 0,
            returned: Vec::new(),
            expected: BTreeMap::new(),
            told: BTreeMap::new(),
        }
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Publish => self.publish(),
            Step::Route => self.route(),
            Step::Confirm {
                which,
                multiple,
                nack,
            } if self.routed > 0 => self.confirm(which.index(self.routed), *multiple, *nack),
            Step::Confirm { .. } => {}
        }
        for event in self.peer.events() {
            match event {
                Event::Confirmed { tags, outcome } => {
                    for tag in tags.iter() {
                        assert_eq!(
                            self.told.insert(tag.value(), outcome.clone()),
                            None,
                            "{tag:?} twice"
                        );
                    }
                }
                Event::Returned(returned) => {
                    let tag = returned.tag.map(|tag| tag.value());
                    assert_eq!(tag, self.returned.last().copied());
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(self.told, self.expected);
    }

    fn publish(&mut self) {
        let Some(plan) = self.plans.get(self.headers.len()) else {
            return;
        };
        let publish = BasicPublish {
            routing_key: plan.routing_key(),
            mandatory: plan.mandatory,
            ..Default::default()
        };
        let mut view = self.peer.connection.channel(self.channel).unwrap();
        let tag = view.publish(&publish, &Properties::default(), &b"x"[..]).unwrap();
        let octets = self.peer.sent_octets();
        let limits = FrameLimits::default();
        let method = RawFrame::parse(&octets, &limits).unwrap().unwrap();
        let header = RawFrame::parse(&octets[method.size()..], &limits)
            .unwrap()
            .unwrap();
        self.headers.push(header.payload.to_vec());
        assert_eq!(tag.map(|tag| tag.value()), Some(self.headers.len() as u64));
    }

    fn route(&mut self) {
        if self.routed == self.headers.len() {
            return;
        }
        let plan = self.plans[self.routed];
        self.routed += 1;
        if plan.mandatory && !plan.is_routed {
            self.returned.push(self.routed as u64);
            let method = BasicReturn {
                routing_key: plan.routing_key(),
                ..Default::default()
            };
            let header = ContentHeader::decode(&self.headers[self.routed - 1]).unwrap();
            let frames = content_with(self.channel.number(), method, header.properties, b"x");
            self.peer.send_octets(&frames.concat());
        }
    }

    fn confirm(&mut self, index: usize, multiple: bool, is_nack: bool) {
        let tag = index as u64 + 1;
        let first = if multiple { 1 } else { tag };
        for tag in first..=tag {
            let outcome = match is_nack {
                true => ConfirmOutcome::Nacked,
                false if self.returned.contains(&tag) => ConfirmOutcome::Returned,
                false => ConfirmOutcome::Acked,
            };
            self.expected.entry(tag).or_insert(outcome);
        }
        let number = self.channel.number();
        match is_nack {
            true => self.peer.send(
                number,
                BasicNack {
                    multiple,
                    ..nack(tag)
                },
            ),
            false => self.peer.send(number, ack(tag, multiple)),
        }
    }

    /// The rest is lost, and nothing else is.
    fn cut_off(mut self) {
        self.peer.connection.handle_disconnect(self.peer.now, None);
        for event in self.peer.events() {
            if let Event::Confirmed { tags, outcome } = event {
                assert!(matches!(outcome, ConfirmOutcome::Lost(_)), "{outcome:?}");
                for tag in tags.iter() {
                    assert_eq!(
                        self.told.insert(tag.value(), outcome.clone()),
                        None,
                        "{tag:?} twice"
                    );
                }
            }
        }
        assert_eq!(self.told.len(), self.headers.len());
    }
}

fn plans() -> impl Strategy<Value = Vec<Plan>> {
    let plan = (0..3_usize, any::<bool>(), any::<bool>()).prop_map(|(key, mandatory, is_routed)| Plan {
        key,
        mandatory,
        is_routed,
    });
    prop::collection::vec(plan, 40)
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let confirm = (
        any::<prop::sample::Index>(),
        any::<bool>(),
        prop::bool::weighted(0.2),
    )
        .prop_map(|(which, multiple, nack)| Step::Confirm {
            which,
            multiple,
            nack,
        });
    let step = prop_oneof![4 => Just(Step::Publish), 3 => Just(Step::Route), 2 => confirm];
    prop::collection::vec(step, 1..150)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_publish_has_the_outcome_that_the_broker_gave_it_if_keys_lead_where_they_led(
        mut plans in plans(),
        steps in steps(),
        routed_keys in any::<[bool; 3]>(),
    ) {
        for plan in &mut plans {
            plan.is_routed = routed_keys[plan.key];
        }
        let mut session = Session::new(plans, false);
        steps.iter().for_each(|step| session.step(step));
        session.cut_off();
    }

    #[test]
    fn every_numbered_publish_has_the_outcome_that_the_broker_gave_it_wherever_its_key_leads(
        plans in plans(),
        steps in steps(),
    ) {
        let mut session = Session::new(plans, true);
        steps.iter().for_each(|step| session.step(step));
        session.cut_off();
    }
}
