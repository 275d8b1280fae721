//! The broker on TCP, and on TLS if that feature is on: one thread around the [`Broker`].

mod peer;
mod run;
mod stream;

use std::fmt::Write;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Instant as Clock;

use amqp_proto::{Instant, Message};
use mio::Waker;

use self::run::Loop;
use crate::broker::Broker;
use crate::config::BrokerConfig;
use crate::inspect::ConnectionInfo;
#[cfg(feature = "tls")]
use crate::tls::Identity;

/// A [`Broker`] that listens on TCP, for as long as this lives.
///
/// It takes one thread. Everything that a test may ask of the [`Broker`] (what is in a queue, faults) goes through
/// [`with`](Self::with). When it is dropped, all connections break off without a word, as if the broker was killed, and the thread
/// is over.
///
/// ```
/// use amqp_testbroker::TestBroker;
///
/// # fn main() -> std::io::Result<()> {
/// let broker = TestBroker::start()?;
/// let uri = broker.uri(); // amqp://guest:guest@127.0.0.1:40001
/// // Connect to `uri` with any AMQP 0-9-1 client, and then look:
/// assert_eq!(broker.queue_len("/", "orders"), None); // nobody declared it
/// assert!(broker.connections().is_empty());
/// # assert!(uri.starts_with("amqp://guest:guest@127.0.0.1:"));
/// # broker.shutdown()
/// # }
/// ```
#[derive(Debug)]
pub struct TestBroker {
    shared: Arc<Shared>,
    /// What stands before the address in a URI, and behind it.
    login: String,
    virtual_host: String,
    address: SocketAddr,
    /// Its address for TLS, and the authority's certificate.
    #[cfg(feature = "tls")]
    tls: Option<(SocketAddr, String)>,
    thread: Option<JoinHandle<io::Result<()>>>,
}

/// How to start a [`TestBroker`]; see [`TestBroker::builder`].
#[derive(Debug, Clone)]
#[must_use]
pub struct TestBrokerBuilder {
    address: SocketAddr,
    #[cfg(feature = "tls")]
    tls_address: Option<SocketAddr>,
    config: BrokerConfig,
}

impl TestBroker {
    /// Starts one on a free port of 127.0.0.1, with the default [`BrokerConfig`]. It listens when this returns.
    ///
    /// # Errors
    /// The system has no port, or no thread.
    pub fn start() -> io::Result<Self> {
        Self::builder().start()
    }

    /// Starts one that is different.
    ///
    /// ```
    /// use amqp_testbroker::{BrokerConfig, Release, TestBroker};
    ///
    /// let mut config = BrokerConfig::default();
    /// config.release = Release::V3_10;
    /// let broker = TestBroker::builder().config(config).start()?;
    /// # broker.shutdown()?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn builder() -> TestBrokerBuilder {
        TestBrokerBuilder {
            address: LOOPBACK,
            #[cfg(feature = "tls")]
            tls_address: None,
            config: BrokerConfig::default(),
        }
    }

    /// Where clients reach it: `amqp://guest:guest@127.0.0.1:40001`. The user is `guest` if there is one, else the first by name;
    /// the virtual host is `/` if there is one, else the first.
    #[must_use]
    pub fn uri(&self) -> String {
        self.uri_of("amqp", self.address)
    }

    /// The port of [`uri`](Self::uri).
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.address.port()
    }

    /// Where clients reach it over TLS, with [`ca_pem`](Self::ca_pem) as what they trust: `amqps://guest:guest@127.0.0.1:40002`.
    /// `None` unless [`tls_address`](TestBrokerBuilder::tls_address) was given.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn tls_uri(&self) -> Option<String> {
        let (address, _) = self.tls.as_ref()?;
        Some(self.uri_of("amqps", *address))
    }

    /// The certificate, in PEM, of the authority that was made for this broker alone. It vouches for `localhost`, 127.0.0.1, ::1
    /// and the address that is listened on.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn ca_pem(&self) -> Option<&str> {
        self.tls.as_ref().map(|(_, ca_pem)| ca_pem.as_str())
    }

    /// Does something with the broker itself, and lets the connections know. Connections stand still meanwhile: what is slow, and
    /// any other method of this, belongs outside.
    ///
    /// ```
    /// # let broker = amqp_testbroker::TestBroker::start()?;
    /// let now = broker.now();
    /// broker.with(|broker| broker.restart(now));
    /// # broker.shutdown()?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn with<T>(&self, action: impl FnOnce(&mut Broker) -> T) -> T {
        let result = action(&mut self.shared.lock());
        self.shared.wake();
        result
    }

    /// The time on the broker's clock, which began with it.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.shared.now()
    }

    /// [`Broker::queue_len`]
    #[must_use]
    pub fn queue_len(&self, virtual_host: &str, queue: &str) -> Option<usize> {
        self.shared.lock().queue_len(virtual_host, queue)
    }

    /// [`Broker::published`]
    #[must_use]
    pub fn published(&self) -> u64 {
        self.shared.lock().published()
    }

    /// [`Broker::messages`]
    #[must_use]
    pub fn messages(&self, virtual_host: &str, queue: &str) -> Option<Vec<Message>> {
        self.shared.lock().messages(virtual_host, queue)
    }

    /// [`Broker::connections`]
    #[must_use]
    pub fn connections(&self) -> Vec<ConnectionInfo> {
        self.shared.lock().connections()
    }

    /// Ends it, as dropping does, and says whether all went well until now.
    ///
    /// # Errors
    /// The system failed it, or it panicked, which is a bug of this crate.
    pub fn shutdown(mut self) -> io::Result<()> {
        self.stop()
    }

    /// Waits until it ends by itself, which it does only if it fails.
    ///
    /// # Errors
    /// As for [`shutdown`](Self::shutdown).
    pub fn wait(mut self) -> io::Result<()> {
        self.join()
    }

    fn stop(&mut self) -> io::Result<()> {
        self.shared.is_stopping.store(true, Ordering::Release);
        self.shared.wake();
        self.join()
    }

    fn join(&mut self) -> io::Result<()> {
        match self.thread.take().map(JoinHandle::join) {
            None => Ok(()),
            Some(Ok(outcome)) => outcome,
            Some(Err(_)) => Err(io::Error::other("the broker's thread panicked")),
        }
    }

    fn uri_of(&self, scheme: &str, address: SocketAddr) -> String {
        let Self {
            login, virtual_host, ..
        } = self;
        format!("{scheme}://{login}{address}{virtual_host}")
    }
}

