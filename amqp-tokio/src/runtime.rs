//! What tokio brings: streams, a timer, tasks.

use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use amqp_async::{BoxTransport, Connect, Connected, Connection, Recovery, Spawner, Timer, Transport};
use amqp_proto::{CloseReason, Config, Instant};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::runtime::Handle;
use tokio::time::{self, Sleep};

/// Any stream of tokio's as a transport.
#[derive(Debug)]
struct Stream<S>(S);

impl<S: AsyncRead + AsyncWrite + Unpin> Transport for Stream<S> {
    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut buffer = ReadBuf::new(buffer);
        ready!(Pin::new(&mut self.0).poll_read(cx, &mut buffer))?;
        Poll::Ready(Ok(buffer.filled().len()))
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, buffers: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let stream = Pin::new(&mut self.0);
        match buffers {
            [one] => stream.poll_write(cx, one),
            many => stream.poll_write_vectored(cx, many),
        }
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// Tokio's clock, and one alarm. In a test with tokio's paused clock it stands still too.
#[derive(Debug)]
struct Clock {
    epoch: time::Instant,
    /// Set to no later than the moment that was asked for last: deadlines move on with every message, alarms need not.
    alarm: Option<Pin<Box<Sleep>>>,
}

impl Clock {
    fn new() -> Self {
        Self {
            epoch: time::Instant::now(),
            alarm: None,
        }
    }
}

impl Timer for Clock {
    fn now(&self) -> Instant {
        Instant::since_epoch(self.epoch.elapsed())
    }

    fn poll_until(&mut self, cx: &mut Context<'_>, at: Instant) -> Poll<()> {
        let Some(reached) = self.epoch.checked_add(at.duration_since(Instant::EPOCH)) else {
            return Poll::Pending; // That moment never comes.
        };
        // Tokio counts milliseconds: without rounding up, a deadline would be looked at again and again in its last one.
        let wanted = reached.checked_add(Duration::from_millis(1)).unwrap_or(reached);
        let alarm = self
            .alarm
            .get_or_insert_with(|| Box::pin(time::sleep_until(wanted)));
        if alarm.deadline() > wanted {
            alarm.as_mut().reset(wanted);
        }
        while alarm.as_mut().poll(cx).is_ready() {
            if reached <= time::Instant::now() {
                self.alarm = None;
                return Poll::Ready(());
            }
            alarm.as_mut().reset(wanted);
        }
        Poll::Pending
    }
}

/// Starts a connection over that stream, as a task of its own, and waits until the broker has let us in.
pub(crate) async fn open<S>(stream: S, config: Arc<Config>) -> Result<Connection, CloseReason>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (connection, driver) = Connection::start(config, Stream(stream), Clock::new(), spawner());
    tokio::spawn(driver);
    connection.ready().await?;
    Ok(connection)
}

/// The same for a connection that is made again when it is lost.
pub(crate) async fn open_recovering(
    first: Connected<BoxTransport>,
    connect: impl Connect<Transport = BoxTransport> + 'static,
    recovery: &Recovery,
) -> Result<Connection, CloseReason> {
    let (connection, run) = Connection::start_recovering(first, Clock::new(), spawner(), connect, recovery);
    tokio::spawn(run);
    connection.ready().await?;
    Ok(connection)
}

pub(crate) fn boxed<S>(stream: S) -> BoxTransport
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    Box::new(Stream(stream))
}

/// Runs tasks on the runtime that this is called on.
fn spawner() -> Spawner {
    let handle = Handle::current();
    Arc::new(move |task| drop(handle.spawn(task)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::Waker;

    #[tokio::test]
    async fn a_moment_beyond_the_clock_never_comes() {
        let mut clock = Clock::new();
        let mut cx = Context::from_waker(Waker::noop());
        let never = Instant::since_epoch(Duration::MAX);
        assert!(clock.poll_until(&mut cx, never).is_pending());
    }
}
