//! What must be true of messages: where each one is, or must not be any more.

use std::collections::{BTreeMap, BTreeSet};

use amqp_proto::wire::{Properties, ShortStr};
use amqp_proto::{ChannelId, Message};

use crate::case::QUEUES;
use crate::ledger::{Checked, ensure};

/// The queues whose messages are accounted for to the end: those that live by themselves.
pub(crate) fn lasting() -> impl Iterator<Item = &'static str> {
    QUEUES[..3].iter().map(|kind| kind.name)
}

/// What became of a publish, as far as the program knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Nothing is known: it was not confirmed, or its channel ended.
    Unknown,
    /// The broker has it.
    Taken,
    /// No queue has it.
    Refused,
}

#[derive(Debug)]
struct Letter {
    channel: ChannelId,
    size: usize,
    persistent: bool,
    fate: Fate,
    /// The lasting queues that must have it, if it was taken.
    expected: Vec<String>,
    /// Something was under way that can change where it goes.
    is_uncertain: bool,
    restarts: u64,
}

/// A message in one queue.
type Copy = (u64, String);

#[derive(Debug, Default)]
struct Handling {
    /// In which of the broker's lives it was delivered last.
    delivered: Option<u64>,
    settled: Option<Settled>,
}

/// It was acknowledged, or dropped.
#[derive(Debug, Clone, Copy)]
struct Settled {
    channel: ChannelId,
    /// Something that was asked behind it was answered.
    is_certain: bool,
}

/// All messages of a program. They are numbered from 1 in the order of publishing.
#[derive(Debug, Default)]
pub(crate) struct Mail {
    letters: Vec<Letter>,
    copies: BTreeMap<Copy, Handling>,
    /// Below these numbers, messages of a queue may have been purged, deleted, or lost on the way.
    wiped: BTreeMap<String, u64>,
    /// The last number that came for the first time, of each queue and channel of the publisher.
    arrived: BTreeMap<(String, ChannelId), u64>,
    /// Publishes that are not resolved.
    open: BTreeSet<u64>,
    restarts: u64,
    pub(crate) delivered: u64,
}

/// A message that is to be published.
#[derive(Debug)]
pub(crate) struct Posting {
    pub(crate) channel: ChannelId,
    pub(crate) size: usize,
    pub(crate) persistent: bool,
    pub(crate) expected: Vec<String>,
    pub(crate) is_uncertain: bool,
}

/// How a message came.
#[derive(Debug)]
pub(crate) struct Arrival<'a> {
    pub(crate) queue: &'a str,
    pub(crate) channel: ChannelId,
    pub(crate) redelivered: bool,
    pub(crate) no_ack: bool,
}

/// The body of that message: its octets say where in which message they belong.
pub(crate) fn body(number: u64, size: usize) -> Vec<u8> {
    let seed = usize::try_from(number % 251).unwrap();
    let octet = |place: usize| (seed * 31 + place * 7) % 251;
    (0..size)
        .map(|place| u8::try_from(octet(place)).unwrap())
        .collect()
}

/// The properties of that message.
pub(crate) fn properties(id: &str, persistent: bool) -> Properties<'_> {
    Properties {
        message_id: ShortStr::new(id).ok(),
        delivery_mode: Some(if persistent { 2 } else { 1 }),
        ..Default::default()
    }
}

/// The number of a message; 0 if it has none.
pub(crate) fn number(message: &Message) -> u64 {
    let id = message.properties().message_id;
    id.and_then(|id| id.to_string().parse().ok()).unwrap_or(0)
}

impl Mail {
    /// The number of the next one.
    pub(crate) fn next(&self) -> u64 {
        self.letters.len() as u64 + 1
    }

    pub(crate) fn posted(&mut self, posting: Posting) {
        self.open.insert(self.next());
        self.letters.push(Letter {
            channel: posting.channel,
            size: posting.size,
            persistent: posting.persistent,
            fate: Fate::Unknown,
            expected: posting.expected,
            is_uncertain: posting.is_uncertain,
            restarts: self.restarts,
        });
    }

    pub(crate) fn resolved(&mut self, number: u64, fate: Fate) {
        self.open.remove(&number);
        if let Some(letter) = self.letter_mut(number) {
            letter.fate = fate;
        }
    }

    /// Nothing will be known of that message.
    pub(crate) fn doubt(&mut self, number: u64) {
        if let Some(letter) = self.letter_mut(number) {
            letter.is_uncertain = true;
            letter.fate = Fate::Unknown;
        }
    }

    /// Something was asked that changes where messages go.
    pub(crate) fn doubt_open(&mut self) {
        for number in &self.open {
            if let Some(letter) = self.letters.get_mut(index(*number)) {
                letter.is_uncertain = true;
            }
        }
    }

    /// Nothing is known of that queue from now on.
    pub(crate) fn wipe_for_good(&mut self, queue: &str) {
        self.wiped.insert(queue.to_owned(), u64::MAX);
    }