impl Drop for TestBroker {
    fn drop(&mut self) {
        // Whoever wants to know calls `shutdown`.
        let _ = self.stop();
    }
}

impl TestBrokerBuilder {
    /// Where to listen; port 0 is any that is free. Default 127.0.0.1:0.
    pub const fn address(mut self, address: SocketAddr) -> Self {
        self.address = address;
        self
    }

    /// Listens for TLS there too, with a certificate that is made when it starts; port 0 is any that is free.
    #[cfg(feature = "tls")]
    pub const fn tls_address(mut self, address: SocketAddr) -> Self {
        self.tls_address = Some(address);
        self
    }

    /// What the broker is like.
    pub fn config(mut self, config: BrokerConfig) -> Self {
        self.config = config;
        self
    }

    /// Starts it. It listens when this returns.
    ///
    /// # Errors
    /// It cannot listen there, or the system has no thread.
    pub fn start(self) -> io::Result<TestBroker> {
        let login = login(&self.config);
        let virtual_host = virtual_host(&self.config);
        let mut io = Loop::new()?;
        let shared = Arc::new(Shared {
            broker: Mutex::new(Broker::new(self.config)),
            waker: io.waker()?,
            is_stopping: AtomicBool::new(false),
            epoch: Clock::now(),
        });
        let address = reachable(io.listen(self.address)?);
        #[cfg(feature = "tls")]
        let tls = match self.tls_address {
            None => None,
            Some(address) => {
                let identity = Identity::new(address.ip()).map_err(io::Error::other)?;
                let address = io.listen_tls(address, identity.server)?;
                Some((reachable(address), identity.ca_pem))
            }
        };
        let for_thread = Arc::clone(&shared);
        let thread = thread::Builder::new()
            .name("amqp-testbroker".into())
            .spawn(move || io.run(&for_thread))?;
        Ok(TestBroker {
            shared,
            login,
            virtual_host,
            address,
            #[cfg(feature = "tls")]
            tls,
            thread: Some(thread),
        })
    }
}

/// What the handle and the thread share.
#[derive(Debug)]
struct Shared {
    broker: Mutex<Broker>,
    waker: Waker,
    is_stopping: AtomicBool,
    epoch: Clock,
}

impl Shared {
    fn now(&self) -> Instant {
        Instant::since_epoch(self.epoch.elapsed())
    }

    /// A test that failed in [`TestBroker::with`] left the broker whole: none of its own methods was interrupted.
    fn lock(&self) -> MutexGuard<'_, Broker> {
        self.broker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self) {
        // It fails where the thread is over and its poll is gone.
        let _ = self.waker.wake();
    }
}

const LOOPBACK: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// An address to connect to, for one to listen on.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    address
}

/// `guest:guest@`; nothing if nobody may log in.
fn login(config: &BrokerConfig) -> String {
    let guest = config.users.get_key_value("guest");
    guest
        .or_else(|| config.users.first_key_value())
        .map_or_else(String::new, |(name, user)| {
            format!("{}:{}@", encoded(name), encoded(&user.password))
        })
}

/// Nothing for `/`, which is what a URI without a path means.
fn virtual_host(config: &BrokerConfig) -> String {
    let hosts = &config.virtual_hosts;
    match hosts.first() {
        Some(first) if !hosts.iter().any(|host| host == "/") => format!("/{}", encoded(first)),
        _ => String::new(),
    }
}

/// Percent-encoded, all but letters and digits.
fn encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |mut encoded, octet| {
        if octet.is_ascii_alphanumeric() {
            encoded.push(octet.into());
        } else {
            // Writing to a String does not fail.
            let _ = write!(encoded, "%{octet:02X}");
        }
        encoded
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Permissions, User};

    #[test]
    fn a_uri_says_who_may_log_in_and_where() {
        let mut config = BrokerConfig::default();
        assert_eq!(
            (login(&config).as_str(), virtual_host(&config).as_str()),
            ("guest:guest@", "")
        );
        let user = User::new("s:/cret").with_permissions("a|b", Permissions::default());
        config.users.insert("ann@home".into(), user);
        assert_eq!(login(&config), "guest:guest@");
        config.users.remove("guest");
        config.virtual_hosts = vec!["a|b".into()];
        assert_eq!(login(&config), "ann%40home:s%3A%2Fcret@");
        assert_eq!(virtual_host(&config), "/a%7Cb");
        config.users.clear();
        assert_eq!(login(&config), "");
    }

    #[test]
    fn everywhere_is_here_for_a_client() {
        let of = |address: &str| reachable(address.parse().expect("an address")).to_string();
        assert_eq!(of("0.0.0.0:7"), "127.0.0.1:7");
        assert_eq!(of("[::]:7"), "[::1]:7");
        assert_eq!(of("127.0.0.2:7"), "127.0.0.2:7");
    }
}
