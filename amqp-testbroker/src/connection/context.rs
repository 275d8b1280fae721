//! What a channel's method may touch beyond its channel.

use std::sync::Arc;
use std::time::Duration;

use amqp_proto::Instant;
use amqp_proto::wire::{Arguments, ExchangeDeclare, ReplyCode, ShortStr};

use super::Session;
use super::output::Output;
use crate::broker::{Common, ConnectionKey};
use crate::config::{Permissions, Release};
use crate::refusal::Refusal;
use crate::vhost::{ConsumerKey, Name, VirtualHost};

pub(super) struct Context<'a> {
    pub(super) now: Instant,
    pub(super) connection: ConnectionKey,
    pub(super) number: u16,
    pub(super) session: &'a Session,
    pub(super) frame_max: u32,
    pub(super) output: &'a mut Output,
    pub(super) common: &'a mut Common,
}

/// A kind of operation that is permitted or not.
#[derive(Debug, Clone, Copy)]
pub(super) enum Operation {
    Configure,
    Write,
    Read,
}

impl Context<'_> {
    /// The virtual host that the connection is in.
    pub(super) fn host(&mut self) -> &mut VirtualHost {
        let (name, release) = (&self.session.host, self.common.config.release);
        self.common
            .hosts
            .entry(Arc::clone(name))
            .or_insert_with(|| VirtualHost::new(name, release))
    }

    pub(super) const fn release(&self) -> Release {
        self.common.config.release
    }

    /// How long deliveries of that queue may be unsettled.
    pub(super) fn settle_within(&mut self, queue: &[u8]) -> Option<Duration> {
        let limit = self.common.config.consumer_timeout?;
        let has_limit = self.release() == Release::V3_10 || self.host().is_quorum(queue);
        has_limit.then_some(limit)
    }

    /// Says that on the channel.
    pub(super) fn answer(&mut self, method: &impl Arguments) {
        self.output.method(self.number, method);
    }

    /// The same, unless the client does not wait for it.
    pub(super) fn answer_unless(&mut self, no_wait: bool, method: &impl Arguments) {
        if !no_wait {
            self.answer(method);
        }
    }

    /// A consumer of this channel.
    pub(super) const fn consumer(&self, tag: Name) -> ConsumerKey {
        ConsumerKey {
            connection: self.connection,
            channel: self.number,
            tag,
        }
    }

    /// Whether the user may do that with the exchange.
    pub(super) fn check_exchange(&self, operation: Operation, name: &[u8]) -> Result<(), Refusal> {
        let name = if name.is_empty() { b"amq.default" } else { name };
        self.check(operation, "exchange", name)
    }

    /// Whether the user may do that with the queue.
    pub(super) fn check_queue(&self, operation: Operation, name: &[u8]) -> Result<(), Refusal> {
        self.check(operation, "queue", name)
    }

    fn check(&self, operation: Operation, kind: &str, name: &[u8]) -> Result<(), Refusal> {
        let Session {
            user,
            host,
            permissions,
        } = self.session;
        let Permissions {
            configure,
            write,
            read,
            ..
        } = permissions;
        let (access, word) = match operation {
            Operation::Configure => (configure, "configure "),
            Operation::Write => (write, "write "),
            Operation::Read => (read, "read "),
        };
        if access.allows(name) {
            return Ok(());
        }
        let word = match self.release() {
            Release::V3_10 => "",
            Release::V4 => word,
        };
        let name = String::from_utf8_lossy(name);
        let text =
            format_args!("{word}access to {kind} '{name}' in vhost '{host}' refused for user '{user}'");
        Err(Refusal::channel(ReplyCode::ACCESS_REFUSED, text))
    }

    /// Whether there is such an exchange.
    pub(super) fn find_exchange(&mut self, exchange: ShortStr<'_>) -> Result<(), Refusal> {
        if exchange.is_empty() {
            return Ok(());
        }
        self.host().declare_exchange(&ExchangeDeclare {
            exchange,
            passive: true,
            ..Default::default()
        })
    }
}