    /// What was published so far may have gone from that queue.
    pub(crate) fn wipe(&mut self, queue: &str) {
        let next = self.next();
        let below = self.wiped.entry(queue.to_owned()).or_default();
        *below = next.max(*below);
    }

    pub(crate) fn broker_restarted(&mut self) {
        self.restarts += 1;
        self.arrived.clear();
    }

    /// A message came; its number.
    pub(crate) fn arrived(
        &mut self,
        message: &Message,
        arrival: &Arrival<'_>,
        is_channel_there: impl Fn(ChannelId) -> bool,
    ) -> Checked<u64> {
        self.delivered += 1;
        let number = number(message);
        let describe = |what: &str| format!("message {number} {what}; {arrival:?}");
        let Some(letter) = self.letters.get(index(number)) else {
            ensure(false, "what comes was published", || describe("is not known"))?;
            return Ok(0);
        };
        let is_whole =
            message.body_len() == letter.size && message.body()[..] == body(number, letter.size)[..];
        ensure(is_whole, "a message comes as it was published", || {
            describe("is another one")
        })?;
        ensure(
            letter.fate != Fate::Refused,
            "what was refused does not come",
            || describe("was refused"),
        )?;
        let copy = self.copies.entry((number, arrival.queue.to_owned())).or_default();
        if let Some(settled) = copy.settled {
            let may_be_lost = !settled.is_certain && !is_channel_there(settled.channel);
            ensure(may_be_lost, "what was acknowledged does not come again", || {
                describe(&format!("was settled on {}", settled.channel))
            })?;
            copy.settled = None;
        }
        let is_marked = arrival.redelivered || copy.delivered != Some(self.restarts);
        ensure(is_marked, "what comes again says so", || describe("came before"))?;
        copy.delivered = Some(self.restarts);
        if arrival.no_ack {
            copy.settled = Some(Settled {
                channel: arrival.channel,
                is_certain: true,
            });
        }
        let last = self
            .arrived
            .entry((arrival.queue.to_owned(), letter.channel))
            .or_default();
        if !arrival.redelivered {
            ensure(*last < number, "messages come in their order", || {
                describe(&format!("comes behind {last}"))
            })?;
            *last = number;
        }
        Ok(number)
    }

    /// It was acknowledged or dropped on that channel.
    pub(crate) fn settled(&mut self, number: u64, queue: &str, channel: ChannelId) {
        let copy = self.copies.entry((number, queue.to_owned())).or_default();
        copy.settled = Some(Settled {
            channel,
            is_certain: false,
        });
    }

    /// The broker has certainly seen that it was settled.
    pub(crate) fn proved(&mut self, number: u64, queue: &str) {
        let copy = self.copies.get_mut(&(number, queue.to_owned()));
        if let Some(settled) = copy.and_then(|copy| copy.settled.as_mut()) {
            settled.is_certain = true;
        }
    }

    /// What lies in that queue when nobody is connected any more.
    pub(crate) fn check_queue(&self, queue: &str, messages: &[Message]) -> Checked {
        let mut count: BTreeMap<u64, usize> = BTreeMap::new();
        for message in messages {
            *count.entry(number(message)).or_default() += 1;
        }
        for (number, letter) in (1..).zip(&self.letters) {
            let found = count.get(&number).copied().unwrap_or(0);
            let settled = self
                .copies
                .get(&(number, queue.to_owned()))
                .and_then(|copy| copy.settled);
            let describe =
                || format!("message {number} is {found} times in {queue}: {letter:?}, {settled:?}");
            ensure(found <= 1, "no message is there twice", describe)?;
            let is_gone = settled.is_some_and(|settled| settled.is_certain) || letter.fate == Fate::Refused;
            ensure(
                !is_gone || found == 0,
                "what is settled or refused is gone",
                describe,
            )?;
            let must_be_there =
                letter.fate == Fate::Taken && settled.is_none() && self.is_safe(number, letter, queue);
            ensure(
                !must_be_there || found == 1,
                "what was confirmed is in its queue or was delivered",
                describe,
            )?;
        }
        Ok(())
    }

    /// Whether it cannot have gone from that queue without the program.
    fn is_safe(&self, number: u64, letter: &Letter, queue: &str) -> bool {
        let is_durable = QUEUES.iter().any(|kind| kind.name == queue && kind.durable);
        let survives = letter.restarts == self.restarts || letter.persistent && is_durable;
        let is_wiped = self.wiped.get(queue).is_some_and(|below| number < *below);
        let is_expected = letter.expected.iter().any(|expected| expected == queue);
        is_expected && survives && !is_wiped && !letter.is_uncertain
    }

    fn letter_mut(&mut self, number: u64) -> Option<&mut Letter> {
        self.letters.get_mut(index(number))
    }
}

fn index(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX).wrapping_sub(1)
}
