//! pika's names.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use amqp_proto::wire::ReplyCode;
use amqp_proto::{CloseReason, CloseReport, SendError};

use crate::{
    Backpressure, CallbackId, ChannelRef, ConnectError, ConnectionId, ConnectionView, Connector, Ctx,
    EventLoop, PollerError,
};

/// pika's `SelectConnection`: a connection that comes with its loop.
///
/// It is an [`EventLoop`] and one of its connections, under pika's names; what it can do, these can do as well. More connections can be
/// opened on the same loop.
///
/// ```no_run
/// use amqp_mio::proto::wire::ReplyCode;
/// use amqp_mio::{Connector, SelectConnection};
///
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let connector = Connector::from_uri("amqp://localhost")?;
///     let mut connection = SelectConnection::new(&connector, (), |_, _| println!("open"))?;
///     connection.ioloop().run()?; // Until something calls `Ctx::stop`, such as a handler of Ctrl-C.
///     connection.close(ReplyCode::REPLY_SUCCESS, "Normal shutdown");
///     connection.ioloop().run()?; // Until it is closed.
///     if let Some(outcome) = connection.outcome() {
///         println!("{}", outcome?);
///     }
///     Ok(())
/// }
/// ```
#[derive(Debug)]
pub struct SelectConnection<S = ()> {
    event_loop: EventLoop<S>,
    connection: ConnectionId,
    outcome: Rc<RefCell<Option<Outcome>>>,
}

type Outcome = Result<CloseReason, ConnectError>;

/// The name of pika's oldest adapter, which its 0.9 kept with the same methods for programs that used it. It is [`SelectConnection`].
pub type AsyncoreConnection<S = ()> = SelectConnection<S>;

