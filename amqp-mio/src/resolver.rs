//! Looking up a name, which the system does only by waiting: a thread of its own does that, and wakes the poll.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::thread;

#[cfg(unix)]
use mio::net::UnixStream;
use mio::{Interest, Registry, Token, event::Source};

/// A lookup on its way. Dropped, its thread goes on for as long as the system takes, and nobody hears of it.
#[derive(Debug)]
pub(crate) struct Resolver {
    answer: Receiver<io::Result<Vec<SocketAddr>>>,
    /// Its other end is dropped when the answer is there, which is an event.
    #[cfg(unix)]
    alarm: UnixStream,
}

impl Resolver {
    pub(crate) fn start(name: String, port: u16) -> io::Result<Self> {
        let (sender, answer) = channel();
        #[cfg(unix)]
        let (alarm, bell) = UnixStream::pair()?;
        let look_up = move || {
            let addresses = (name, port).to_socket_addrs().map(Iterator::collect);
            // Nobody may wait for it any more.
            let _ = sender.send(addresses);
            #[cfg(unix)]
            drop(bell);
        };
        thread::Builder::new()
            .name("amqp-resolver".into())
            .spawn(look_up)?;
        Ok(Self {
            answer,
            #[cfg(unix)]
            alarm,
        })
    }

    /// The answer, once it is there.
    pub(crate) fn poll(&self) -> Option<io::Result<Vec<SocketAddr>>> {
        match self.answer.try_recv() {
            Ok(answer) => Some(answer),
            Err(TryRecvError::Empty) => None,
            // It panicked, which the standard library does not do.
            Err(TryRecvError::Disconnected) => Some(Err(io::Error::other("the resolver's thread ended"))),
        }
    }
}

#[cfg(unix)]
impl Source for Resolver {
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
impl Source for Resolver {
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
