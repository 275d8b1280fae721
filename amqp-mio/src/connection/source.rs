//! A connection in a poll: what of it is registered there.

use std::io;

use mio::event::Source;
use mio::{Interest, Registry, Token};

use super::{INTERESTS, MioConnection, Phase, Registration};

impl MioConnection {
    /// Does it to all that is registered.
    fn each_source(&mut self, mut act: impl FnMut(&mut dyn Source) -> io::Result<()>) -> io::Result<()> {
        if let Some(source) = self.phase.source() {
            act(source)?;
        }
        match self.refreshing.as_mut().and_then(|refreshing| refreshing.call()) {
            Some(call) => act(call),
            None => Ok(()),
        }
    }
}

impl Phase {
    /// What is registered.
    pub(super) fn source(&mut self) -> Option<&mut dyn Source> {
        match self {
            Self::Resolving(resolver, _) => Some(resolver),
            Self::Asking(asking, _) => Some(&mut asking.call),
            Self::Connecting(_, socket) => Some(socket),
            Self::Session(session, _) => Some(&mut session.stream),
            Self::Searching | Self::Waiting(_) | Self::Failed(_) | Self::Abandoned(_) => None,
        }
    }
}

/// The interests do not count: the connection reads and writes.
impl Source for MioConnection {
    fn register(&mut self, registry: &Registry, token: Token, _: Interest) -> io::Result<()> {
        let kept = registry.try_clone()?;
        self.each_source(|source| source.register(registry, token, INTERESTS))?;
        self.registration = Some(Registration {
            registry: kept,
            token,
        });
        Ok(())
    }

    fn reregister(&mut self, registry: &Registry, token: Token, _: Interest) -> io::Result<()> {
        let kept = registry.try_clone()?;
        self.each_source(|source| source.reregister(registry, token, INTERESTS))?;
        self.registration = Some(Registration {
            registry: kept,
            token,
        });
        Ok(())
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        self.registration = None;
        self.each_source(|source| source.deregister(registry))
    }
}
