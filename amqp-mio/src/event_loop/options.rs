//! How a channel of a loop is to be.

use std::time::Duration;

use amqp_proto::{AckCoalescing, Channel, ConfirmLimits, OnLoss, Republish, SendError};

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
    /// What becomes of publishes that are not confirmed when the connection is lost and [recovered](super::Recovery). On any other
    /// connection they are lost. Default: they are [`Lost`](amqp_proto::ConfirmOutcome::Lost).
    pub on_loss: OnLoss,
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

    /// Publishes again, behind a [recovery](super::Recovery), what was published by [`publish`](super::ChannelView::publish) and
    /// [`publish_confirmed`](super::ChannelView::publish_confirmed) on this channel in confirm mode and was not confirmed, in its order
    /// and before anything new: each arrives once or more often. Those that come twice have the same id in a header. Their callbacks
    /// are called once, with the outcome of the last time, and their tags go on over all lives of the channel.
    ///
    /// A publish over the limits, or before all is published again, is refused with [`SendError::InFlight`]: publish it when others are
    /// confirmed. They are [`Lost`](amqp_proto::ConfirmOutcome::Lost) when the channel ends for good, and so is one that the broker
    /// closes the connection for. Nothing may be published by the core's view of this channel.
    ///
    /// ```
    /// use amqp_mio::ChannelOptions;
    /// use amqp_mio::proto::Republish;
    /// let options = ChannelOptions::default().republish(Republish::default());
    /// ```
    #[must_use]
    pub fn republish(mut self, how: Republish) -> Self {
        self.on_loss = OnLoss::Republish(how);
        self
    }

    /// Tells the core what it has to know of a channel that begins.
    pub(super) fn apply(&self, core: &mut Channel<'_>) -> Result<(), SendError> {
        core.set_confirm_limits(self.limits);
        core.set_ack_coalescing(self.ack_coalescing)
    }
}
