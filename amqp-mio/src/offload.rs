//! What can only be waited for, such as looking up a name: a thread of its own does that, and wakes the poll.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::thread;

#[cfg(unix)]
use mio::net::UnixStream;
use mio::{Interest, Registry, Token, event::Source};

/// A call on its way. Dropped, its thread goes on for as long as the call takes, and nobody hears of it.
#[derive(Debug)]
pub(crate) struct Offload<T> {
    answer: Receiver<thread::Result<T>>,
    /// Its other end is dropped when the answer is there, which is an event.
    #[cfg(unix)]
    alarm: UnixStream,
}

/// The call did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Panicked;

impl<T: Send + 'static> Offload<T> {
    /// Calls that on a thread of that name.
    pub(crate) fn start(name: &str, call: impl FnOnce() -> T + Send + 'static) -> io::Result<Self> {
        let (sender, answer) = channel();
        #[cfg(unix)]
        let (alarm, bell) = UnixStream::pair()?;
        let run = move || {
            let answer = catch_unwind(AssertUnwindSafe(call));
            // Nobody may wait for it any more.
            let _ = sender.send(answer);
            #[cfg(unix)]
            drop(bell);
        };
        thread::Builder::new().name(name.to_owned()).spawn(run)?;
        Ok(Self {
            answer,
            #[cfg(unix)]
            alarm,
        })
    }

    /// The answer, once it is there.
    pub(crate) fn poll(&self) -> Option<Result<T, Panicked>> {
        match self.answer.try_recv() {
            Ok(answer) => Some(answer.map_err(|_| Panicked)),
            Err(TryRecvError::Empty) => None,
            // It was taken before.
            Err(TryRecvError::Disconnected) => Some(Err(Panicked)),
        }
    }
}

#[cfg(unix)]
impl<T> Source for Offload<T> {
    fn register(&mut self, registry: &Registry, token: Token, _: Interest) -> io::Result<()> {
        registry.register(&mut self.alarm, token, Interest::READABLE)
    }

    fn reregister(&mut self, registry: &Registry, token: Token, _: Interest) -> io::Result<()> {
        registry.reregister(&mut self.alarm, token, Interest::READABLE)
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        registry.deregister(&mut self.alarm)
    }
}

/// Elsewhere there is nothing to wake a poll with that is not the poll's own: it is asked again and again.
#[cfg(not(unix))]
impl<T> Source for Offload<T> {
    fn register(&mut self, _: &Registry, _: Token, _: Interest) -> io::Result<()> {
        Ok(())
    }

    fn reregister(&mut self, _: &Registry, _: Token, _: Interest) -> io::Result<()> {
        Ok(())
    }

    fn deregister(&mut self, _: &Registry) -> io::Result<()> {
        Ok(())
    }
}
