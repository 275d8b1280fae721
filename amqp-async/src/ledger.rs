//! What became of all publishes of a channel, for whoever asks about many at once.

use std::collections::{BTreeMap, VecDeque};

use amqp_proto::{ChannelId, ConfirmOutcome, ConfirmTag, ConfirmTags, Returned};

use crate::batch::BatchReport;

/// How many failures are kept for whoever asks later.
const MOST_FAILURES: usize = 1024;

/// How many octets of returned messages are kept for whoever asks later.
const MOST_OCTETS: usize = 1 << 20;

/// What is settled, and what failed. Publishes are numbered from 1, over all lives of the channel.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    /// The last publish.
    published: u64,
    /// Up to this one all are settled.
    settled: u64,
    /// Those behind that are settled too, from each first one to its last.
    ahead: BTreeMap<u64, u64>,
    /// Up to this one somebody has asked about all.
    asked: u64,
    /// What came back and is not settled.
    returned: BTreeMap<u64, Box<Returned>>,
    /// In the order in which they were settled.
    failures: VecDeque<Failure>,
    /// Of the messages in both.
    octets: usize,
    /// Failures that there was no room for: from the first publish to the last, and how many.
    forgotten: Option<(u64, u64, u64)>,
    waits: BTreeMap<u64, Wait>,
    next_wait: u64,
}

/// Publishes in a row that failed in the same way.
#[derive(Debug, Clone)]
struct Failure {
    tags: ConfirmTags,
    outcome: ConfirmOutcome,
    /// The message that came back, of a single publish.
    returned: Option<Box<Returned>>,
}

/// Somebody who asked about some publishes.
#[derive(Debug)]
pub(crate) struct Wait {
    tags: ConfirmTags,
    /// How many of them are not settled.
    open: u64,
    failures: Vec<Failure>,
    /// How many failed of which no more is known.
    unlisted: u64,
}

impl Ledger {
    /// A message was published. Gives its number.
    #[inline]
    pub(crate) const fn publish(&mut self) -> u64 {
        self.published += 1;
        self.published
    }

    /// How many were published.
    pub(crate) const fn published(&self) -> u64 {
        self.published
    }

    /// A message came back; that it is settled follows.
    pub(crate) fn returned(&mut self, tag: ConfirmTag, message: &Returned) {
        let is_asked_for = self.waits.values().any(|wait| wait.tags.contains(tag));
        let octets = octets(message);
        self.make_room(octets);
        if is_asked_for || self.octets.saturating_add(octets) <= MOST_OCTETS {
            let mut kept = message.clone();
            // A small message would keep the whole buffer that it came in.
            kept.message = message.message.detach();
            self.octets += octets;
            // One that was published again may come back again.
            let before = self.returned.insert(tag.value(), Box::new(kept));
            self.octets -= before.as_deref().map_or(0, self::octets);
        }
    }

    /// The broker told of these.
    #[inline]
    pub(crate) fn confirmed(&mut self, tags: ConfirmTags, outcome: &ConfirmOutcome) {
        self.settle(tags.first(), tags.last());
        for wait in self.waits.values_mut() {
            let settled = wait.overlap(tags).map_or(0, ConfirmTags::count);
            wait.open = wait.open.saturating_sub(settled);
        }
        if *outcome != ConfirmOutcome::Acked || !self.returned.is_empty() {
            self.note_failures(tags, outcome);
        }
    }

    fn settle(&mut self, first: u64, last: u64) {
        if first != self.settled + 1 {
            self.ahead.insert(first, last);
            return;
        }
        self.settled = last;
        while let Some(entry) = self.ahead.first_entry()
            && *entry.key() == self.settled + 1
        {
            self.settled = entry.remove();
        }
    }

