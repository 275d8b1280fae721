//! Where a broker is and how to reach it: data for the adapters, which own the sockets.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::net::Ipv6Addr;
use core::time::Duration;

use crate::config::{Config, ConfigError};
use crate::secret::Secret;

/// Where and how to reach a broker, and the [`Config`] of the connection to it (pika's
/// `ConnectionParameters`).
///
/// The default is a plain connection to localhost as guest. A text converts without any parsing: it is a host
/// name, as pika's first positional argument; a URI goes through [`from_uri`](Self::from_uri).
///
/// ```
/// use amqp_proto::ConnectionParameters;
/// let parameters = ConnectionParameters::from("broker.example");
/// assert_eq!(parameters.addresses().collect::<Vec<_>>(), [("broker.example", 5672)]);
///
/// let parameters = ConnectionParameters::from_uri("amqps://ann:s3cret@b1,b2:5673/orders").unwrap();
/// assert_eq!(parameters.addresses().collect::<Vec<_>>(), [("b1", 5671), ("b2", 5673)]);
/// assert_eq!(parameters.config.virtual_host, "orders");
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ConnectionParameters {
    /// The brokers of one cluster, tried in this order. Default: localhost.
    pub hosts: Vec<Host>,
    /// TLS, or `None`, the default, for a plain connection.
    pub tls: Option<TlsParameters>,
    /// How long to wait for one TCP connection (pika's `socket_timeout`). Default 10 s.
    pub connection_timeout: Duration,
    /// How often to try the whole list of hosts before giving up; at least 1, the default. This is about
    /// getting a first connection; reconnecting after one was lost is the adapter's strategy.
    pub connection_attempts: u32,
    /// The pause between two attempts. Default 2 s.
    pub retry_delay: Duration,
    /// From the start of the TCP connection to `connection.open-ok`, TLS included. Default 15 s. The
    /// handshake alone is also bounded by [`Config::handshake_timeout`].
    pub stack_timeout: Duration,
    /// Options of the TCP socket.
    pub tcp: TcpOptions,
    /// What the protocol needs to know.
    pub config: Config,
}

impl ConnectionParameters {
    /// The defaults of pika 0.9: no heartbeats ([`Config::pika_0_9`]), 0.25 s for a TCP connection.
    #[must_use]
    pub fn pika_0_9() -> Self {
        Self {
            connection_timeout: Duration::from_millis(250),
            config: Config::pika_0_9(),
            ..Self::default()
        }
    }

    /// Every host and port to try, in order. Ports not given are 5671 with TLS and 5672 without.
    pub fn addresses(&self) -> impl Iterator<Item = (&str, u16)> {
        let default_port = default_port(self.tls.is_some());
        self.hosts
            .iter()
            .map(move |host| (host.name.as_str(), host.port.unwrap_or(default_port)))
    }

    /// Checks what can be checked without a server, [`Config::validate`] included.
    ///
    /// # Errors
    /// The first [`ConfigError`] found.
    pub fn validate(&self) -> Result<(), ConfigError> {
        if self.hosts.is_empty() {
            return Err(ConfigError::NoHosts);
        }
        for (position, host) in (1..).zip(&self.hosts) {
            if host.name.is_empty() {
                return Err(ConfigError::EmptyHost { position });
            }
            if host.port == Some(0) {
                return Err(ConfigError::PortZero { position });
            }
        }
        if self.connection_attempts == 0 {
            return Err(ConfigError::NoAttempts);
        }
        self.config.validate()
    }

    /// Replaces the list of hosts.
    #[must_use]
    pub fn hosts(mut self, hosts: impl IntoIterator<Item = Host>) -> Self {
        self.hosts = hosts.into_iter().collect();
        self
    }

