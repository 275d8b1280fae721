//! What became of every message and of every consumer.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use amqp_async::{ConnectionEvent, RecoveryReport};
use amqp_proto::Message;

/// The header that says how often a message was published before.
pub(crate) const ATTEMPT: &str = "attempt";

/// A consumer to which nothing comes for so long is told of at once.
const NOTABLE: Duration = Duration::from_secs(1);

/// Messages are numbers from 0; the one after the last is published when all of them are confirmed, and ends the drill once all
/// of them have been consumed.
#[derive(Debug)]
pub(crate) struct Record {
    messages: usize,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    published: Vec<Published>,
    /// How often each was delivered.
    delivered: Vec<u32>,
    progress: Progress,
    figures: Figures,
    /// Delivered again without being marked as redelivered or as published again.
    unmarked: BTreeSet<usize>,
    has_ended: bool,
}

#[derive(Debug, Clone, Copy, Default)]
struct Published {
    /// How often.
    attempts: u32,
    is_confirmed: bool,
}

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Progress {
    pub(crate) confirmed: usize,
    /// At least once.
    pub(crate) consumed: usize,
}

#[derive(Debug, Default)]
struct Figures {
    lost: usize,
    refused: usize,
    unsent: usize,
    /// Further deliveries that are marked as redelivered.
    redelivered: usize,
    /// Further deliveries of what was published again.
    repeated: usize,
    /// Deliveries that could not be settled because their connection was lost.
    stale: usize,
    outages: usize,
    /// The longest.
    recovery: Duration,
    /// The longest that was waited for on purpose within one of them.
    backoff: Duration,
    /// The longest of a consumer between two deliveries.
    gap: Duration,
    /// What no program can live with.
    failures: Vec<String>,
}

/// What to publish again, or that there is no need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    Nothing,
    Publish(usize),
    /// Everything is confirmed.
    End,
}

