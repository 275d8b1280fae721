//! The client's account of a session: what is open, what was resolved, what the broker must have kept.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use amqp_proto::topology::Topology;
use amqp_proto::{ConfirmOutcome, ConfirmTag, ConfirmTags, Message, Reply, RequestId};
use amqp_testbroker::Broker;

/// What the record is told when a request was answered.
type Record = Box<dyn FnOnce(&mut Topology, &Reply)>;

/// Every request and every publish, with how often it was resolved.
#[derive(Default)]
pub(crate) struct Ledger {
    requests: HashMap<RequestId, usize>,
    publishes: HashMap<ConfirmTag, usize>,
    records: HashMap<RequestId, Record>,
    /// Messages for the queue `tasks`.
    letters: BTreeMap<u32, Letter>,
    letters_by_tag: HashMap<ConfirmTag, u32>,
    pub(crate) topology: Topology,
    pub(crate) closed: usize,
}

/// A message for the queue `tasks`, and what the client knows of it.
#[derive(Debug, Default)]
struct Letter {
    /// Confirmed with an ack.
    is_taken: bool,
    /// Confirmed with a nack.
    is_refused: bool,
    /// It was delivered.
    is_seen: bool,
    /// It was settled for good.
    is_settled: bool,
    /// And the broker has answered something that was asked behind that.
    is_gone: bool,
}

impl Ledger {
    pub(crate) fn asked(&mut self, request: RequestId, record: impl FnOnce(&mut Topology, &Reply) + 'static) {
        assert_eq!(self.requests.insert(request, 0), None);
        self.records.insert(request, Box::new(record));
    }

    pub(crate) fn replied(&mut self, reply: &Reply) {
        self.resolved(reply.request());
        let record = self
            .records
            .remove(&reply.request())
            .expect("not answered before");
        record(&mut self.topology, reply);
    }

    pub(crate) fn resolved(&mut self, request: RequestId) {
        *self.requests.get_mut(&request).expect("it was asked") += 1;
    }

    pub(crate) fn published(&mut self, tag: ConfirmTag) {
        assert_eq!(self.publishes.insert(tag, 0), None);
    }

    pub(crate) fn posted(&mut self, tag: ConfirmTag, letter: u32) {
        self.published(tag);
        self.letters.insert(letter, Letter::default());
        self.letters_by_tag.insert(tag, letter);
    }

    pub(crate) fn confirmed(&mut self, tags: ConfirmTags, outcome: &ConfirmOutcome) {
        for tag in tags.iter() {
            *self.publishes.get_mut(&tag).expect("published") += 1;
            if let Some(letter) = self.letters_by_tag.get(&tag) {
                let letter = self.letters.get_mut(letter).unwrap();
                letter.is_taken = *outcome == ConfirmOutcome::Acked;
                letter.is_refused = *outcome == ConfirmOutcome::Nacked;
            }
        }
    }

    pub(crate) fn saw(&mut self, letter: u32, is_redelivered: bool) {
        let letter = self.letters.get_mut(&letter).expect("posted");
        assert_eq!(is_redelivered, letter.is_seen, "redelivered if delivered before");
        letter.is_seen = true;
    }

    pub(crate) fn settled(&mut self, letter: u32) {
        self.letters.get_mut(&letter).expect("posted").is_settled = true;
    }

    /// All that was asked is answered.
    pub(crate) fn note_quiet(&mut self) {
        for letter in self.letters.values_mut() {
            letter.is_gone = letter.is_settled;
        }
    }

    pub(crate) fn has_open_requests(&self) -> bool {
        self.requests.values().any(|count| *count == 0)
    }

    pub(crate) fn has_open_publishes(&self) -> bool {
        self.publishes.values().any(|count| *count == 0)
    }

    pub(crate) fn was_seen(&self, letter: u32) -> bool {
        self.letters.get(&letter).is_some_and(|letter| letter.is_seen)
    }

    /// How many requests and publishes there were.
    pub(crate) fn counts(&self) -> (usize, usize) {
        (self.requests.len(), self.publishes.len())
    }

    /// All is resolved, once.
    #[track_caller]
    pub(crate) fn check(&self) {
        assert_eq!(self.closed, 1);
        for (request, count) in &self.requests {
            assert_eq!(*count, 1, "{request:?} is resolved once");
        }
        for (tag, count) in &self.publishes {
            assert_eq!(*count, 1, "{tag:?} is resolved once");
        }
    }

    /// The queue has, in their order, what was confirmed and not settled, and nothing that was refused or is settled.
    #[track_caller]
    pub(crate) fn check_letters(&self, broker: &Broker) -> Vec<u32> {
        let messages = broker.messages("/", "tasks").unwrap_or_default();
        let ready: Vec<u32> = messages.iter().map(number).collect();
        assert!(ready.is_sorted_by(|one, next| one < next), "{ready:?}");
        for number in &ready {
            assert!(self.letters.contains_key(number), "{number} was never published");
        }
        for (number, letter) in &self.letters {
            let is_ready = ready.contains(number);
            if letter.is_taken && !letter.is_settled {
                assert!(is_ready, "{number} is lost: {letter:?}");
            }
            if letter.is_refused || letter.is_gone {
                assert!(!is_ready, "{number} is back: {letter:?}");
            }
        }
        ready
    }
}

/// Which letter it is.
pub(crate) fn number(message: &Message) -> u32 {
    let body = message.body();
    std::str::from_utf8(&body).unwrap().parse().unwrap()
}

impl fmt::Debug for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let open = |count: &&usize| **count == 0;
        f.debug_struct("Ledger")
            .field("open_requests", &self.requests.values().filter(open).count())
            .field("open_publishes", &self.publishes.values().filter(open).count())
            .field("letters", &self.letters)
            .finish_non_exhaustive()
    }
}
