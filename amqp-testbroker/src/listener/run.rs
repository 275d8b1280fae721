//! The thread: waits for sockets, deadlines and the handle, and serves whoever has something to do.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::mem;
use std::net::SocketAddr;
#[cfg(feature = "tls")]
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use mio::event::Event;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token, Waker};

use super::Shared;
use super::peer::{Outcome, Peer};
use super::stream::Stream;
use crate::broker::{Broker, ConnectionKey};

const WAKER: Token = Token(0);
const PLAIN: Token = Token(1);
const TLS: Token = Token(2);
/// The token of a connection is its key and this.
const FIRST: usize = 3;

/// When to accept again after that failed: there may be a file descriptor then.
const ACCEPT_AGAIN: Duration = Duration::from_millis(50);

/// All that the thread has.
#[derive(Debug)]
pub(super) struct Loop {
    poll: Poll,
    listeners: Vec<Listener>,
    peers: BTreeMap<ConnectionKey, Peer>,
    /// Who has something to do.
    ready: BTreeSet<ConnectionKey>,
}

#[derive(Debug)]
struct Listener {
    token: Token,
    socket: TcpListener,
    protocol: Protocol,
    /// It did not say yet that nobody waits.
    may_accept: bool,
}

#[derive(Debug, Clone)]
enum Protocol {
    Plain,
    #[cfg(feature = "tls")]
    Tls(Arc<rustls::ServerConfig>),
}

impl Loop {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            poll: Poll::new()?,
            listeners: Vec::new(),
            peers: BTreeMap::new(),
            ready: BTreeSet::new(),
        })
    }

    pub(super) fn waker(&self) -> io::Result<Waker> {
        Waker::new(self.poll.registry(), WAKER)
    }

    /// Listens there, and says on which port.
    pub(super) fn listen(&mut self, address: SocketAddr) -> io::Result<SocketAddr> {
        self.add_listener(address, PLAIN, Protocol::Plain)
    }

    #[cfg(feature = "tls")]
    pub(super) fn listen_tls(
        &mut self,
        address: SocketAddr,
        config: Arc<rustls::ServerConfig>,
    ) -> io::Result<SocketAddr> {
        self.add_listener(address, TLS, Protocol::Tls(config))
    }

    fn add_listener(
        &mut self,
        address: SocketAddr,
        token: Token,
        protocol: Protocol,
    ) -> io::Result<SocketAddr> {
        let mut socket = TcpListener::bind(address)?;
        self.poll
            .registry()
            .register(&mut socket, token, Interest::READABLE)?;
        let address = socket.local_addr()?;
        self.listeners.push(Listener {
            token,
            socket,
            protocol,
            may_accept: false,
        });
        Ok(address)
    }

    /// Runs until the handle stops it, or the system fails it.
    pub(super) fn run(mut self, shared: &Shared) -> io::Result<()> {
        let mut events = Events::with_capacity(256);
        loop {
            let timeout = self.timeout(shared);
            match self.poll.poll(&mut events, timeout) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
            if shared.is_stopping.load(Ordering::Acquire) {
                return Ok(());
            }
            for event in &events {
                self.note(event);
            }
            self.accept_all(shared);
            self.handle_timeout(shared);
            for key in mem::take(&mut self.ready) {
                self.serve(shared, key);
            }
        }
    }

    /// How long to sleep at most.
    fn timeout(&self, shared: &Shared) -> Option<Duration> {
        if !self.ready.is_empty() {
            return Some(Duration::ZERO);
        }
        let deadline = shared.lock().poll_timeout();
        let until_deadline = deadline.map(|deadline| deadline.duration_since(shared.now()));
        let has_failed = self.listeners.iter().any(|listener| listener.may_accept);
        let until_accept = has_failed.then_some(ACCEPT_AGAIN);
        [until_deadline, until_accept].into_iter().flatten().min()
    }

    fn note(&mut self, event: &Event) {
        match event.token() {
            // The broker itself knows whom it concerns.
            WAKER => {}
            token @ (PLAIN | TLS) => {
                let mut listeners = self.listeners.iter_mut();
                if let Some(listener) = listeners.find(|listener| listener.token == token) {
                    listener.may_accept = true;
                }
            }
            token => {
                let Some(key) = key_of(token) else { return };
                if let Some(peer) = self.peers.get_mut(&key) {
                    // TLS may have to write in order to read, and the other way round.
                    peer.may_read = true;
                    peer.may_write = true;
                    self.ready.insert(key);
                }
            }
        }
    }

    fn accept_all(&mut self, shared: &Shared) {
        for index in 0..self.listeners.len() {
            while let Some((socket, protocol)) = self.listeners.get_mut(index).and_then(Listener::accept) {
                self.admit(shared, socket, protocol);
            }
        }
    }

    /// A socket that fails so early is one whose peer is gone: dropping it is all there is to do.
    fn admit(&mut self, shared: &Shared, mut socket: TcpStream, protocol: Protocol) {
        if socket.set_nodelay(true).is_err() {
            return;
        }
        let key = match &protocol {
            Protocol::Plain => shared.lock().accept(shared.now()),
            #[cfg(feature = "tls")]
            Protocol::Tls(_) => shared.lock().accept_tls(shared.now(), None),
        };
        let both = Interest::READABLE | Interest::WRITABLE;
        let registered = token_of(key)
            .is_some_and(|token| self.poll.registry().register(&mut socket, token, both).is_ok());
        let stream = match protocol {
            Protocol::Plain => Some(Stream::Plain(socket)),
            #[cfg(feature = "tls")]
            Protocol::Tls(config) => Stream::tls(socket, config).ok(),
        };
        match stream {
            Some(stream) if registered => {
                self.peers.insert(key, Peer::new(stream));
                self.ready.insert(key);
            }
            _ => shared.lock().handle_disconnect(key, shared.now()),
        }
    }

    fn handle_timeout(&mut self, shared: &Shared) {
        let mut broker = shared.lock();
        let now = shared.now();
        if broker.poll_timeout().is_some_and(|deadline| deadline <= now) {
            broker.handle_timeout(now);
        }
        self.take_ready(&mut broker);
    }

    /// The lock is held for the broker's work alone: reading and writing go on without it.
    fn serve(&mut self, shared: &Shared, key: ConnectionKey) {
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        match peer.serve(shared, key) {
            Outcome::Idle => {}
            Outcome::Busy => {
                self.ready.insert(key);
            }
            Outcome::Over => {
                self.peers.remove(&key);
                shared.lock().handle_disconnect(key, shared.now());
            }
        }
        self.take_ready(&mut shared.lock());
    }

    fn take_ready(&mut self, broker: &mut Broker) {
        while let Some(key) = broker.poll_ready() {
            self.ready.insert(key);
        }
    }
}

impl Listener {
    fn accept(&mut self) -> Option<(TcpStream, Protocol)> {
        while self.may_accept {
            match self.socket.accept() {
                Ok((socket, _)) => return Some((socket, self.protocol.clone())),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.may_accept = false,
                Err(error) if is_about_one(&error) => {}
                // Out of file descriptors, most likely: see ACCEPT_AGAIN.
                Err(_) => return None,
            }
        }
        None
    }
}

/// Whether it says nothing about the next one that waits.
fn is_about_one(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted)
}

fn token_of(key: ConnectionKey) -> Option<Token> {
    usize::try_from(key.0).ok()?.checked_add(FIRST).map(Token)
}

fn key_of(token: Token) -> Option<ConnectionKey> {
    let number = token.0.checked_sub(FIRST)?;
    u64::try_from(number).ok().map(ConnectionKey)
}