impl Record {
    pub(crate) fn new(messages: usize) -> Self {
        let state = State {
            published: vec![Published::default(); messages + 1],
            delivered: vec![0; messages + 1],
            progress: Progress::default(),
            figures: Figures::default(),
            unmarked: BTreeSet::new(),
            has_ended: false,
        };
        Self {
            messages,
            state: Mutex::new(state),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many messages there are, without the one that ends the drill.
    pub(crate) const fn messages(&self) -> usize {
        self.messages
    }

    pub(crate) fn progress(&self) -> Progress {
        self.state().progress
    }

    /// Whether everything was consumed, or something failed.
    pub(crate) fn has_ended(&self) -> bool {
        self.state().has_ended
    }

    /// Something that no program can live with. It ends the drill.
    pub(crate) fn fail(&self, failure: String) {
        eprintln!("drill: {failure}");
        let mut state = self.state();
        state.figures.failures.push(failure);
        state.has_ended = true;
    }

    /// The message is about to be published: says how often it was before.
    pub(crate) fn publishing(&self, number: usize) -> u32 {
        let mut state = self.state();
        let attempts = &mut state.published[number].attempts;
        *attempts += 1;
        *attempts - 1
    }

    /// The broker has it.
    pub(crate) fn confirmed(&self, number: usize) -> Next {
        let mut state = self.state();
        state.published[number].is_confirmed = true;
        if number == self.messages {
            return Next::End;
        }
        state.progress.confirmed += 1;
        if state.progress.confirmed == self.messages {
            Next::Publish(self.messages)
        } else {
            Next::Nothing
        }
    }

    /// Nobody knows whether the broker has it.
    pub(crate) fn lost(&self, number: usize) -> Next {
        self.state().figures.lost += 1;
        Next::Publish(number)
    }

    /// The broker does not take it.
    pub(crate) fn refused(&self, number: usize, why: &dyn Display) -> Next {
        let mut state = self.state();
        state.figures.refused += 1;
        // A broker without a leader refuses thousands.
        if state.figures.refused == 1 {
            eprintln!("drill: message {number} is the first that is refused: {why}");
        }
        Next::Publish(number)
    }

    /// It was not sent, whatever [`publishing`](Self::publishing) was told.
    pub(crate) fn unsent(&self, number: usize, why: &dyn Display) {
        eprintln!("drill: message {number} is not sent: {why}");
        let mut state = self.state();
        state.figures.unsent += 1;
        state.published[number].attempts -= 1;
    }

    fn delivered(&self, number: usize, is_redelivered: bool, is_published_again: bool) {
        let mut state = self.state();
        let Some(delivered) = state.delivered.get_mut(number) else {
            drop(state);
            return self.fail(format!("there is no message {number}"));
        };
        *delivered += 1;
        if *delivered > 1 {
            if is_redelivered {
                state.figures.redelivered += 1;
            } else if is_published_again {
                state.figures.repeated += 1;
            } else {
                state.unmarked.insert(number);
            }
        } else if number < self.messages {
            state.progress.consumed += 1;
        }
        if state.delivered[self.messages] > 0 && state.progress.consumed == self.messages {
            state.has_ended = true;
        }
    }

    /// A delivery could not be settled.
    pub(crate) fn stale(&self) {
        self.state().figures.stale += 1;
    }

    /// A connection is there again after so long, of which it waited so long on purpose.
    pub(crate) fn recovered(&self, after: Duration, backoff: Duration) {
        let mut state = self.state();
        state.figures.outages += 1;
        state.figures.recovery = state.figures.recovery.max(after);
        state.figures.backoff = state.figures.backoff.max(backoff);
    }

    fn gap(&self, consumer: &str, gap: Duration) {
        if gap > NOTABLE {
            eprintln!("drill: {consumer}: nothing came for {gap:?}");
        }
        let mut state = self.state();
        state.figures.gap = state.figures.gap.max(gap);
    }

    /// Lines of a name and a value.
    pub(crate) fn figures(&self) -> impl Display {
        self.state().lines()
    }
}

impl State {
    fn lines(&self) -> String {
        let messages = self.published.iter().rev().skip(1);
        let sent = messages.filter(|published| published.attempts > 0);
        let again = |published: &Published| published.attempts.saturating_sub(1);
        let republished: u32 = self.published.iter().map(again).sum();
        let pairs = self.published.iter().zip(&self.delivered);
        let missing = pairs.filter(|(published, delivered)| published.is_confirmed && **delivered == 0);
        let is_again = |number: &&usize| self.published[**number].attempts > 1;
        let explained = self.unmarked.iter().filter(is_again).count();
        let figures = &self.figures;
        let lines = [
            ("sent", sent.count()),
            // It was told as it grew, but not to the end.
            ("confirmed", self.progress.confirmed),
            ("lost", figures.lost),
            ("refused", figures.refused),
            ("unsent", figures.unsent),
            ("republished", republished as usize),
            ("consumed", self.progress.consumed),
            ("missing", missing.count()),
            ("redelivered", figures.redelivered),
            ("repeated", figures.repeated + explained),
            ("unexplained", self.unmarked.len() - explained),
            ("stale", figures.stale),
            ("outages", figures.outages),
            ("recovery", millis(figures.recovery)),
            ("backoff", millis(figures.backoff)),
            ("gap", millis(figures.gap)),
            ("failures", figures.failures.len()),
        ];
        let line = |(name, value)| format!("{name} {value}\n");
        lines.into_iter().map(line).collect()
    }
}

fn millis(duration: Duration) -> usize {
    usize::try_from(duration.as_millis()).unwrap_or(usize::MAX)
}

/// A consumer's deliveries, one after the other.
#[derive(Debug)]
pub(crate) struct Deliveries {
    record: Arc<Record>,
    consumer: &'static str,
    last: Option<Instant>,
}

impl Deliveries {
    pub(crate) const fn new(record: Arc<Record>, consumer: &'static str) -> Self {
        Self {
            record,
            consumer,
            last: None,
        }
    }

    /// The drill has ended; that nothing came until then counts as well.
    pub(crate) fn end(&self) {
        if let Some(last) = self.last {
            self.record.gap(self.consumer, last.elapsed());
        }
    }

    /// Notes one.
    pub(crate) fn add(&mut self, message: &Message, is_redelivered: bool) {
        let now = Instant::now();
        if let Some(last) = self.last.replace(now) {
            self.record.gap(self.consumer, now - last);
        }
        match number(message) {
            Some(number) => {
                let headers = message.properties().headers.unwrap_or_default();
                let is_published_again = headers.get(ATTEMPT).is_ok_and(|value| value.is_some());
                self.record.delivered(number, is_redelivered, is_published_again);
            }
            None => self.record.fail("a message without its number".into()),
        }
    }
}

/// Which one it is: its id and its body say the same, or it is not ours.
fn number(message: &Message) -> Option<usize> {
    let id: usize = message.properties().message_id?.to_str().ok()?.parse().ok()?;
    let body: usize = std::str::from_utf8(&message.body()).ok()?.parse().ok()?;
    (id == body).then_some(id)
}

/// The message of that number, published `before` times before.
pub(crate) fn message(number: usize, before: u32, octets: usize) -> amqp_async::Message {
    let message = amqp_async::Message::new(format!("{number:0octets$}")).persistent();
    let message = message.message_id(number.to_string());
    match before {
        0 => message,
        before => message.header(ATTEMPT, before),
    }
}

/// The events of one connection, for those who read along.
#[derive(Debug)]
pub(crate) struct Outages {
    record: Arc<Record>,
    name: &'static str,
    since: Option<Instant>,
    backoff: Duration,
}

impl Outages {
    pub(crate) const fn new(record: Arc<Record>, name: &'static str) -> Self {
        Self {
            record,
            name,
            since: None,
            backoff: Duration::ZERO,
        }
    }

    /// Notes what a handle's connection tells.
    pub(crate) fn add(&mut self, event: &ConnectionEvent) {
        match event {
            ConnectionEvent::Lost { reason } => self.lost(reason),
            ConnectionEvent::Retrying { delay, .. } => self.retrying(*delay),
            ConnectionEvent::Recovered(report) => self.restored(report),
            ConnectionEvent::GaveUp(reason) => self.gave_up(reason),
            _ => {}
        }
    }

    /// If this is not the first reason, it was not there meanwhile.
    pub(crate) fn lost(&mut self, reason: &dyn Display) {
        self.since.get_or_insert_with(Instant::now);
        self.say(&format_args!("lost: {reason}"));
    }

    /// It waits for so long, and tries again.
    pub(crate) fn retrying(&mut self, delay: Duration) {
        self.backoff += delay;
        self.say(&format_args!("retrying in {delay:?}"));
    }

    /// It is there again, and all that was on it.
    pub(crate) fn restored(&mut self, report: &RecoveryReport) {
        if let Some(since) = self.since.take() {
            let after = since.elapsed();
            self.record.recovered(after, mem::take(&mut self.backoff));
            self.say(&format_args!("recovered after {after:?}"));
        }
        for step in &report.unrestored {
            self.record.fail(format!("{}: not restored: {step:?}", self.name));
        }
    }

    /// It does not come back.
    pub(crate) fn gave_up(&self, reason: &dyn Display) {
        self.record.fail(format!("{} gave up: {reason}", self.name));
    }

    fn say(&self, text: &dyn Display) {
        eprintln!("drill: {}: {text}", self.name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(record: &Record, name: &str) -> String {
        let lines = record.figures().to_string();
        let mut values = lines
            .lines()
            .filter_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        values.next().expect("it is one of them").to_owned()
    }

    #[test]
    fn a_duplicate_is_explained_by_a_mark_or_by_a_second_publish() {
        let record = Record::new(4);
        for number in [0, 1, 2, 3, 2] {
            record.publishing(number);
        }
        for number in 0..4 {
            record.delivered(number, false, false);
        }
        record.delivered(0, true, false);
        record.delivered(1, false, true);
        // The copy with the header came first.
        record.delivered(2, false, false);
        record.delivered(3, false, false);
        assert_eq!(figure(&record, "redelivered"), "1");
        assert_eq!(figure(&record, "repeated"), "2");
        assert_eq!(figure(&record, "unexplained"), "1");
        assert_eq!(figure(&record, "consumed"), "4");
        assert_eq!(figure(&record, "republished"), "1");
    }

    #[test]
    fn what_is_confirmed_and_never_comes_is_missing() {
        let record = Record::new(3);
        for number in 0..3 {
            assert_eq!(record.publishing(number), 0);
        }
        assert_eq!(record.confirmed(0), Next::Nothing);
        assert_eq!(record.confirmed(1), Next::Nothing);
        assert_eq!(record.lost(2), Next::Publish(2));
        assert_eq!(record.publishing(2), 1);
        record.delivered(1, false, false);
        record.delivered(2, false, false);
        assert_eq!(figure(&record, "missing"), "1");
        // Then the message that ends it, which is no figure.
        assert_eq!(record.confirmed(2), Next::Publish(3));
        record.publishing(3);
        assert_eq!(record.confirmed(3), Next::End);
        record.delivered(3, false, false);
        assert!(!record.has_ended());
        record.delivered(0, false, false);
        assert!(record.has_ended());
        assert_eq!(figure(&record, "missing"), "0");
        assert_eq!(figure(&record, "sent"), "3");
        assert_eq!(figure(&record, "confirmed"), "3");
    }

    #[test]
    fn what_nobody_has_sent_is_a_failure() {
        let record = Record::new(3);
        record.delivered(4, false, false);
        assert_eq!(figure(&record, "failures"), "1");
    }
}
