//! Numbers, through the facade `metrics`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use amqp_proto::{ConfirmOutcome, ConfirmTag, ConfirmTags, Counters};
use metrics::{Counter, Gauge, Histogram, Label, Unit, counter, gauge, histogram};

use crate::shared::State;

/// Of one connection, registered once.
#[derive(Clone)]
pub(crate) struct Meters(Arc<Handles>);

struct Handles {
    /// In the order of [`of_core`].
    of_core: [Counter; CORE.len()],
    /// In the order of [`Outcome`].
    settled: [Counter; OUTCOMES.len()],
    unconfirmed: Gauge,
    unsettled: Gauge,
    queued: Gauge,
    confirm_time: Histogram,
}

/// What the core counts, by the names here.
const CORE: [(&str, Unit, &str); 8] = [
    ("amqp_published", Unit::Count, "messages published"),
    (
        "amqp_confirmed",
        Unit::Count,
        "publishes that the broker took over",
    ),
    ("amqp_nacked", Unit::Count, "publishes that the broker refused"),
    (
        "amqp_returned",
        Unit::Count,
        "mandatory publishes that no queue got",
    ),
    (
        "amqp_lost",
        Unit::Count,
        "publishes whose channel ended before the broker said anything",
    ),
    (
        "amqp_delivered",
        Unit::Count,
        "messages that came, to consumers and by basic.get",
    ),
    ("amqp_received_octets", Unit::Bytes, "octets received"),
    ("amqp_sent_octets", Unit::Bytes, "octets handed over for sending"),
];

const OUTCOMES: [&str; 3] = ["ack", "nack", "reject"];

const fn of_core(counters: &Counters) -> [u64; CORE.len()] {
    [
        counters.published,
        counters.acked,
        counters.nacked,
        counters.returned,
        counters.lost,
        counters.delivered.saturating_add(counters.got),
        counters.octets_received,
        counters.octets_sent,
    ]
}

impl Meters {
    pub(crate) fn new(connection_name: Option<&str>) -> Self {
        describe();
        let labels: Vec<Label> = connection_name
            .map(|name| Label::new("connection", name.to_owned()))
            .into_iter()
            .collect();
        let settled = |outcome| {
            let mut labels = labels.clone();
            labels.push(Label::new("outcome", outcome));
            counter!("amqp_settled", labels)
        };
        Self(Arc::new(Handles {
            of_core: CORE.map(|(name, ..)| counter!(name, labels.clone())),
            settled: OUTCOMES.map(settled),
            unconfirmed: gauge!("amqp_unconfirmed", labels.clone()),
            unsettled: gauge!("amqp_unsettled", labels.clone()),
            queued: gauge!("amqp_queued_octets", labels.clone()),
            confirm_time: histogram!("amqp_confirm_seconds", labels),
        }))
    }
}

fn describe() {
    for (name, unit, text) in CORE {
        metrics::describe_counter!(name, unit, text);
    }
    metrics::describe_counter!("amqp_settled", Unit::Count, "deliveries settled, by outcome");
    metrics::describe_gauge!(
        "amqp_unconfirmed",
        Unit::Count,
        "publishes that wait for their confirm"
    );
    metrics::describe_gauge!("amqp_unsettled", Unit::Count, "deliveries taken and not settled");
    metrics::describe_gauge!(
        "amqp_queued_octets",
        Unit::Bytes,
        "octets that wait to be written"
    );
    let text = "from a publish to its confirm, one at a time on each channel";
    metrics::describe_histogram!("amqp_confirm_seconds", Unit::Seconds, text);
}

impl std::fmt::Debug for Meters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Meters")
    }
}

/// What was told of a connection last.
#[derive(Debug, Default)]
pub(crate) struct Told {
    counters: [u64; CORE.len()],
    unconfirmed: u64,
    queued: u64,
}

/// What was measured under the lock.
#[derive(Debug, Default)]
pub(crate) struct Measured {
    counters: [u64; CORE.len()],
    unconfirmed: u64,
    queued: u64,
    confirm_times: Vec<Duration>,
}