    #[cold]
    fn note_failures(&mut self, tags: ConfirmTags, outcome: &ConfirmOutcome) {
        let mut messages = self.returned.split_off(&tags.first());
        self.returned.append(&mut messages.split_off(&(tags.last() + 1)));
        if *outcome != ConfirmOutcome::Returned {
            self.octets -= messages.values().map(|message| octets(message)).sum::<usize>();
            if *outcome != ConfirmOutcome::Acked {
                let outcome = outcome.clone();
                self.note_failure(Failure {
                    tags,
                    outcome,
                    returned: None,
                });
            }
            return;
        }
        for tag in tags.iter() {
            let number = tag.value();
            let tags = ConfirmTags::new(tag.channel(), number, number);
            match messages.remove(&number) {
                Some(message) => self.note_failure(Failure {
                    tags,
                    outcome: outcome.clone(),
                    returned: Some(message),
                }),
                None => {
                    for wait in self.waits.values_mut() {
                        wait.unlisted += wait.overlap(tags).map_or(0, ConfirmTags::count);
                    }
                    self.forget(tags);
                }
            }
        }
    }

    fn note_failure(&mut self, failure: Failure) {
        for wait in self.waits.values_mut() {
            wait.note(&failure);
        }
        self.failures.push_back(failure);
        self.make_room(0);
    }

    /// Forgets the oldest failures until there is room for so many octets more.
    fn make_room(&mut self, octets: usize) {
        let is_full = |ledger: &Self| {
            let octets = ledger.octets.saturating_add(octets);
            ledger.failures.len() > MOST_FAILURES || octets > MOST_OCTETS
        };
        while is_full(self)
            && let Some(oldest) = self.failures.pop_front()
        {
            self.octets -= oldest.returned.as_deref().map_or(0, self::octets);
            self.forget(oldest.tags);
        }
    }

    /// There is no room for these, or no message.
    fn forget(&mut self, tags: ConfirmTags) {
        let (first, last, count) = self.forgotten.unwrap_or_else(|| (tags.first(), tags.last(), 0));
        let (first, last) = (first.min(tags.first()), last.max(tags.last()));
        self.forgotten = Some((first, last, count + tags.count()));
    }

    /// All publishes so far that are not settled, or that were settled since somebody asked last; none if there are none.
    pub(crate) fn ask_about_all(&mut self, channel: ChannelId) -> Option<u64> {
        let first = self.asked.min(self.settled) + 1;
        self.asked = self.published;
        self.ask(ConfirmTags::new(channel, first, self.published))
    }

    /// Asks about these, as far as they are published; none if none of them is.
    pub(crate) fn ask(&mut self, tags: ConfirmTags) -> Option<u64> {
        let (first, last) = (tags.first().max(1), tags.last().min(self.published));
        if first > last {
            return None;
        }
        let mut wait = Wait {
            tags: ConfirmTags::new(tags.channel(), first, last),
            open: 0,
            failures: Vec::new(),
            unlisted: 0,
        };
        wait.open = wait.tags.count() - self.settled_among(wait.tags);
        if let Some((first, last, count)) = self.forgotten {
            let forgotten = ConfirmTags::new(tags.channel(), first, last);
            let among = wait.overlap(forgotten).map_or(0, ConfirmTags::count);
            wait.unlisted = among.min(count);
        }
        for failure in &self.failures {
            wait.note(failure);
        }
        self.next_wait += 1;
        self.waits.insert(self.next_wait, wait);
        Some(self.next_wait)
    }

    fn settled_among(&self, tags: ConfirmTags) -> u64 {
        let count = |(first, last): (u64, u64)| {
            let (first, last) = (first.max(tags.first()), last.min(tags.last()));
            (last + 1).saturating_sub(first)
        };
        let ahead = self.ahead.iter().map(|(first, last)| (*first, *last));
        ahead.chain([(1, self.settled)]).map(count).sum()
    }

    /// Whether all that was asked about is settled.
    pub(crate) fn is_answered(&self, wait: u64) -> bool {
        self.waits.get(&wait).is_none_or(|wait| wait.open == 0)
    }

    /// Asks no more.
    pub(crate) fn take(&mut self, wait: u64) -> Option<Wait> {
        self.waits.remove(&wait)
    }

    /// How many wait.
    pub(crate) fn len(&self) -> usize {
        self.waits.len()
    }
}

impl Wait {
    fn overlap(&self, tags: ConfirmTags) -> Option<ConfirmTags> {
        let (first, last) = (
            self.tags.first().max(tags.first()),
            self.tags.last().min(tags.last()),
        );
        let is_some = first <= last && self.tags.channel() == tags.channel();
        is_some.then(|| ConfirmTags::new(tags.channel(), first, last))
    }