/// Why there is no [`SelectConnection`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SelectError {
    /// There is no loop.
    #[error(transparent)]
    Poller(#[from] PollerError),
    /// There is nothing to try. That no broker is reached is told to
    /// [`add_on_open_error_callback`](SelectConnection::add_on_open_error_callback).
    #[error(transparent)]
    Connect(#[from] ConnectError),
}

impl<S: 'static> SelectConnection<S> {
    /// Begins to connect, on a loop of its own with the application's state; `on_open` is called when it is open.
    ///
    /// # Errors
    /// [`SelectError`].
    pub fn new(
        connector: &Connector,
        state: S,
        on_open: impl FnMut(&mut Ctx<'_, S>, ConnectionId) + 'static,
    ) -> Result<Self, SelectError> {
        let mut event_loop = EventLoop::new(state).map_err(PollerError::from)?;
        let connection = event_loop.connect(connector)?;
        let mut select = Self::from_parts(event_loop, connection);
        select.with(|view| view.on_open(on_open));
        Ok(select)
    }

    /// A loop and one of its connections: for another [poller](EventLoop::with_poller), or one that
    /// [connects again](EventLoop::connect_with).
    #[must_use]
    pub fn from_parts(event_loop: EventLoop<S>, connection: ConnectionId) -> Self {
        let mut select = Self {
            event_loop,
            connection,
            outcome: Rc::default(),
        };
        let [closed, failed] = [Rc::clone(&select.outcome), Rc::clone(&select.outcome)];
        select.add_on_close_callback(move |_, _, reason| {
            closed.replace(Some(Ok(reason.clone())));
        });
        select.add_on_open_error_callback(move |_, _, error| {
            failed.replace(Some(Err(error.clone())));
        });
        select
    }

    /// The loop, to be [run](EventLoop::run).
    pub const fn ioloop(&mut self) -> &mut EventLoop<S> {
        &mut self.event_loop
    }

    /// The connection's name on the loop.
    #[must_use]
    pub const fn id(&self) -> ConnectionId {
        self.connection
    }

    /// Whether channels can be opened.
    pub fn is_open(&mut self) -> bool {
        self.with(|view| view.is_open()) == Some(true)
    }

    /// How it ended: closed, for that reason, or without that a broker was reached. `None` if it has not ended.
    ///
    /// # Errors
    /// What was tried, and why it failed.
    #[must_use]
    pub fn outcome(&self) -> Option<Result<CloseReason, ConnectError>> {
        self.outcome.borrow().clone()
    }

    /// Opens a channel, with that number or else a free one; `on_open` is called when the broker has confirmed it.
    ///
    /// # Errors
    /// As [`ConnectionView::open_channel`] and [`ConnectionView::open_channel_with_number`].
    pub fn channel(
        &mut self,
        number: Option<u16>,
        on_open: impl FnOnce(&mut Ctx<'_, S>, ChannelRef) + 'static,
    ) -> Result<ChannelRef, SendError> {
        let mut ctx = self.event_loop.context();
        let mut view = ctx.connection(self.connection)?;
        match number {
            None => view.open_channel(on_open),
            Some(number) => view.open_channel_with_number(number, on_open),
        }
    }

    /// Cancels consumers, closes channels, then the connection. That takes its time: run the loop again until it ends by itself.
    pub fn close(&mut self, code: ReplyCode, text: &str) {
        self.with(|view| view.close(code, text));
    }

    /// As [`ConnectionView::shutdown`]: what is under way is finished first. Run the loop again until it ends by itself.
    pub fn shutdown(
        &mut self,
        timeout: Duration,
        done: impl FnOnce(&mut Ctx<'_, S>, ConnectionId, &CloseReport) + 'static,
    ) {
        self.with(|view| view.shutdown(timeout, done));
    }

    /// As [`ConnectionView::on_open`]; `None` if the connection is gone, as for all that follow.
    pub fn add_on_open_callback(
        &mut self,
        call: impl FnMut(&mut Ctx<'_, S>, ConnectionId) + 'static,
    ) -> Option<CallbackId> {
        self.with(|view| view.on_open(call))
    }

    /// As [`ConnectionView::on_open_error`].
    pub fn add_on_open_error_callback(
        &mut self,
        call: impl FnMut(&mut Ctx<'_, S>, ConnectionId, &ConnectError) + 'static,
    ) -> Option<CallbackId> {
        self.with(|view| view.on_open_error(call))
    }

    /// As [`ConnectionView::on_close`].
    pub fn add_on_close_callback(
        &mut self,
        call: impl FnMut(&mut Ctx<'_, S>, ConnectionId, &CloseReason) + 'static,
    ) -> Option<CallbackId> {
        self.with(|view| view.on_close(call))
    }

    /// As [`ConnectionView::on_blocked`].
    pub fn add_on_connection_blocked_callback(
        &mut self,
        call: impl FnMut(&mut Ctx<'_, S>, ConnectionId, &str) + 'static,
    ) -> Option<CallbackId> {
        self.with(|view| view.on_blocked(call))
    }

    /// As [`ConnectionView::on_unblocked`].
    pub fn add_on_connection_unblocked_callback(
        &mut self,
        call: impl FnMut(&mut Ctx<'_, S>, ConnectionId) + 'static,
    ) -> Option<CallbackId> {
        self.with(|view| view.on_unblocked(call))
    }

    /// As [`ConnectionView::on_backpressure`].
    pub fn add_backpressure_callback(
        &mut self,
        call: impl FnMut(&mut Ctx<'_, S>, ConnectionId, Backpressure) + 'static,
    ) -> Option<CallbackId> {
        self.with(|view| view.on_backpressure(call))
    }

    /// Forgets a callback; says whether there was one.
    pub fn remove_callback(&mut self, id: CallbackId) -> bool {
        self.with(|view| view.remove_callback(id)) == Some(true)
    }

    /// `None` if the connection is gone.
    fn with<T>(&mut self, act: impl FnOnce(&mut ConnectionView<'_, S>) -> T) -> Option<T> {
        let mut ctx = self.event_loop.context();
        let mut view = ctx.connection(self.connection).ok()?;
        Some(act(&mut view))
    }
}
