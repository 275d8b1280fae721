//! What async-std brings: streams, a timer, tasks.

use std::future::Future;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::Shutdown;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time;

use amqp_async::{BoxTransport, Connect, Connected, Connection, Recovery, Spawner, Timer, Transport};
use amqp_proto::{CloseReason, Config, Instant};
use async_std::net::TcpStream;
use async_std::task;
use futures_io::{AsyncRead, AsyncWrite};

/// Any stream as a transport.
#[derive(Debug)]
struct Stream<S>(S);

impl<S: AsyncRead + AsyncWrite + Unpin> Transport for Stream<S> {
    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
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
        Pin::new(&mut self.0).poll_close(cx)
    }
}

/// A TCP stream whose end the peer is told of: closing async-std's own only flushes it.
#[derive(Debug)]
pub(crate) struct Tcp(pub(crate) TcpStream);

impl AsyncRead for Tcp {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }

    fn poll_read_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_read_vectored(cx, buffers)
    }
}

impl AsyncWrite for Tcp {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buffer)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(cx, buffers)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.0.shutdown(Shutdown::Write))
    }
}

/// The system's clock, and one alarm.
#[derive(Debug)]
struct Clock {
    epoch: time::Instant,
    alarm: Option<Alarm>,
}

#[derive(Debug)]
struct Alarm {
    timer: async_io::Timer,
    /// No later than the moment that was asked for last: deadlines move on with every message, alarms need not.
    at: time::Instant,
}

impl Clock {
    fn new() -> Self {
        Self {
            epoch: time::Instant::now(),
            alarm: None,
        }
    }
}

impl Alarm {
    fn new(at: time::Instant) -> Self {
        let timer = async_io::Timer::at(at);
        Self { timer, at }
    }

    fn set(&mut self, at: time::Instant) {
        self.timer.set_at(at);
        self.at = at;
    }
}

impl Timer for Clock {
    fn now(&self) -> Instant {
        Instant::since_epoch(self.epoch.elapsed())
    }

    fn poll_until(&mut self, cx: &mut Context<'_>, at: Instant) -> Poll<()> {
        let Some(wanted) = self.epoch.checked_add(at.duration_since(Instant::EPOCH)) else {
            return Poll::Pending; // That moment never comes.
        };
        let alarm = self.alarm.get_or_insert_with(|| Alarm::new(wanted));
        if alarm.at > wanted {
            alarm.set(wanted);
        }
        while Pin::new(&mut alarm.timer).poll(cx).is_ready() {
            if wanted <= time::Instant::now() {
                self.alarm = None;
                return Poll::Ready(());
            }
            alarm.set(wanted);
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
    task::spawn(driver);
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
    task::spawn(run);
    connection.ready().await?;
    Ok(connection)
}

pub(crate) fn boxed<S>(stream: S) -> BoxTransport
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    Box::new(Stream(stream))
}

fn spawner() -> Spawner {
    Arc::new(|task| drop(task::spawn(task)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::Waker;
    use std::time::Duration;

    use async_std::io::{ReadExt, WriteExt};
    use async_std::net::TcpListener;

    fn in_a_minute() -> Instant {
        Instant::since_epoch(Duration::from_secs(60))
    }

    async fn reached(clock: &mut Clock, at: Instant) {
        let waiting = std::future::poll_fn(|cx| clock.poll_until(cx, at));
        async_std::future::timeout(Duration::from_secs(30), waiting)
            .await
            .expect("the alarm is late");
    }

    #[test]
    fn a_moment_is_not_reached_before_it_comes() {
        let mut clock = Clock::new();
        let at = Instant::since_epoch(Duration::from_millis(20));
        task::block_on(reached(&mut clock, at));
        assert!(clock.now() >= at);
    }

    #[test]
    fn only_an_earlier_moment_sets_the_alarm_again() {
        let mut clock = Clock::new();
        let mut cx = Context::from_waker(Waker::noop());
        assert!(clock.poll_until(&mut cx, in_a_minute()).is_pending());
        let first = clock.alarm.as_ref().unwrap().at;
        let later = in_a_minute() + Duration::from_secs(1);
        assert!(clock.poll_until(&mut cx, later).is_pending());
        assert_eq!(clock.alarm.as_ref().unwrap().at, first);

        let at = clock.now() + Duration::from_millis(20);
        task::block_on(reached(&mut clock, at));
        assert!(clock.now() >= at);
    }

    #[test]
    fn an_alarm_that_came_too_early_is_set_again() {
        let mut clock = Clock::new();
        let early = clock.now() + Duration::from_millis(20);
        let mut cx = Context::from_waker(Waker::noop());
        assert!(clock.poll_until(&mut cx, early).is_pending());
        task::block_on(async_io::Timer::at(
            clock.epoch + early.duration_since(Instant::EPOCH),
        ));

        assert!(clock.poll_until(&mut cx, in_a_minute()).is_pending());
        let wanted = clock.epoch + in_a_minute().duration_since(Instant::EPOCH);
        assert_eq!(clock.alarm.as_ref().unwrap().at, wanted);
    }

    #[test]
    fn a_moment_beyond_the_clock_never_comes() {
        let mut clock = Clock::new();
        let mut cx = Context::from_waker(Waker::noop());
        let never = Instant::since_epoch(Duration::MAX);
        assert!(clock.poll_until(&mut cx, never).is_pending());
    }

    #[test]
    fn the_peer_learns_that_nothing_more_is_written_and_may_still_write() {
        task::block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            let mut peer = listener.accept().await.unwrap().0;
            let mut transport = Stream(Tcp(stream));
            std::future::poll_fn(|cx| transport.poll_shutdown(cx))
                .await
                .unwrap();

            let mut buffer = [0; 8];
            let ended = async_std::future::timeout(Duration::from_secs(30), peer.read(&mut buffer));
            assert_eq!(ended.await.unwrap().unwrap(), 0);
            peer.write_all(b"later").await.unwrap();
            let read = std::future::poll_fn(|cx| transport.poll_read(cx, &mut buffer)).await;
            assert_eq!(&buffer[..read.unwrap()], b"later");
        });
    }
}