    /// Uses TLS in this way.
    #[must_use]
    pub fn tls(mut self, tls: TlsParameters) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Sets [`connection_timeout`](Self#structfield.connection_timeout).
    #[must_use]
    pub fn connection_timeout(mut self, timeout: Duration) -> Self {
        self.connection_timeout = timeout;
        self
    }

    /// Sets [`connection_attempts`](Self#structfield.connection_attempts).
    #[must_use]
    pub fn connection_attempts(mut self, attempts: u32) -> Self {
        self.connection_attempts = attempts;
        self
    }

    /// Sets [`retry_delay`](Self#structfield.retry_delay).
    #[must_use]
    pub fn retry_delay(mut self, delay: Duration) -> Self {
        self.retry_delay = delay;
        self
    }

    /// Sets [`stack_timeout`](Self#structfield.stack_timeout).
    #[must_use]
    pub fn stack_timeout(mut self, timeout: Duration) -> Self {
        self.stack_timeout = timeout;
        self
    }

    /// Sets [`tcp`](Self#structfield.tcp).
    #[must_use]
    pub fn tcp(mut self, options: TcpOptions) -> Self {
        self.tcp = options;
        self
    }

    /// Sets [`config`](Self#structfield.config).
    #[must_use]
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }
}

impl Default for ConnectionParameters {
    fn default() -> Self {
        Self {
            hosts: [Host::new("localhost")].into(),
            tls: None,
            connection_timeout: Duration::from_secs(10),
            connection_attempts: 1,
            retry_delay: Duration::from_secs(2),
            stack_timeout: Duration::from_secs(15),
            tcp: TcpOptions::default(),
            config: Config::default(),
        }
    }
}

impl From<&str> for ConnectionParameters {
    fn from(host: &str) -> Self {
        Self::default().hosts([Host::new(host)])
    }
}

impl From<String> for ConnectionParameters {
    fn from(host: String) -> Self {
        Self::default().hosts([Host::new(host)])
    }
}

pub(crate) fn default_port(tls: bool) -> u16 {
    if tls { 5671 } else { 5672 }
}

/// A broker's name or IP address, and its port.
///
/// `Display` is how it stands in a URI: an IPv6 address in brackets, the port if there is one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Host {
    /// A DNS name, an IPv4 address, or an IPv6 address without brackets, which may have a zone:
    /// "fe80::1%eth0".
    pub name: String,
    /// The TCP port; `None` is 5672, or 5671 with TLS.
    pub port: Option<u16>,
}

impl Host {
    /// This host on the default port.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            port: None,
        }
    }

    /// The same host on this port.
    #[must_use]
    pub fn port(mut self, port: u16) -> Self {
        self.port = Some(port);
        self
    }
}

impl From<&str> for Host {
    fn from(name: &str) -> Self {
        Self::new(name)
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name.split_once('%') {
            _ if !self.name.contains(':') => f.write_str(&self.name)?,
            Some((address, zone)) => write!(f, "[{address}%25{zone}]")?,
            None => write!(f, "[{}]", self.name)?,
        }
        match self.port {
            Some(port) => write!(f, ":{port}"),
            None => Ok(()),
        }
    }
}

/// Whether this is an IPv6 address, without brackets or zone.
pub(crate) fn is_ipv6(address: &str) -> bool {
    address.parse::<Ipv6Addr>().is_ok()
}

/// Options of the TCP socket (pika's `tcp_options`).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TcpOptions {
    /// Send small writes at once (`TCP_NODELAY`). Default on: without it a round trip can cost 40 ms.
    pub nodelay: bool,
    /// After how much silence the kernel probes the peer (`SO_KEEPALIVE`, `TCP_KEEPIDLE`); `None`, the
    /// default, does not probe. Worth it where heartbeats are off.
    pub keepalive: Option<Duration>,
}

impl TcpOptions {
    /// Sets [`nodelay`](Self#structfield.nodelay).
    #[must_use]
    pub fn nodelay(mut self, nodelay: bool) -> Self {
        self.nodelay = nodelay;
        self
    }

    /// Sets [`keepalive`](Self#structfield.keepalive).
    #[must_use]
    pub fn keepalive(mut self, idle: Option<Duration>) -> Self {
        self.keepalive = idle;
        self
    }
}

impl Default for TcpOptions {
    fn default() -> Self {
        Self {
            nodelay: true,
            keepalive: None,
        }
    }
}

