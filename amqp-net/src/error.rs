//! Why no broker was reached.

use std::error::Error;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::slice;
use std::time::Duration;

use amqp_proto::{CloseReason, ConfigError, ConnectionState, Host, ProviderError, TransportError, UriError};

use crate::TlsError;

/// Why there is no connection.
///
/// `Display` has one line per cause.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The URI cannot be read; nothing was tried.
    #[error("{0}")]
    Uri(#[from] UriError),
    /// The parameters cannot work; nothing was tried.
    #[error("configuration: {0}")]
    Config(#[from] ConfigError),
    /// The TLS configuration cannot work; nothing was tried.
    #[error("TLS configuration: {0}")]
    Tls(#[from] TlsError),
    /// Everything that was tried has failed.
    #[error("{0}")]
    Attempts(FailedAttempts),
}

impl ConnectError {
    /// Whether at least one server's certificate was refused: signed by nobody trusted, for another name, expired.
    #[must_use]
    pub fn is_certificate_error(&self) -> bool {
        match self {
            Self::Attempts(attempts) => attempts.iter().any(|failed| failed.error.is_certificate_error()),
            _ => false,
        }
    }
}

/// How the last attempt failed, as a plan of further attempts wants it.
impl From<ConnectError> for CloseReason {
    fn from(error: ConnectError) -> Self {
        if let ConnectError::Attempts(attempts) = &error
            && let Some(last) = attempts.iter().last()
        {
            return last.error.clone().into();
        }
        Self::Transport {
            state: ConnectionState::WaitingForStart,
            error: TransportError::new(error),
        }
    }
}

impl From<FailedAttempts> for ConnectError {
    fn from(attempts: FailedAttempts) -> Self {
        Self::Attempts(attempts)
    }
}

/// All that was tried and failed, in the order of trying.
///
/// What fails again in the same way at the same place is counted, not repeated; at most [`LIMIT`](Self::LIMIT) different
/// failures are kept. `Display` has one line for each:
///
/// ```
/// use amqp_net::{AttemptError, FailedAttempts, Stage};
/// use std::io;
///
/// let mut failed = FailedAttempts::new();
/// let refused = AttemptError::io(Stage::Tcp, &io::ErrorKind::ConnectionRefused.into());
/// failed.push("b1", 5672, Some(([192, 0, 2, 1], 5672).into()), refused.clone());
/// failed.push("b1", 5672, Some(([192, 0, 2, 1], 5672).into()), refused);
/// failed.push("b2", 5672, None, AttemptError::NoAddress);
/// assert_eq!(
///     failed.to_string(),
///     "b1:5672 at 192.0.2.1:5672: connecting failed: connection refused (2 times)\nb2:5672: the name has no address",
/// );
/// ```
#[derive(Debug, Clone, Default, PartialEq)]
pub struct FailedAttempts {
    kept: Vec<FailedAttempt>,
    omitted: u64,
}

impl FailedAttempts {
    /// How many different failures are kept.
    pub const LIMIT: usize = 64;

    /// Nothing has failed yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Keeps or counts the failure of an attempt at this host; `address` is `None` if there was none yet.
    pub fn push(&mut self, name: &str, port: u16, address: Option<SocketAddr>, error: AttemptError) {
        let failed = FailedAttempt {
            host: Host::new(name).port(port),
            address,
            error,
            times: 1,
        };
        if let Some(known) = self.kept.iter_mut().find(|known| known.is_like(&failed)) {
            known.times = known.times.saturating_add(1);
        } else if self.kept.len() < Self::LIMIT {
            self.kept.push(failed);
        } else {
            self.omitted = self.omitted.saturating_add(1);
        }
    }

    /// Those that are kept.
    pub fn iter(&self) -> slice::Iter<'_, FailedAttempt> {
        self.kept.iter()
    }

    /// How many came after [`LIMIT`](Self::LIMIT) different ones and are lost.
    #[must_use]
    pub fn omitted(&self) -> u64 {
        self.omitted
    }

    /// Whether nothing has failed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }
}

impl<'a> IntoIterator for &'a FailedAttempts {
    type Item = &'a FailedAttempt;
    type IntoIter = slice::Iter<'a, FailedAttempt>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Display for FailedAttempts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for failed in self {
            write!(f, "{separator}{failed}")?;
            separator = "\n";
        }
        match self.omitted {
            0 if self.is_empty() => f.write_str("nothing was tried"),
            0 => Ok(()),
            omitted => write!(f, "\nand {omitted} more"),
        }
    }
}

/// One attempt that failed, once or several times.
///
/// `Display` is one line: where, why, how often.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct FailedAttempt {
    /// The host it went to, as it was configured, and the port.
    pub host: Host,
    /// Which of its addresses, if it was resolved.
    pub address: Option<SocketAddr>,
    /// Why it failed.
    pub error: AttemptError,
    /// How often.
    pub times: u32,
}

