//! A stream and a clock, as the driver of a connection wants them. Only the I/O thread touches them.

use std::io::{self, IoSlice};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use amqp_async::{Timer, Transport};
use amqp_mio::Stream;
use amqp_proto::Instant;

use crate::io_thread::Signal;

/// A stream that is asked only after an edge.
#[derive(Debug)]
pub(crate) struct Socket {
    stream: Stream,
    signal: Arc<Signal>,
    /// From its first use on: watched earlier, it would wake the I/O thread for nothing.
    is_watched: bool,
}

/// Whether the system tells of what arrives behind a read that did not fill its buffer, without having been asked in vain.
const TELLS_AFTER_SHORT_READ: bool = cfg!(any(
    target_os = "linux",
    target_os = "android",
    target_vendor = "apple",
    target_os = "freebsd",
    target_os = "netbsd",
    target_os = "openbsd",
    target_os = "dragonfly",
));

impl Socket {
    pub(crate) const fn new(stream: Stream, signal: Arc<Signal>) -> Self {
        Self {
            stream,
            signal,
            is_watched: false,
        }
    }

    pub(crate) const fn signal(&self) -> &Arc<Signal> {
        &self.signal
    }

    fn watch(&mut self) -> io::Result<()> {
        if !self.is_watched {
            self.signal.watch(&mut self.stream)?;
            self.is_watched = true;
        }
        Ok(())
    }
}

/// Tries if the edge was there, and remembers when the socket has no more.
fn attempt<T>(edge: &AtomicBool, operation: impl FnOnce() -> io::Result<T>) -> Poll<io::Result<T>> {
    if !edge.load(Ordering::Relaxed) {
        return Poll::Pending;
    }
    match operation() {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            edge.store(false, Ordering::Relaxed);
            Poll::Pending
        }
        done => Poll::Ready(done),
    }
}

impl Transport for Socket {
    fn poll_read(&mut self, _: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        self.watch()?;
        let room = buffer.len();
        let read = attempt(&self.signal.is_readable, || self.stream.read(buffer));
        if let Poll::Ready(Ok(count)) = read
            && count < room
            && TELLS_AFTER_SHORT_READ
            && !self.stream.is_tls()
        {
            self.signal.note_drained();
        }
        if self.stream.wants_write() {
            // TLS answers by itself. What does not go now goes with the next write, and an error shows there.
            let _ = attempt(&self.signal.is_writable, || self.stream.flush());
        }
        read
    }

    fn poll_write(&mut self, _: &mut Context<'_>, buffers: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        self.watch()?;
        attempt(&self.signal.is_writable, || self.stream.write_vectored(buffers))
    }

    fn poll_flush(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        attempt(&self.signal.is_writable, || self.stream.flush())
    }

    fn poll_shutdown(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.shut();
        Poll::Ready(Ok(()))
    }
}

/// The I/O thread's clock, and the alarm of one task.
#[derive(Debug)]
pub(crate) struct Clock {
    signal: Arc<Signal>,
}

impl Clock {
    pub(crate) const fn new(signal: Arc<Signal>) -> Self {
        Self { signal }
    }
}

impl Timer for Clock {
    fn now(&self) -> Instant {
        self.signal.now()
    }

    fn poll_until(&mut self, _: &mut Context<'_>, at: Instant) -> Poll<()> {
        if at <= self.now() {
            return Poll::Ready(());
        }
        self.signal.set_alarm(at);
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::IoThread;
    use std::future::poll_fn;
    use std::io::Write;
    use std::net::{TcpListener, TcpStream};
    use std::sync::mpsc::channel;
    use std::task::ready;
    use std::time::Duration;

    /// Longer than anything takes.
    const LONG: Duration = Duration::from_secs(30);

    #[test]
    fn the_end_is_read_whether_it_comes_with_the_last_octets_or_later() {
        for comes_later in [false, true] {
            let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
            let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            stream.set_nonblocking(true).unwrap();
            let (mut peer, _) = listener.accept().unwrap();
            peer.write_all(b"goodbye").unwrap();
            let peer = Some(peer).filter(|_| comes_later);

            let thread = IoThread::start().unwrap();
            let stream = Stream::from(mio::net::TcpStream::from_std(stream));
            let mut socket = thread.shared().socket(stream);
            let signal = Arc::clone(socket.signal());
            let (sender, counts) = channel();
            let reading = poll_fn(move |cx| {
                loop {
                    let count = ready!(socket.poll_read(cx, &mut [0; 64])).unwrap();
                    sender.send(count).unwrap();
                    if count == 0 {
                        return Poll::Ready(());
                    }
                }
            });
            thread.shared().run(signal, Box::pin(reading));
            assert_eq!(counts.recv_timeout(LONG), Ok(7));
            drop(peer);
            assert_eq!(counts.recv_timeout(LONG), Ok(0));
        }
    }
}
