//! The task that makes a connection again, as often as it is lost.

use std::future::{Future, pending, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Duration;

use amqp_proto::{CloseReason, Config, GiveUpReason, Instant, Reconnect, ReconnectAction, ReconnectPolicy};

use crate::BoxFuture;
use crate::credentials::{self, CredentialsSource};
use crate::driver::Driver;
use crate::transport::{Timer, Transport};

/// Reaches a broker again.
pub trait Connect: Send {
    /// What it gives.
    type Transport: Transport;

    /// How many hosts there are to choose from; at least one.
    fn hosts(&self) -> usize;

    /// Opens a stream to that host, TLS included, and gives up by itself after some time.
    fn connect(&mut self, host: usize) -> BoxFuture<Result<Connected<Self::Transport>, CloseReason>>;
}

/// A stream, and how the connection on it is to be.
#[derive(Debug)]
#[non_exhaustive]
pub struct Connected<T> {
    /// The stream.
    pub transport: T,
    /// The configuration.
    pub config: Arc<Config>,
    /// Who renews the secret in it, and how long that is valid. It takes the place of who did it so far
    /// ([`Connection::refresh_credentials`](crate::Connection::refresh_credentials)), who goes on if there is none.
    pub renewal: Option<(CredentialsSource, Option<Duration>)>,
}

impl<T> Connected<T> {
    /// Both, with a secret that nobody renews.
    pub const fn new(transport: T, config: Arc<Config>) -> Self {
        Self {
            transport,
            config,
            renewal: None,
        }
    }

    /// Sets [`renewal`](Self#structfield.renewal).
    #[must_use]
    pub fn renewed_by(mut self, source: CredentialsSource, valid_for: Option<Duration>) -> Self {
        self.renewal = Some((source, valid_for));
        self
    }
}

/// Drives a connection through all its lives, and says why the last one ended.
pub(crate) async fn run<T, C, K>(
    mut driver: Driver<T, C>,
    mut connect: K,
    policy: ReconnectPolicy,
) -> CloseReason
where
    T: Transport + Unpin,
    C: Timer + Unpin,
    K: Connect<Transport = T>,
{
    let mut reconnect = Reconnect::new(policy, connect.hosts());
    reconnect.connected(driver.now());
    let mut reason = CloseReason::Requested { acknowledged: false };
    loop {
        let ended = live(&mut driver, &reason).await;
        driver.disconnect();
        let recovered_at = driver.shared().lock().take_recovered_at();
        if let Some(at) = recovered_at {
            reconnect.connected(at);
        }
        let ended = match ended {
            Ok(ended) => ended,
            Err(why) => return give_up(&driver, why, reason),
        };
        reason = ended;
        loop {
            if driver.shared().lock().closed.is_some() {
                return reason;
            }
            let (host, at) = match reconnect.failed(&reason, driver.now()) {
                ReconnectAction::ConnectAt { host, at } => (host, at),
                ReconnectAction::GiveUp { reason: why } => return give_up(&driver, why, reason),
                _ => return give_up(&driver, GiveUpReason::Exhausted(reason.clone()), reason),
            };
            let delay = at.duration_since(driver.now());
            driver.shared().command(|state| state.on_retry(&reason, delay));
            let end = reconnect.give_up_at();
            match attempt(&mut driver, &mut connect, host, at, end).await {
                Some(Ok(Ok(connected))) => {
                    driver.begin_life(connected.transport, connected.config, end);
                    if let Some((source, valid_for)) = connected.renewal {
                        credentials::start(driver.shared(), source, valid_for);
                    }
                    break;
                }
                Some(Ok(Err(failed))) => reason = failed,
                Some(Err(Over)) => return give_up(&driver, GiveUpReason::TimedOut(reason.clone()), reason),
                None => {
                    reason = CloseReason::Requested { acknowledged: false };
                    driver.shared().command(|state| state.finish(reason.clone()));
                    return reason;
                }
            }
        }
    }
}

/// Drives one life of the connection to its end, or until it is not worth going on. The one before ended for that reason.
async fn live<T, C>(driver: &mut Driver<T, C>, before: &CloseReason) -> Result<CloseReason, GiveUpReason>
where
    T: Transport + Unpin,
    C: Timer + Unpin,
{
    let ended = poll_fn(|cx| match Pin::new(&mut *driver).poll(cx) {
        Poll::Ready(reason) => Poll::Ready(Ok(reason)),
        Poll::Pending => match driver.gives_up(before) {
            Some(why) => Poll::Ready(Err(why)),
            None => Poll::Pending,
        },
    });
    let ended = ended.await;
    if ended.is_err() {
        driver.break_off("it is not there again");
    }
    ended
}

/// Nothing is tried any more.
fn give_up<T: Transport, C: Timer>(
    driver: &Driver<T, C>,
    why: GiveUpReason,
    reason: CloseReason,
) -> CloseReason {
    let told = reason.clone();
    driver.shared().command(|state| state.on_give_up(why, told));
    reason
}

/// Connects at that moment, and waits for it until the other one; none if nobody wants the connection any more.
async fn attempt<T, C, K>(
    driver: &mut Driver<T, C>,
    connect: &mut K,
    host: usize,
    at: Instant,
    end: Option<Instant>,
) -> Option<Result<Result<Connected<T>, CloseReason>, Over>>
where
    T: Transport + Unpin,
    C: Timer + Unpin,
    K: Connect<Transport = T>,
{
    let _ = meanwhile(driver, at, pending::<()>()).await?;
    let connecting = connect.connect(host);
    meanwhile(driver, end.unwrap_or(Instant::MAX), connecting).await
}

/// That moment has come.
struct Over;

/// Waits for something, at most until that moment, and keeps the deadlines of handles, for which there is no driver now. None if the
/// connection was closed meanwhile.
async fn meanwhile<T: Transport, C: Timer, R>(
    driver: &mut Driver<T, C>,
    until: Instant,
    work: impl Future<Output = R>,
) -> Option<Result<R, Over>> {
    let mut work = pin!(work);
    poll_fn(|cx| {
        if let Poll::Ready(result) = work.as_mut().poll(cx) {
            return Poll::Ready(Some(Ok(result)));
        }
        loop {
            let (shared, timer) = driver.shared_and_timer();
            let now = timer.now();
            let mut state = shared.lock();
            if state.is_leaving() {
                return Poll::Ready(None);
            }
            if until <= now {
                return Poll::Ready(Some(Err(Over)));
            }
            let next = state.tick(now, cx);
            let wakes = std::mem::take(&mut state.wakes);
            drop(state);
            wakes.into_iter().for_each(Waker::wake);
            let next = next.map_or(until, |next| next.min(until));
            if next == Instant::MAX || timer.poll_until(cx, next).is_pending() {
                return Poll::Pending;
            }
        }
    })
    .await
}