/// What to ask of TLS, as data (RabbitMQ pages "TLS Support" and "URI Query Parameters"); the paths are read
/// by the adapter. The default checks the server's certificate for the host's name against the system's
/// roots.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct TlsParameters {
    /// A PEM file of certificates to trust, in place of the system's roots (`cacertfile`).
    pub ca_certificate: Option<String>,
    /// A PEM file with the client's certificate and its chain (`certfile`).
    pub client_certificate: Option<String>,
    /// A PEM file with the client's private key (`keyfile`); `None` looks for it in the certificate's file.
    pub private_key: Option<String>,
    /// What the private key is encrypted with (`password` in a URI's query).
    pub key_password: Option<Secret>,
    /// Default: verify.
    pub verification: PeerVerification,
    /// Default: the host's name.
    pub server_name: ServerName,
    /// How many intermediate certificates may follow the server's (`depth`); `None` is the TLS library's
    /// default.
    pub depth: Option<u32>,
}

impl TlsParameters {
    /// Sets [`ca_certificate`](Self#structfield.ca_certificate).
    #[must_use]
    pub fn ca_certificate(mut self, path: impl Into<String>) -> Self {
        self.ca_certificate = Some(path.into());
        self
    }

    /// Sets [`client_certificate`](Self#structfield.client_certificate) and
    /// [`private_key`](Self#structfield.private_key).
    #[must_use]
    pub fn client_certificate(mut self, certificate: impl Into<String>, key: impl Into<String>) -> Self {
        self.client_certificate = Some(certificate.into());
        self.private_key = Some(key.into());
        self
    }

    /// Sets [`key_password`](Self#structfield.key_password).
    #[must_use]
    pub fn key_password(mut self, password: impl Into<Secret>) -> Self {
        self.key_password = Some(password.into());
        self
    }

    /// Sets [`verification`](Self#structfield.verification).
    #[must_use]
    pub fn verification(mut self, verification: PeerVerification) -> Self {
        self.verification = verification;
        self
    }

    /// Sets [`server_name`](Self#structfield.server_name).
    #[must_use]
    pub fn server_name(mut self, server_name: ServerName) -> Self {
        self.server_name = server_name;
        self
    }

    /// Sets [`depth`](Self#structfield.depth).
    #[must_use]
    pub fn depth(mut self, depth: u32) -> Self {
        self.depth = Some(depth);
        self
    }
}

/// Whether the server has to prove who it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PeerVerification {
    /// The certificate chain and the name are checked (`verify_peer`).
    #[default]
    VerifyPeer,
    /// Neither is (`verify_none`): encrypted, but to whomever. For tests only.
    VerifyNone,
}

