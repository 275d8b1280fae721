//! One step of a plan.

use core::fmt;

use super::{BindingRecord, ChannelKey, ConsumerRecord, ExchangeRecord, Name, QueueRecord};
use crate::wire::{BasicQos, ChannelOpen, ConfirmSelect, Method, TxSelect};
use crate::{ChannelCloseReason, CloseReason, RequestError, SendError};

/// One method to send, and where.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    pub(super) id: StepId,
    pub(super) channel: Option<ChannelKey>,
    pub(super) kind: StepKind,
}

/// Which step of its plan it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StepId(pub(super) usize);

/// What a step restores.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum StepKind {
    /// An exchange.
    Exchange(ExchangeRecord),
    /// A binding of an exchange to an exchange.
    ExchangeBinding(BindingRecord),
    /// A queue.
    Queue(QueueRecord),
    /// A binding of a queue.
    QueueBinding(BindingRecord),
    /// The channel itself: to open it is up to the adapter, which gives it a number.
    Channel,
    /// A limit, for the consumers behind it or for the whole channel.
    Qos(BasicQos),
    /// Confirm mode.
    Confirm,
    /// Transactions.
    Transaction,
    /// A consumer.
    Consumer(ConsumerRecord),
}

/// Why a step failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StepError {
    /// It was sent and refused, or not answered.
    #[error("{0}")]
    Request(#[from] RequestError),
    /// It could not be sent.
    #[error("{0}")]
    Send(#[from] SendError),
    /// It was not tried any more: each time before, the peer had ended the connection for it.
    #[error("it ended the connection: {0}")]
    EndedConnection(CloseReason),
}

impl Step {
    /// Which step of its plan it is.
    #[must_use]
    pub const fn id(&self) -> StepId {
        self.id
    }

    /// The channel to send it on; `None` for what belongs to no channel and goes on any.
    ///
    /// A refusal closes the channel, so those go on a channel of the adapter's own.
    #[must_use]
    pub const fn channel(&self) -> Option<ChannelKey> {
        self.channel
    }

    /// What it restores.
    #[must_use]
    pub const fn kind(&self) -> &StepKind {
        &self.kind
    }

    /// Whether its answer names a queue.
    #[must_use]
    pub const fn declares_queue(&self) -> bool {
        matches!(self.kind, StepKind::Queue(_))
    }

    /// What to send.
    #[must_use]
    pub fn method(&self) -> Method<'_> {
        match &self.kind {
            StepKind::Exchange(exchange) => exchange.declare().into(),
            StepKind::ExchangeBinding(binding) | StepKind::QueueBinding(binding) => binding.bind(),
            StepKind::Queue(queue) => queue.declare().into(),
            StepKind::Channel => ChannelOpen::default().into(),
            StepKind::Qos(qos) => (*qos).into(),
            StepKind::Confirm => ConfirmSelect::default().into(),
            StepKind::Transaction => TxSelect::default().into(),
            StepKind::Consumer(consumer) => consumer.consume().into(),
        }
    }

    /// Whether it restores the same, in another plan.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.channel == other.channel && self.kind == other.kind
    }

    /// Follows a queue to its new name.
    pub(super) fn rename_queue(&mut self, old: &Name, new: &Name) {
        match &mut self.kind {
            StepKind::Queue(queue) if queue.name == *old => queue.rename(new),
            StepKind::QueueBinding(binding) => binding.rename_queue(old, new),
            StepKind::Consumer(consumer) => consumer.rename_queue(old, new),
            _ => {}
        }
    }

    /// Whether it needs what another step restores.
    pub(super) fn needs(&self, other: &Self) -> bool {
        match (&self.kind, &other.kind) {
            (
                StepKind::ExchangeBinding(binding) | StepKind::QueueBinding(binding),
                StepKind::Exchange(exchange),
            ) => binding.involves_exchange(&exchange.name),
            (StepKind::QueueBinding(binding), StepKind::Queue(queue)) => binding.is_to_queue(&queue.name),
            (StepKind::Consumer(consumer), StepKind::Queue(queue)) => consumer.queue == queue.name,
            (_, StepKind::Channel) => self.channel == other.channel && self.id != other.id,
            _ => false,
        }
    }

    /// Steps of one stage do not need one another, but for those of a channel, which go in their order.
    pub(super) const fn stage(&self) -> u8 {
        match self.kind {
            StepKind::Exchange(_) => 0,
            StepKind::ExchangeBinding(_) => 1,
            StepKind::Queue(_) => 2,
            StepKind::QueueBinding(_) => 3,
            _ => 4,
        }
    }
}

impl StepError {
    /// Whether it may succeed a while later although nothing is done about it: it was not answered in time, or the node that a queue
    /// lives on is not there ([`PeerClose::is_queue_down`](crate::PeerClose::is_queue_down)).
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Request(RequestError::Timeout) => true,
            Self::Request(RequestError::ChannelClosed(ChannelCloseReason::Peer(peer))) => {
                peer.is_queue_down()
            }
            _ => false,
        }
    }

    /// Whether no step can succeed any more on this connection.
    #[must_use]
    pub const fn is_connection_lost(&self) -> bool {
        matches!(
            self,
            Self::Request(RequestError::ChannelClosed(ChannelCloseReason::Connection(_)))
                | Self::Send(SendError::Closed | SendError::NotConnected)
        )
    }
}

impl fmt::Display for Step {
    /// The method, as one line for a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.method().fmt(f)
    }
}
