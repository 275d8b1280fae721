//! What every client does: the rows of the table.

/// What is done over and over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// Publishing bodies of so many octets, without confirms, until the broker has them all.
    Publish {
        /// The octets of a body.
        size: usize,
    },
    /// Publishing 16 octets each until all are confirmed, so many unconfirmed at most.
    Confirm {
        /// How many may be unconfirmed.
        outstanding: usize,
    },
    /// Consuming 16 octets each.
    Consume {
        /// How they are acknowledged.
        ack: Ack,
    },
    /// Publishing 16 octets and waiting until as many come back, one after the other, on one core with the broker.
    Echo,
    /// Connecting, opening a channel, declaring a queue, closing the connection.
    Connect,
}

/// How a consumer acknowledges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ack {
    /// Not at all: `no-ack`.
    None,
    /// So many at once, with `multiple` if that is more than one; the prefetch is [`PREFETCH`].
    Every(u64),
}

/// A row of the table.
#[derive(Debug)]
pub struct Case {
    /// Its name.
    pub name: &'static str,
    /// What is done.
    pub work: Work,
    /// How often, unless the user says otherwise.
    pub messages: u64,
}

impl Case {
    /// How often that client does it at most: amiquip leaves Nagle's algorithm on and takes 40 ms for each round trip.
    #[must_use]
    pub fn most_messages(&self, peer: &str) -> u64 {
        let has_round_trips = matches!(self.work, Work::Echo | Work::Confirm { outstanding: 1 });
        if has_round_trips && peer == "amiquip" {
            200
        } else {
            u64::MAX
        }
    }

    /// Where broker and client run.
    #[must_use]
    pub const fn placement(&self) -> Placement {
        match self.work {
            Work::Echo => Placement::Shared,
            _ => Placement::Apart,
        }
    }
}

/// Which cores a case is measured on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placement {
    /// The client has one core, as in the design's measurements: its threads wake one another there, and not a core that sleeps.
    Apart,
    /// Broker and client share a core: what is measured is the way between them.
    Shared,
}

/// How many unacknowledged messages a consumer may have.
pub const PREFETCH: u16 = 1000;

/// The octets of a body where the case does not say.
pub const SMALL: usize = 16;

/// The rows of the table.
pub const CASES: [Case; 11] = [
    publish("publish_16", SMALL, 100_000),
    publish("publish_1k", 1024, 100_000),
    publish("publish_64k", 64 * 1024, 8000),
    publish("publish_1m", 1024 * 1024, 500),
    confirm("confirm_1000", 1000, 100_000),
    confirm("confirm_alone", 1, 20_000),
    consume("consume_no_ack", Ack::None),
    consume("consume_ack_each", Ack::Every(1)),
    consume("consume_ack_100", Ack::Every(100)),
    Case {
        name: "rpc_echo",
        work: Work::Echo,
        messages: 2000,
    },
    Case {
        name: "connect",
        work: Work::Connect,
        messages: 500,
    },
];

const fn publish(name: &'static str, size: usize, messages: u64) -> Case {
    Case {
        name,
        work: Work::Publish { size },
        messages,
    }
}

const fn confirm(name: &'static str, outstanding: usize, messages: u64) -> Case {
    Case {
        name,
        work: Work::Confirm { outstanding },
        messages,
    }
}

const fn consume(name: &'static str, ack: Ack) -> Case {
    Case {
        name,
        work: Work::Consume { ack },
        messages: 200_000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_round_trips_of_amiquip_are_few() {
        for case in &CASES {
            let is_few = case.most_messages("amiquip") < case.messages;
            let has_round_trips = ["confirm_alone", "rpc_echo"].contains(&case.name);
            assert_eq!(is_few, has_round_trips, "{}", case.name);
            assert_eq!(case.most_messages("ours"), u64::MAX, "{}", case.name);
        }
    }
}
