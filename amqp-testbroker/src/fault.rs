//! Faults on demand.

use std::fmt;
use std::time::Duration;

use amqp_proto::Instant;
use amqp_proto::wire::{Method, MethodId, ReplyCode};

use crate::broker::{Broker, ConnectionKey};
use crate::refusal::{Refusal, Scope};

/// What is to go wrong.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    refused_connections: u32,
    nacked_publishes: u32,
    pub(crate) confirm_delay: Duration,
    pub(crate) reverses_confirms: bool,
    methods: Option<MethodFaults>,
}

/// What becomes of a method that a broker does not take as it should.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum MethodFault {
    /// Its channel hangs: neither this one nor what comes behind it is heard, but for `channel.close`.
    StallsChannel,
    /// Its channel is closed with that code and text.
    ClosesChannel(ReplyCode, String),
    /// Its connection is closed with that code and text.
    ClosesConnection(ReplyCode, String),
}

/// Says what is wrong with a method.
struct MethodFaults(Box<Judge>);

type Judge = dyn FnMut(&Method<'_>) -> Option<MethodFault> + Send;

impl fmt::Debug for MethodFaults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MethodFaults(..)")
    }
}

impl Faults {
    /// What goes wrong with that method.
    pub(crate) fn of_method(&mut self, method: &Method<'_>) -> Option<MethodFault> {
        (self.methods.as_mut()?.0)(method)
    }

    /// Whether the next connection is refused.
    pub(crate) const fn takes_refusal(&mut self) -> bool {
        take(&mut self.refused_connections)
    }

    /// Whether the next publish is nacked.
    pub(crate) const fn takes_nack(&mut self) -> bool {
        take(&mut self.nacked_publishes)
    }
}

/// Counts down; says whether there was one left.
const fn take(left: &mut u32) -> bool {
    let is_left = *left > 0;
    *left = left.saturating_sub(1);
    is_left
}

impl Broker {
    /// The next so many connections are hung up as soon as they are accepted.
    pub const fn refuse_connections(&mut self, count: u32) {
        self.common.faults.refused_connections = count;
    }

    /// The next so many publishes on channels in confirm mode are dropped and nacked.
    pub const fn nack_publishes(&mut self, count: u32) {
        self.common.faults.nacked_publishes = count;
    }

    /// From now on publishes are confirmed so much later.
    pub const fn delay_confirms(&mut self, delay: Duration) {
        self.common.faults.confirm_delay = delay;
    }

    /// Whether confirms that are due together are said one by one, the last publish first.
    pub const fn reverse_confirms(&mut self, is_reversed: bool) {
        self.common.faults.reverses_confirms = is_reversed;
    }

    /// From now on `fault` says of each method on a channel, but for `channel.close`, what goes wrong with it.
    pub fn fail_methods(&mut self, fault: impl FnMut(&Method<'_>) -> Option<MethodFault> + Send + 'static) {
        self.common.faults.methods = Some(MethodFaults(Box::new(fault)));
    }

    /// Ends a consumer, and tells it so if it can be told, as if its queue were gone. `false` if there is none.
    pub fn cancel_consumer(
        &mut self,
        connection: ConnectionKey,
        now: Instant,
        channel: u16,
        tag: &str,
    ) -> bool {
        self.update(connection, now, |connection, common| {
            connection.cancel_consumer(common, now, channel, tag.as_bytes())
        })
        .unwrap_or(false)
    }

    /// Closes a channel with that code and text. `false` if it is not open.
    pub fn close_channel(
        &mut self,
        connection: ConnectionKey,
        now: Instant,
        channel: u16,
        code: ReplyCode,
        text: &str,
    ) -> bool {
        let refusal = refusal(code, text, Scope::Channel);
        self.update(connection, now, |connection, common| {
            connection.close_channel(common, now, channel, &refusal)
        })
        .unwrap_or(false)
    }

    /// Closes a connection with that code and text; one that is not open yet falls silent. `false` if it is over.
    pub fn close_connection(
        &mut self,
        connection: ConnectionKey,
        now: Instant,
        code: ReplyCode,
        text: &str,
    ) -> bool {
        let refusal = refusal(code, text, Scope::Connection);
        self.update(connection, now, |connection, common| {
            let is_there = !connection.is_over();
            if is_there {
                connection.fail(common, now, &refusal, MethodId::default());
            }
            is_there
        })
        .unwrap_or(false)
    }

    /// Whether it says nothing any more, not even heartbeats. It goes on reading.
    pub fn set_mute(&mut self, connection: ConnectionKey, now: Instant, is_mute: bool) {
        self.update(connection, now, |connection, _| connection.is_mute = is_mute);
    }

    /// Whether it reads nothing any more. It goes on writing.
    pub fn set_deaf(&mut self, connection: ConnectionKey, now: Instant, is_deaf: bool) {
        self.update(connection, now, |connection, _| connection.set_deaf(now, is_deaf));
    }

    /// Breaks the stream off as soon as so many more octets were handed over to be written, or more, since what is handed over
    /// is whole.
    pub fn hang_up_after(&mut self, connection: ConnectionKey, now: Instant, octets: usize) {
        self.update(connection, now, |connection, _| {
            connection.hang_up_after = Some(octets)
        });
    }
}

impl MethodFault {
    /// What comes of the method.
    pub(crate) fn into_result(self) -> Result<(), Refusal> {
        match self {
            Self::StallsChannel => Ok(()),
            Self::ClosesChannel(code, text) => Err(refusal(code, &text, Scope::Channel)),
            Self::ClosesConnection(code, text) => Err(refusal(code, &text, Scope::Connection)),
        }
    }
}

fn refusal(code: ReplyCode, text: &str, scope: Scope) -> Refusal {
    Refusal {
        code,
        text: text.to_owned(),
        scope,
    }
}