impl FailedAttempt {
    fn is_like(&self, other: &Self) -> bool {
        (&self.host, self.address, &self.error) == (&other.host, other.address, &other.error)
    }
}

impl fmt::Display for FailedAttempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = self.host.to_string();
        f.write_str(&host)?;
        if let Some(address) = self.address.map(|address| address.to_string())
            && address != host
        {
            write!(f, " at {address}")?;
        }
        write!(f, ": {}", OneLine(&self.error))?;
        if self.times > 1 {
            write!(f, " ({} times)", self.times)?;
        }
        Ok(())
    }
}

/// Control characters become spaces: what a broker says must not look like further lines.
struct OneLine<T>(T);

impl<T: fmt::Display> fmt::Display for OneLine<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.0.to_string();
        f.write_str(&text.replace(char::is_control, " "))
    }
}

/// Why one attempt failed.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum AttemptError {
    /// The resolver knows the name and has no address for it.
    #[error("the name has no address")]
    NoAddress,
    /// The system refused: an unknown name, a closed port, a stream that broke off.
    #[error("{stage} failed: {message}")]
    Io {
        /// What was being done.
        stage: Stage,
        /// What kind of error it is.
        kind: io::ErrorKind,
        /// The system's words.
        message: String,
    },
    /// It took too long.
    #[error("{stage} took longer than {limit:?}")]
    TimedOut {
        /// What was being done.
        stage: Stage,
        /// How long it might have taken.
        limit: Duration,
    },
    /// The TLS handshake failed; rustls tells why.
    #[error("{stage} failed: {0}", stage = Stage::Tls)]
    Tls(#[source] rustls::Error),
    /// The TLS configuration does not fit this host, for example because its name is none that a certificate can have.
    #[error("TLS configuration: {0}")]
    TlsConfig(#[from] TlsError),
    /// There were no credentials to try it with.
    #[error("{0}")]
    Credentials(#[from] ProviderError),
    /// The broker or the protocol ended it before the connection was open.
    #[error("{0}")]
    Closed(#[from] CloseReason),
}

impl AttemptError {
    /// What a socket, a resolver or a TLS stream said. An error of rustls, which TLS streams wrap in an [`io::Error`],
    /// becomes [`Tls`](Self::Tls).
    #[must_use]
    pub fn io(stage: Stage, error: &io::Error) -> Self {
        match rustls_error(error) {
            Some(tls) => Self::Tls(tls.clone()),
            None => Self::Io {
                stage,
                kind: error.kind(),
                message: error.to_string(),
            },
        }
    }

    /// Whether we refused the server's certificate: signed by nobody trusted, for another name, expired. The exact
    /// [`rustls::CertificateError`] is inside [`Tls`](Self::Tls).
    #[must_use]
    pub fn is_certificate_error(&self) -> bool {
        matches!(self, Self::Tls(rustls::Error::InvalidCertificate(_)))
    }
}

impl From<rustls::Error> for AttemptError {
    fn from(error: rustls::Error) -> Self {
        Self::Tls(error)
    }
}

/// What a [`Reconnect`](amqp_proto::Reconnect) is told: the protocol's reason as it is, all else as a transport that failed
/// before the broker said anything, which is worth another try.
impl From<AttemptError> for CloseReason {
    fn from(error: AttemptError) -> Self {
        match error {
            AttemptError::Closed(reason) => reason,
            other => Self::Transport {
                state: ConnectionState::WaitingForStart,
                error: TransportError::new(other),
            },
        }
    }
}

fn rustls_error(error: &io::Error) -> Option<&rustls::Error> {
    let inner: &(dyn Error + Send + Sync + 'static) = error.get_ref()?;
    match inner.downcast_ref::<io::Error>() {
        Some(wrapped) => rustls_error(wrapped),
        None => inner.downcast_ref(),
    }
}

/// What an attempt was doing; `Display` says it in words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Stage {
    /// Asking for the addresses of a name.
    Resolve,
    /// Opening the TCP connection.
    Tcp,
    /// The TLS handshake.
    Tls,
    /// The AMQP handshake, up to `connection.open-ok`.
    Amqp,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Resolve => "resolving the name",
            Self::Tcp => "connecting",
            Self::Tls => "the TLS handshake",
            Self::Amqp => "the AMQP handshake",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::CertificateError;

    fn refused() -> AttemptError {
        AttemptError::io(Stage::Tcp, &io::ErrorKind::ConnectionRefused.into())
    }

    fn unknown_issuer() -> AttemptError {
        rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer).into()
    }

    fn message(attempts: &[(&str, Option<&str>, AttemptError)]) -> String {
        let mut failed = FailedAttempts::new();
        for (name, address, error) in attempts {
            let address = address.map(|text| text.parse().unwrap());
            failed.push(name, 5671, address, error.clone());
        }
        ConnectError::from(failed).to_string()
    }

    #[test]
    fn one_readable_line_per_cause() {
        let resolve = AttemptError::io(Stage::Resolve, &io::Error::other("Name or service not known"));
        let slow = AttemptError::TimedOut {
            stage: Stage::Tls,
            limit: Duration::from_secs(15),
        };
        assert_eq!(
            message(&[
                ("b1", None, resolve),
                ("b2", Some("10.0.0.2:5671"), refused()),
                ("b2", Some("[::2]:5671"), unknown_issuer()),
                ("b2", Some("10.0.0.2:5671"), refused()),
                ("10.0.0.3", Some("10.0.0.3:5671"), slow),
                ("::4", Some("[::4]:5671"), AttemptError::NoAddress),
            ]),
            "b1:5671: resolving the name failed: Name or service not known\n\
             b2:5671 at 10.0.0.2:5671: connecting failed: connection refused (2 times)\n\
             b2:5671 at [::2]:5671: the TLS handshake failed: invalid peer certificate: UnknownIssuer\n\
             10.0.0.3:5671: the TLS handshake took longer than 15s\n\
             [::4]:5671: the name has no address"
        );
        assert_eq!(message(&[]), "nothing was tried");
    }

    #[test]
    fn what_a_broker_says_stays_on_its_line() {
        let closed = AttemptError::io(Stage::Amqp, &io::Error::other("gone\nb2:1: fine\x1b[0m"));
        assert_eq!(
            message(&[("b1", None, closed)]),
            "b1:5671: the AMQP handshake failed: gone b2:1: fine [0m"
        );
    }

    #[test]
    fn what_was_not_tried_says_so_too() {
        let config = ConnectError::from(ConfigError::NoHosts);
        assert_eq!(
            config.to_string(),
            "configuration: hosts: there must be at least one"
        );
        let tls = ConnectError::from(TlsError::NoRoots);
        assert_eq!(
            tls.to_string(),
            format!("TLS configuration: {}", TlsError::NoRoots)
        );
        assert!(!config.is_certificate_error() && !tls.is_certificate_error());
    }

    #[test]
    fn any_number_of_failures_takes_a_limited_room() {
        let mut failed = FailedAttempts::new();
        for port in 0..=FailedAttempts::LIMIT {
            failed.push("b", u16::try_from(port).unwrap(), None, refused());
        }
        failed.push("b", 0, None, refused());
        failed.push("b", 0, None, unknown_issuer());
        assert_eq!(
            (failed.iter().count(), failed.omitted()),
            (FailedAttempts::LIMIT, 2)
        );
        assert_eq!(failed.iter().next().unwrap().times, 2);
        assert!(failed.to_string().ends_with("\nand 2 more"));
        assert_eq!(failed.to_string().lines().count(), FailedAttempts::LIMIT + 1);
    }

    #[test]
    fn certificate_errors_are_told_from_others() {
        let mut failed = FailedAttempts::new();
        failed.push("b", 1, None, refused());
        assert!(!ConnectError::from(failed.clone()).is_certificate_error());
        failed.push("b", 1, None, rustls::Error::HandshakeNotComplete.into());
        assert!(!ConnectError::from(failed.clone()).is_certificate_error());
        failed.push("b", 1, None, unknown_issuer());
        assert!(ConnectError::from(failed).is_certificate_error());
    }

    #[test]
    fn errors_of_rustls_are_found_inside_those_of_streams() {
        let tls = rustls::Error::InvalidCertificate(CertificateError::Expired);
        let wrapped = io::Error::new(io::ErrorKind::InvalidData, tls.clone());
        assert_eq!(AttemptError::io(Stage::Tls, &wrapped), tls.clone().into());
        let twice = io::Error::other(io::Error::other(tls.clone()));
        assert_eq!(AttemptError::io(Stage::Tls, &twice), tls.into());
        let plain = io::Error::new(io::ErrorKind::UnexpectedEof, "tls handshake eof");
        assert_eq!(
            AttemptError::io(Stage::Tls, &plain),
            AttemptError::Io {
                stage: Stage::Tls,
                kind: io::ErrorKind::UnexpectedEof,
                message: "tls handshake eof".into()
            }
        );
    }

    #[test]
    fn the_protocols_reasons_are_kept() {
        let closed = CloseReason::Config(ConfigError::NoAttempts);
        let error = AttemptError::from(closed.clone());
        assert_eq!(error.to_string(), closed.to_string());
        assert_eq!(CloseReason::from(error), closed);
    }

    #[test]
    fn to_a_reconnection_all_else_is_a_transport_that_failed() {
        let reason = CloseReason::from(AttemptError::NoAddress);
        assert!(!reason.is_permanent());
        assert_eq!(
            reason.to_string(),
            "connection lost while waiting for connection.start: the name has no address"
        );
    }
}