    fn note(&mut self, failure: &Failure) {
        if let Some(tags) = self.overlap(failure.tags) {
            let failure = failure.clone();
            self.failures.push(Failure { tags, ..failure });
        }
    }

    pub(crate) fn report(mut self) -> BatchReport {
        self.failures.sort_by_key(|failure| failure.tags.first());
        let mut report = BatchReport::default();
        let failed: u64 = self.failures.iter().map(|failure| failure.tags.count()).sum();
        let (unsettled, unlisted) = (self.open, self.unlisted.min(self.tags.count() - failed));
        for failure in self.failures {
            report.note(failure.tags, &failure.outcome, failure.returned);
        }
        let confirmed = self.tags.count().saturating_sub(failed + unsettled + unlisted);
        let number = |count: u64| usize::try_from(count).unwrap_or(usize::MAX);
        report.confirmed = number(confirmed);
        report.unlisted = number(unlisted);
        report.unsettled = number(unsettled);
        report
    }
}

/// What a returned message takes, roughly.
fn octets(returned: &Returned) -> usize {
    returned.message.body_len() + 512
}

#[cfg(test)]
mod tests {
    use super::*;
    use amqp_testbroker::Random;

    const CHANNEL: ChannelId = ChannelId::new(1, 7);

    /// What was asked, and which of the publishes were settled then.
    struct Question {
        wait: u64,
        first: u64,
        last: u64,
    }

    /// Every third publish is nacked.
    fn outcome(number: u64) -> ConfirmOutcome {
        match number.is_multiple_of(3) {
            true => ConfirmOutcome::Nacked,
            false => ConfirmOutcome::Acked,
        }
    }

    fn check(ledger: &mut Ledger, question: &Question, settled: &[u64]) -> bool {
        let open = (question.first..=question.last).filter(|number| !settled.contains(number));
        assert_eq!(ledger.is_answered(question.wait), open.clone().next().is_none());
        if !ledger.is_answered(question.wait) {
            return false;
        }
        let report = ledger.take(question.wait).unwrap().report();
        let mut found: Vec<_> = report.nacked.iter().map(|tag| tag.value()).collect();
        found.sort_unstable();
        let expected = (question.first..=question.last).filter(|number| number.is_multiple_of(3));
        assert_eq!(found, expected.collect::<Vec<_>>());
        let count = question.last - question.first + 1;
        assert_eq!((report.confirmed + found.len()) as u64, count);
        true
    }

    #[test]
    fn whatever_the_order_every_question_is_answered_when_its_publishes_are_settled() {
        for seed in 1..200 {
            let mut random = Random::new(seed);
            let mut ledger = Ledger::default();
            let (mut published, mut open, mut settled) = (0, Vec::new(), Vec::new());
            let mut questions: Vec<Question> = Vec::new();
            for _ in 0..200 {
                match random.up_to(3) {
                    0 | 1 => {
                        published += 1;
                        assert_eq!(ledger.publish(), published);
                        open.push(published);
                    }
                    2 if !open.is_empty() => {
                        let place = random.up_to(open.len() as u64 - 1);
                        let number = open.remove(usize::try_from(place).unwrap());
                        settled.push(number);
                        ledger.confirmed(ConfirmTags::new(CHANNEL, number, number), &outcome(number));
                    }
                    _ => {
                        let first = random.up_to(published + 1);
                        let last = first + random.up_to(20);
                        let asked = ledger.ask(ConfirmTags::new(CHANNEL, first, last));
                        let (first, last) = (first.max(1), last.min(published));
                        assert_eq!(asked.is_some(), first <= last);
                        questions.extend(asked.map(|wait| Question { wait, first, last }));
                    }
                }
                questions.retain(|question| !check(&mut ledger, question, &settled));
            }
            for number in open {
                settled.push(number);
                ledger.confirmed(ConfirmTags::new(CHANNEL, number, number), &outcome(number));
            }
            questions.retain(|question| !check(&mut ledger, question, &settled));
            assert!(questions.is_empty() && ledger.len() == 0 && ledger.ahead.is_empty());
            assert_eq!(ledger.settled, published);
        }
    }
}