impl Measured {
    /// A message was published that will be confirmed.
    pub(crate) fn published(&mut self, sample: &mut Sample, tag: ConfirmTag) {
        self.unconfirmed = self.unconfirmed.saturating_add(1);
        if sample.0.is_none() {
            sample.0 = Some((tag, Instant::now()));
        }
    }

    /// So many more wait for their confirm again.
    pub(crate) fn republished(&mut self, count: usize) {
        let count = u64::try_from(count).unwrap_or(u64::MAX);
        self.unconfirmed = self.unconfirmed.saturating_add(count);
    }

    /// The broker told of these, or will never.
    pub(crate) fn confirmed(
        &mut self,
        sample: Option<&mut Sample>,
        tags: ConfirmTags,
        outcome: &ConfirmOutcome,
    ) {
        self.unconfirmed = self.unconfirmed.saturating_sub(tags.count());
        let Some(Sample(sample)) = sample else {
            return;
        };
        if let Some((_, since)) = sample.take_if(|(tag, _)| tags.contains(*tag))
            && !matches!(outcome, ConfirmOutcome::Lost(_))
        {
            self.confirm_times.push(since.elapsed());
        }
    }

    pub(super) fn take(state: &mut State) -> Self {
        let counters = of_core(&state.counters());
        let noted = &mut state.notes.measured;
        Self {
            counters,
            unconfirmed: noted.unconfirmed,
            queued: u64::try_from(state.connection.queued_bytes()).unwrap_or(u64::MAX),
            confirm_times: std::mem::take(&mut noted.confirm_times),
        }
    }

    pub(super) fn tell(self, meters: &Meters, told: &mut Told) {
        let Meters(handles) = meters;
        let counted = handles
            .of_core
            .iter()
            .zip(self.counters.iter().zip(&told.counters));
        for (counter, (now, before)) in counted {
            if now > before {
                counter.increment(now - before);
            }
        }
        told.counters = self.counters;
        change(&handles.unconfirmed, &mut told.unconfirmed, self.unconfirmed);
        change(&handles.queued, &mut told.queued, self.queued);
        for time in self.confirm_times {
            handles.confirm_time.record(time);
        }
    }
}

impl Told {
    /// The connection is gone: it holds nothing any more.
    pub(crate) fn end(&mut self, meters: &Meters) {
        change(&meters.0.unconfirmed, &mut self.unconfirmed, 0);
        change(&meters.0.queued, &mut self.queued, 0);
    }
}

/// By the difference: connections without a name share a gauge.
fn change(gauge: &Gauge, told: &mut u64, now: u64) {
    let before = std::mem::replace(told, now);
    match now.checked_sub(before) {
        Some(0) => {}
        Some(more) => gauge.increment(float(more)),
        None => gauge.decrement(float(before.saturating_sub(now))),
    }
}

/// What is over 2³² is as good as infinite here.
fn float(count: u64) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

/// The publish of a channel whose confirm is timed, and since when.
#[derive(Debug, Default)]
pub(crate) struct Sample(Option<(ConfirmTag, Instant)>);

/// A delivery in the hands of the program, until it is settled.
#[derive(Debug)]
pub(crate) struct InHand(Option<Meters>);

/// How a delivery was settled.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Outcome {
    Ack,
    Nack,
    Reject,
}

impl InHand {
    /// One that needs no acknowledgement does not count.
    pub(crate) fn new(meters: &Meters, no_ack: bool) -> Self {
        if no_ack {
            return Self(None);
        }
        meters.0.unsettled.increment(1);
        Self(Some(meters.clone()))
    }

    pub(crate) fn settled(&mut self, outcome: Outcome) {
        if let Some(Meters(handles)) = &self.0 {
            let [ack, nack, reject] = &handles.settled;
            let counter = match outcome {
                Outcome::Ack => ack,
                Outcome::Nack => nack,
                Outcome::Reject => reject,
            };
            counter.increment(1);
        }
        self.let_go();
    }

    fn let_go(&mut self) {
        if let Some(Meters(handles)) = self.0.take() {
            handles.unsettled.decrement(1);
        }
    }
}

impl Drop for InHand {
    fn drop(&mut self) {
        self.let_go();
    }
}
