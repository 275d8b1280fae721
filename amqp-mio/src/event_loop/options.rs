//! How a channel of a loop is to be.

use std::time::Duration;

use amqp_proto::{AckCoalescing, Channel, ConfirmLimits, SendError};

/// How a channel is opened. A recovered one is as these say again, but for its number.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct ChannelOptions {
    /// Its number; `None`, the default, is the next free one.
    pub number: Option<u16>,
    /// How much may be published in confirm mode before the broker has confirmed what went before; more is refused. Default: no limit
    /// but [`Config::outbound_high_water`](amqp_proto::Config::outbound_high_water).
    pub limits: ConfirmLimits,
    /// Whether acknowledgements of single deliveries are joined, and how. Default: each is said at once.
    pub ack_coalescing: Option<AckCoalescing>,
}

impl ChannelOptions {
    /// Sets [`number`](Self#structfield.number).
    #[must_use]
    pub const fn number(mut self, number: u16) -> Self {
        self.number = Some(number);
        self
    }

    /// Sets [`limits`](Self#structfield.limits).
    #[must_use]
    pub const fn limits(mut self, limits: ConfirmLimits) -> Self {
        self.limits = limits;
        self
    }

    /// What is acknowledged on this channel, in whatever order, is said to the broker in as few `basic.ack`s as possible: when `count`
    /// wait, or half of what the broker may deliver before it is settled (`basic.qos`), and after `delay` at the latest. It is said as
    /// well before anything is refused or asked on the channel, and by [`Channel::flush_acks`]. See [`AckCoalescing`].
    ///
    /// This saves the broker and the network work with many small messages. The price is that more is delivered again if the connection
    /// or the channel is lost: what waited was dealt with here, and the broker does not know.
    ///
    /// ```
    /// use amqp_mio::ChannelOptions;
    /// use std::time::Duration;
    /// let options = ChannelOptions::default().coalesce_acks(100, Duration::from_millis(20));
    /// ```
    #[must_use]
    pub const fn coalesce_acks(mut self, count: u16, delay: Duration) -> Self {
        self.ack_coalescing = Some(AckCoalescing::new(count, delay));
        self
    }

    /// Tells the core what it has to know of a channel that begins.
    pub(super) fn apply(&self, core: &mut Channel<'_>) -> Result<(), SendError> {
        core.set_confirm_limits(self.limits);
        core.set_ack_coalescing(self.ack_coalescing)
    }
}
