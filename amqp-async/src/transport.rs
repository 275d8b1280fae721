//! What a runtime brings: a stream of octets, a clock with an alarm, and a place to run tasks.

use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use amqp_proto::Instant;

/// A connected stream. What says `Pending` wakes the task when it is worth another try.
pub trait Transport {
    /// Reads into `buffer`, which is not empty; 0 is the end of the stream.
    ///
    /// # Errors
    /// What the stream says; it is not read again.
    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>>;

    /// Writes from the beginning of `buffers`, not all of which need be taken.
    ///
    /// # Errors
    /// What the stream says; it is not written to again.
    fn poll_write(&mut self, cx: &mut Context<'_>, buffers: &[IoSlice<'_>]) -> Poll<io::Result<usize>>;

    /// Sends on what a layer in between has kept, as TLS does.
    ///
    /// # Errors
    /// As [`poll_write`](Self::poll_write).
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Says that nothing more will be written; reading goes on.
    ///
    /// # Errors
    /// As [`poll_write`](Self::poll_write).
    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
}

/// Any transport.
pub type BoxTransport = Box<dyn Transport + Send>;

impl<T: Transport + ?Sized> Transport for Box<T> {
    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        (**self).poll_read(cx, buffer)
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, buffers: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        (**self).poll_write(cx, buffers)
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        (**self).poll_flush(cx)
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        (**self).poll_shutdown(cx)
    }
}

/// A clock and one alarm.
pub trait Timer {
    /// What the clock says. It does not go back.
    fn now(&self) -> Instant;

    /// Whether that moment is reached; otherwise the task is woken when it is. A later call replaces the alarm of an earlier one.
    fn poll_until(&mut self, cx: &mut Context<'_>, at: Instant) -> Poll<()>;
}

/// A task to run in the background.
pub type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// How to run one: what a runtime calls `spawn`.
pub type Spawner = Arc<dyn Fn(Task) + Send + Sync>;
