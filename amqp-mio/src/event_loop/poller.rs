//! What of the system's a loop waits with.

use std::{fmt, io};

/// What a loop is to wait with. (pika: `POLLER_TYPE`; its `select` is [`Poll`](Self::Poll) here.)
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum PollerType {
    /// What mio takes on this system.
    #[default]
    Auto,
    /// `epoll(7)`.
    Epoll,
    /// `kqueue(2)`.
    Kqueue,
    /// `poll(2)`. Where mio has something better it takes that, unless everything is compiled with
    /// `--cfg mio_unsupported_force_poll_poll`.
    Poll,
}

/// What this program's loops wait with: see [`poll_backend`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PollBackend {
    /// Linux, Android, illumos, Redox.
    Epoll,
    /// macOS and its kin, the BSDs.
    Kqueue,
    /// Solaris.
    EventPorts,
    /// Windows.
    Iocp,
    /// All others.
    Poll,
}

impl fmt::Display for PollBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Epoll => "epoll",
            Self::Kqueue => "kqueue",
            Self::EventPorts => "event ports",
            Self::Iocp => "I/O completion ports",
            Self::Poll => "poll",
        })
    }
}

/// Why there is no loop.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PollerError {
    /// That poller is not what mio uses here.
    #[error("{wanted:?} is not to be had here: it is {backend}")]
    Unavailable {
        /// What was asked for.
        wanted: PollerType,
        /// What there is.
        backend: PollBackend,
    },
    /// The system has none to give, as when too many files are open.
    #[error("poll: {0}")]
    Io(#[from] io::Error),
}

/// What this program's loops wait with. mio settles it when it is compiled.
#[must_use]
pub const fn poll_backend() -> PollBackend {
    if cfg!(mio_unsupported_force_poll_poll) {
        PollBackend::Poll
    } else if cfg!(any(
        target_os = "android",
        target_os = "illumos",
        target_os = "linux",
        target_os = "redox",
    )) {
        PollBackend::Epoll
    } else if cfg!(any(
        target_vendor = "apple",
        target_os = "dragonfly",
        target_os = "freebsd",
        target_os = "netbsd",
        target_os = "openbsd",
    )) {
        PollBackend::Kqueue
    } else if cfg!(target_os = "solaris") {
        PollBackend::EventPorts
    } else if cfg!(windows) {
        PollBackend::Iocp
    } else {
        PollBackend::Poll
    }
}

impl PollerType {
    /// What it is here.
    ///
    /// # Errors
    /// [`PollerError::Unavailable`].
    pub const fn backend(self) -> Result<PollBackend, PollerError> {
        let backend = poll_backend();
        match (self, backend) {
            (Self::Auto, _)
            | (Self::Epoll, PollBackend::Epoll)
            | (Self::Kqueue, PollBackend::Kqueue)
            | (Self::Poll, PollBackend::Poll) => Ok(backend),
            (wanted, backend) => Err(PollerError::Unavailable { wanted, backend }),
        }
    }
}