/// The name the client asks for (server name indication) and expects in the certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ServerName {
    /// The name of the host connected to.
    #[default]
    Host,
    /// This name, for example behind a tunnel or a load balancer.
    Name(String),
    /// No indication is sent (`disable`). The certificate still has to fit the host's name, which Erlang's client
    /// does not check any more then.
    Disable,
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;
    use alloc::string::ToString;

    #[test]
    fn defaults() {
        let parameters = ConnectionParameters::default();
        assert_eq!(parameters.addresses().collect::<Vec<_>>(), [("localhost", 5672)]);
        assert!(parameters.tls.is_none());
        assert_eq!(parameters.connection_timeout, Duration::from_secs(10));
        assert_eq!(parameters.connection_attempts, 1);
        assert_eq!(parameters.retry_delay, Duration::from_secs(2));
        assert_eq!(parameters.stack_timeout, Duration::from_secs(15));
        assert_eq!(
            parameters.tcp,
            TcpOptions {
                nodelay: true,
                keepalive: None
            }
        );
        assert_eq!(parameters.validate(), Ok(()));

        let old = ConnectionParameters::pika_0_9();
        assert_eq!(old.connection_timeout, Duration::from_millis(250));
        assert_eq!(old.config.heartbeat.negotiate(60), 0);
        assert_eq!(old.addresses().collect::<Vec<_>>(), [("localhost", 5672)]);
    }

    #[test]
    fn a_text_is_a_host_name_as_it_stands() {
        for text in ["localhost", "10.0.0.1", "::1", "amqp://x", "", "a b"] {
            assert_eq!(ConnectionParameters::from(text).hosts, [Host::new(text)]);
            assert_eq!(
                ConnectionParameters::from(String::from(text)).hosts,
                [Host::from(text)]
            );
        }
    }

    #[test]
    fn setters_set() {
        let tls = TlsParameters::default()
            .ca_certificate("ca")
            .client_certificate("cert", "key")
            .key_password("pw")
            .verification(PeerVerification::VerifyNone)
            .server_name(ServerName::Disable)
            .depth(3);
        let parameters = ConnectionParameters::default()
            .hosts([Host::new("a"), Host::new("b").port(1)])
            .tls(tls)
            .connection_timeout(Duration::from_secs(1))
            .connection_attempts(2)
            .retry_delay(Duration::from_secs(3))
            .stack_timeout(Duration::from_secs(4))
            .tcp(
                TcpOptions::default()
                    .nodelay(false)
                    .keepalive(Some(Duration::from_secs(5))),
            )
            .config(Config::default().virtual_host("v"));
        assert_eq!(
            parameters.addresses().collect::<Vec<_>>(),
            [("a", 5671), ("b", 1)]
        );
        assert_eq!(parameters.connection_timeout, Duration::from_secs(1));
        assert_eq!(parameters.connection_attempts, 2);
        assert_eq!(parameters.retry_delay, Duration::from_secs(3));
        assert_eq!(parameters.stack_timeout, Duration::from_secs(4));
        assert_eq!(
            parameters.tcp,
            TcpOptions {
                nodelay: false,
                keepalive: Some(Duration::from_secs(5))
            }
        );
        assert_eq!(parameters.config.virtual_host, "v");
        let tls = parameters.tls.unwrap();
        assert_eq!(tls.ca_certificate.as_deref(), Some("ca"));
        assert_eq!(tls.client_certificate.as_deref(), Some("cert"));
        assert_eq!(tls.private_key.as_deref(), Some("key"));
        assert_eq!(
            tls.key_password.as_ref().map(Secret::expose),
            Some(b"pw".as_slice())
        );
        assert_eq!(tls.verification, PeerVerification::VerifyNone);
        assert_eq!(tls.server_name, ServerName::Disable);
        assert_eq!(tls.depth, Some(3));
        assert!(!format!("{tls:?}").contains("pw"));
    }

    #[test]
    fn validate_names_the_bad_part() {
        let with = |change: fn(ConnectionParameters) -> ConnectionParameters| {
            change(ConnectionParameters::default()).validate()
        };
        assert_eq!(with(|p| p.hosts([])), Err(ConfigError::NoHosts));
        assert_eq!(
            with(|p| p.hosts(["a".into(), "".into()])),
            Err(ConfigError::EmptyHost { position: 2 })
        );
        assert_eq!(
            with(|p| p.hosts([Host::new("a").port(0)])),
            Err(ConfigError::PortZero { position: 1 })
        );
        assert_eq!(with(|p| p.connection_attempts(0)), Err(ConfigError::NoAttempts));
        assert_eq!(
            with(|p| p.config(Config::default().locale(""))),
            Err(ConfigError::Locale { length: 0 })
        );
        assert_eq!(with(|p| p.connection_attempts(1)), Ok(()));
    }

    #[test]
    fn hosts_print_as_in_a_uri() {
        for (host, text) in [
            (Host::new("h"), "h"),
            (Host::new("h").port(1), "h:1"),
            (Host::new("::1"), "[::1]"),
            (Host::new("::1").port(65535), "[::1]:65535"),
            (Host::new("fe80::1%eth0").port(2), "[fe80::1%25eth0]:2"),
        ] {
            assert_eq!(host.to_string(), text);
        }
        assert!(is_ipv6("fe80::1") && !is_ipv6("127.0.0.1") && !is_ipv6("::g"));
    }
}
