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
}

impl Socket {
    pub(crate) const fn new(stream: Stream, signal: Arc<Signal>) -> Self {
        Self { stream, signal }
    }

    pub(crate) const fn signal(&self) -> &Arc<Signal> {
        &self.signal
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
        let read = attempt(&self.signal.is_readable, || self.stream.read(buffer));
        if self.stream.wants_write() {
            // TLS answers by itself. What does not go now goes with the next write, and an error shows there.
            let _ = attempt(&self.signal.is_writable, || self.stream.flush());
        }
        read
    }

    fn poll_write(&mut self, _: &mut Context<'_>, buffers: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
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
