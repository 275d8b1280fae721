//! The callbacks of a connection.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use amqp_proto::topology::{Name, RecoveryReport};
use amqp_proto::wire::ReplyCode;
use amqp_proto::{
    ChannelId, CloseReason, CloseReport, Connection, GiveUpReason, RequestError, RequestId, Secret, SendError,
};

use super::callbacks::{CallbackId, Callbacks};
use super::channel::{Answering, ChannelCallbacks, ChannelRef};
use super::context::Ctx;
use super::options::ChannelOptions;
use super::reconnecting::Reconnecting;
use super::recovering::Recovering;
use crate::{ConnectError, CredentialsEvent, MioConnection};

/// A connection of an [`EventLoop`](super::EventLoop).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(pub(super) usize);

/// More waits to be written than pika's rule allows, or no longer (Pika 0.9: TCP back-pressure).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Backpressure {
    /// So many octets wait.
    On {
        /// What waits, in octets.
        queued: usize,
        /// The limit, in octets.
        limit: usize,
    },
    /// Less than half of the limit waits.
    Off {
        /// What waits, in octets.
        queued: usize,
    },
}

pub(super) type OnConnection<S> = Box<dyn FnMut(&mut Ctx<'_, S>, ConnectionId)>;
pub(super) type OnClose<S> = Box<dyn FnMut(&mut Ctx<'_, S>, ConnectionId, &CloseReason)>;
pub(super) type OnReport<S> = Box<dyn FnOnce(&mut Ctx<'_, S>, ConnectionId, &CloseReport)>;
pub(super) type OnOpenError<S> = Box<dyn FnMut(&mut Ctx<'_, S>, ConnectionId, &ConnectError)>;
pub(super) type OnBlocked<S> = Box<dyn FnMut(&mut Ctx<'_, S>, ConnectionId, &str)>;
pub(super) type OnBackpressure<S> = Box<dyn FnMut(&mut Ctx<'_, S>, ConnectionId, Backpressure)>;
pub(super) type OnReconnect<S> = Box<dyn FnMut(&mut Ctx<'_, S>, ConnectionId, Duration)>;
pub(super) type OnCredentials<S> = Box<dyn FnMut(&mut Ctx<'_, S>, ConnectionId, &CredentialsEvent)>;
pub(super) type OnRecovered<S> = Box<dyn FnMut(&mut Ctx<'_, S>, ConnectionId, &RecoveryReport)>;
pub(super) type OnRenamed<S> = Box<dyn FnMut(&mut Ctx<'_, S>, ConnectionId, &Name, &Name)>;
pub(super) type OnGiveUp<S> = Box<dyn FnMut(&mut Ctx<'_, S>, ConnectionId, &GiveUpReason)>;

/// Called with what came of a shutdown.
pub(super) struct Reports<S>(pub(super) Vec<OnReport<S>>);

impl<S> fmt::Debug for Reports<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} callbacks", self.0.len())
    }
}

/// A connection and its callbacks.
#[derive(Debug)]
pub(super) struct Entry<S> {
    pub(super) connection: MioConnection,
    /// If it is made again when it is lost.
    pub(super) reconnecting: Option<Box<Reconnecting>>,
    /// If what was on it is made again too.
    pub(super) recovering: Option<Box<Recovering>>,
    pub(super) on_open: Callbacks<OnConnection<S>>,
    pub(super) on_open_error: Callbacks<OnOpenError<S>>,
    pub(super) on_close: Callbacks<OnClose<S>>,
    pub(super) on_blocked: Callbacks<OnBlocked<S>>,
    pub(super) on_unblocked: Callbacks<OnConnection<S>>,
    pub(super) on_writable: Callbacks<OnConnection<S>>,
    pub(super) on_backpressure: Callbacks<OnBackpressure<S>>,
    pub(super) on_credentials: Callbacks<OnCredentials<S>>,
    pub(super) on_reconnect: Callbacks<OnReconnect<S>>,
    pub(super) on_lost: Callbacks<OnClose<S>>,
    pub(super) on_queue_renamed: Callbacks<OnRenamed<S>>,
    pub(super) on_recovered: Callbacks<OnRecovered<S>>,
    pub(super) on_give_up: Callbacks<OnGiveUp<S>>,
    /// Who has shut it down.
    pub(super) on_report: Reports<S>,
    pub(super) channels: HashMap<ChannelId, ChannelCallbacks<S>>,
    pub(super) requests: HashMap<RequestId, Answering<S>>,
}

impl<S> Entry<S> {
    pub(super) fn new(
        connection: MioConnection,
        reconnecting: Option<Box<Reconnecting>>,
        recovering: Option<Box<Recovering>>,
    ) -> Self {
        Self {
            connection,
            reconnecting,
            recovering,
            on_open: Callbacks::new(),
            on_open_error: Callbacks::new(),
            on_close: Callbacks::new(),
            on_blocked: Callbacks::new(),
            on_unblocked: Callbacks::new(),
            on_writable: Callbacks::new(),
            on_backpressure: Callbacks::new(),
            on_credentials: Callbacks::new(),
            on_reconnect: Callbacks::new(),
            on_lost: Callbacks::new(),
            on_queue_renamed: Callbacks::new(),
            on_recovered: Callbacks::new(),
            on_give_up: Callbacks::new(),
            on_report: Reports(Vec::new()),
            channels: HashMap::new(),
            requests: HashMap::new(),
        }
    }

    /// How long it may still take until it is made again, before that is given up.
    pub(super) fn time_left(&self) -> Option<Duration> {
        let reconnecting = self.reconnecting.as_ref()?;
        reconnecting.time_left().filter(|_| !self.connection.is_leaving())
    }

    /// Whether it is to be recovered, and is not.
    pub(super) fn is_lost(&self) -> bool {
        self.recovering
            .as_ref()
            .is_some_and(|recovering| recovering.is_lost())
    }
}

/// A connection, to do something with it and to add callbacks.
#[derive(Debug)]
pub struct ConnectionView<'a, S> {
    id: ConnectionId,
    entry: &'a mut Entry<S>,
}

impl<'a, S> ConnectionView<'a, S> {
    pub(super) const fn new(id: ConnectionId, entry: &'a mut Entry<S>) -> Self {
        Self { id, entry }
    }

    /// Its name.
    #[must_use]
    pub const fn id(&self) -> ConnectionId {
        self.id
    }

    /// The core's connection, to ask it for things; `None` while there is no stream.
    #[must_use]
    pub fn core(&self) -> Option<&Connection> {
        self.entry.connection.core()
    }

    /// Whether channels can be opened.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.core().is_some_and(Connection::is_open) && !self.is_recovering()
    }

    /// Whether it was lost, and is not there again with [everything](super::Recovery) that was on it.
    #[must_use]
    pub fn is_recovering(&self) -> bool {
        self.entry.is_lost()
    }

    /// Opens a channel with a free number. It can be used at once; `opened` is called when the broker has confirmed it. If it does not, the
    /// channel's close callbacks are.
    ///
    /// # Errors
    /// As [`Connection::open_channel`](amqp_proto::Connection::open_channel).
    pub fn open_channel(
        &mut self,
        opened: impl FnOnce(&mut Ctx<'_, S>, ChannelRef) + 'static,
    ) -> Result<ChannelRef, SendError> {
        self.open_channel_with(&ChannelOptions::default(), opened)
    }

    /// Opens the channel with that number.
    ///
    /// # Errors
    /// As [`Connection::open_channel_with_number`](amqp_proto::Connection::open_channel_with_number).
    pub fn open_channel_with_number(
        &mut self,
        number: u16,
        opened: impl FnOnce(&mut Ctx<'_, S>, ChannelRef) + 'static,
    ) -> Result<ChannelRef, SendError> {
        self.open_channel_with(&ChannelOptions::default().number(number), opened)
    }

    /// Opens a channel as these options say.
    ///
    /// # Errors
    /// As [`open_channel`](Self::open_channel), or with a number as [`open_channel_with_number`](Self::open_channel_with_number).
    pub fn open_channel_with(
        &mut self,
        options: &ChannelOptions,
        opened: impl FnOnce(&mut Ctx<'_, S>, ChannelRef) + 'static,
    ) -> Result<ChannelRef, SendError> {
        if self.is_recovering() {
            return Err(SendError::NotConnected);
        }
        let connection = &mut self.entry.connection;
        let id = match options.number {
            None => connection.open_channel()?,
            Some(number) => connection.open_channel_with_number(number)?,
        };
        options.apply(&mut connection.channel(id)?)?;
        let mut callbacks = ChannelCallbacks::new(id, options.clone(), Box::new(opened));
        let recovering = self.entry.recovering.as_mut();
        callbacks.kept = recovering.and_then(|recovering| recovering.keep(id, &options.on_loss));
        self.entry.channels.insert(id, callbacks);
        Ok(ChannelRef::new(self.id, id))
    }

    /// Renews a token before it expires (RabbitMQ page "OAuth 2"); `answered` is called when the broker has taken it. One that is refused ends
    /// the connection (530).
    ///
    /// # Errors
    /// As [`Connection::update_secret`].
    pub fn update_secret(
        &mut self,
        new_secret: &Secret,
        reason: &str,
        answered: impl FnOnce(&mut Ctx<'_, S>, ConnectionId, Result<(), RequestError>) + 'static,
    ) -> Result<(), SendError> {
        let request = self.entry.connection.update_secret(new_secret, reason)?;
        let id = self.id;
        let answering = Answering::new(move |ctx, answer| answered(ctx, id, answer.map(drop)));
        self.entry.requests.insert(request.untyped(), answering);
        Ok(())
    }

    /// Closes it: cancels consumers, closes channels, then itself. The close callbacks are called when the broker has confirmed that, or in
    /// [`Config::close_timeout`](amqp_proto::Config::close_timeout). It is not made [again](Ctx::connect_with), however it ends.
    pub fn close(&mut self, code: ReplyCode, text: &str) {
        // The broker may close it or be lost before this is through.
        self.entry.reconnecting = None;
        self.entry.connection.close(code, text);
    }

    /// Finishes what is under way, then closes it, all within `timeout`: consumers are cancelled, so that their callbacks are not called any
    /// more; what was delivered is settled; the broker confirms what was published; then as [`close`](Self::close). `done` is called with
    /// what was abandoned, after the close callbacks. It is not made [again](Ctx::connect_with), however it ends.
    ///
    /// All else can be used meanwhile, but no new consumers ([`SendError::ShuttingDown`]). Half of the time, or of
    /// [`Config::close_timeout`](amqp_proto::Config::close_timeout) if that is less, is kept for the close. A `close` meanwhile does not wait
    /// any longer.
    pub fn shutdown(
        &mut self,
        timeout: Duration,
        done: impl FnOnce(&mut Ctx<'_, S>, ConnectionId, &CloseReport) + 'static,
    ) {
        self.entry.connection.shutdown(timeout);
        self.entry.on_report.0.push(Box::new(done));
    }

    /// Called when it is open; each time, if it is made [again](Ctx::connect_with), but once if it is
    /// [recovered](Self::on_recovered).
    pub fn on_open(&mut self, call: impl FnMut(&mut Ctx<'_, S>, ConnectionId) + 'static) -> CallbackId {
        self.entry.on_open.add(Box::new(call))
    }

    /// Called when no broker was reached. The connection is gone then, unless it is made [again](Ctx::connect_with).
    pub fn on_open_error(
        &mut self,
        call: impl FnMut(&mut Ctx<'_, S>, ConnectionId, &ConnectError) + 'static,
    ) -> CallbackId {
        self.entry.on_open_error.add(Box::new(call))
    }

    /// Called when it is closed, after the callbacks of all that it takes with it. The connection is gone then, unless it is made
    /// [again](Ctx::connect_with). One that is recovered is [lost](Self::on_lost) before, and closed when it is given up.
    pub fn on_close(
        &mut self,
        call: impl FnMut(&mut Ctx<'_, S>, ConnectionId, &CloseReason) + 'static,
    ) -> CallbackId {
        self.entry.on_close.add(Box::new(call))
    }

    /// Called with its words when the broker reads nothing more (RabbitMQ page "Blocked Connection Notifications").
    pub fn on_blocked(
        &mut self,
        call: impl FnMut(&mut Ctx<'_, S>, ConnectionId, &str) + 'static,
    ) -> CallbackId {
        self.entry.on_blocked.add(Box::new(call))
    }

    /// Called when the broker reads again.
    pub fn on_unblocked(&mut self, call: impl FnMut(&mut Ctx<'_, S>, ConnectionId) + 'static) -> CallbackId {
        self.entry.on_unblocked.add(Box::new(call))
    }

    /// Called when there is room again after [`SendError::Full`].
    pub fn on_writable(&mut self, call: impl FnMut(&mut Ctx<'_, S>, ConnectionId) + 'static) -> CallbackId {
        self.entry.on_writable.add(Box::new(call))
    }

    /// Called when more waits to be written than pika's rule allows, and when that is over.
    pub fn on_backpressure(
        &mut self,
        call: impl FnMut(&mut Ctx<'_, S>, ConnectionId, Backpressure) + 'static,
    ) -> CallbackId {
        self.entry.on_backpressure.add(Box::new(call))
    }

    /// Called with what became of its secret, if a [provider](crate::Connector::credentials_source) renews it.
    pub fn on_credentials(
        &mut self,
        call: impl FnMut(&mut Ctx<'_, S>, ConnectionId, &CredentialsEvent) + 'static,
    ) -> CallbackId {
        self.entry.on_credentials.add(Box::new(call))
    }

    /// Called when it is to be made [again](Ctx::connect_with), with the delay before that; it can still be closed then.
    pub fn on_reconnect(
        &mut self,
        call: impl FnMut(&mut Ctx<'_, S>, ConnectionId, Duration) + 'static,
    ) -> CallbackId {
        self.entry.on_reconnect.add(Box::new(call))
    }

    /// Called when it is lost and to be [recovered](Ctx::connect_recovering), after the callbacks of requests and publishes that were under
    /// way; not again before it has been recovered.
    pub fn on_lost(
        &mut self,
        call: impl FnMut(&mut Ctx<'_, S>, ConnectionId, &CloseReason) + 'static,
    ) -> CallbackId {
        self.entry.on_lost.add(Box::new(call))
    }

    /// Called when it was [recovered](Ctx::connect_recovering): with the name that a queue had when it was lost, and the one that the broker
    /// gave it now. For each such queue, just before [`on_recovered`](Self::on_recovered). Bindings and consumers follow by themselves.
    pub fn on_queue_renamed(
        &mut self,
        call: impl FnMut(&mut Ctx<'_, S>, ConnectionId, &Name, &Name) + 'static,
    ) -> CallbackId {
        self.entry.on_queue_renamed.add(Box::new(call))
    }

    /// Called when everything is there again that was on a [lost](Ctx::connect_recovering) connection, but what the report lists: go on with
    /// what was refused meanwhile. The connection is not blocked now, and has room.
    pub fn on_recovered(
        &mut self,
        call: impl FnMut(&mut Ctx<'_, S>, ConnectionId, &RecoveryReport) + 'static,
    ) -> CallbackId {
        self.entry.on_recovered.add(Box::new(call))
    }

    /// Called when it is not to be made [again](Ctx::connect_with) any more, though nobody has closed it. The connection is gone then.
    pub fn on_give_up(
        &mut self,
        call: impl FnMut(&mut Ctx<'_, S>, ConnectionId, &GiveUpReason) + 'static,
    ) -> CallbackId {
        self.entry.on_give_up.add(Box::new(call))
    }

    /// Another multiplier than [`Config::backpressure_multiplier`](amqp_proto::Config::backpressure_multiplier), for this life of the
    /// connection.
    pub fn set_backpressure_multiplier(&mut self, multiplier: u32) {
        self.entry.connection.set_backpressure_multiplier(multiplier);
    }

    /// Forgets a callback of this connection; says whether there was one.
    pub fn remove_callback(&mut self, id: CallbackId) -> bool {
        let entry = &mut *self.entry;
        entry.on_open.remove(id)
            || entry.on_open_error.remove(id)
            || entry.on_close.remove(id)
            || entry.on_blocked.remove(id)
            || entry.on_unblocked.remove(id)
            || entry.on_writable.remove(id)
            || entry.on_backpressure.remove(id)
            || entry.on_credentials.remove(id)
            || entry.on_reconnect.remove(id)
            || entry.on_lost.remove(id)
            || entry.on_queue_renamed.remove(id)
            || entry.on_recovered.remove(id)
            || entry.on_give_up.remove(id)
    }
}
