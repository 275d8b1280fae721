//! The way to a first connection, as a state machine: an adapter does what it says, and tells how it went.

use std::net::SocketAddr;
use std::time::Duration;
use std::vec;

use amqp_proto::ConnectionParameters;

use crate::{Attempt, AttemptError, Attempts, ConnectError, FailedAttempts, order};

/// The search for a broker that lets us in: each host and each of its addresses in turn, as often as the parameters say.
///
/// It does nothing itself. Ask for the [next step](Self::next_step), do it, and tell how it went: [`resolved`](Self::resolved) after
/// [`Step::Resolve`], [`failed`](Self::failed) after a [`Step::Connect`] without success. A step of which nothing is told is passed over.
///
/// ```
/// use amqp_net::{AttemptError, Search, Stage, Step};
/// use amqp_proto::ConnectionParameters;
/// use std::io::ErrorKind;
///
/// let parameters = ConnectionParameters::from_uri("amqp://b1,b2").unwrap();
/// let mut search = Search::new(&parameters);
/// while let Some(step) = search.next_step() {
///     match step {
///         Step::Resolve { name, .. } if name == "b2" => search.resolved(Ok(vec![])),
///         Step::Resolve { port, .. } => search.resolved(Ok(vec![([192, 0, 2, 1], port).into()])),
///         Step::Connect { .. } => search.failed(AttemptError::io(Stage::Tcp, &ErrorKind::ConnectionRefused.into())),
///         _ => {} // A pause.
///     }
/// }
/// assert_eq!(
///     search.into_error().to_string(),
///     "b1:5672 at 192.0.2.1:5672: connecting failed: connection refused\nb2:5672: the name has no address",
/// );
/// ```
#[derive(Debug, Clone)]
pub struct Search {
    attempts: Attempts,
    /// Whose turn it is.
    name: String,
    port: u16,
    /// Those of its addresses that are left.
    addresses: vec::IntoIter<SocketAddr>,
    /// Where we are connecting to.
    address: Option<SocketAddr>,
    failed: FailedAttempts,
    is_over: bool,
}

/// What to do next in a [`Search`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Step {
    /// Look up the addresses of this host.
    Resolve {
        /// A DNS name or an IP address.
        name: String,
        /// The TCP port.
        port: u16,
    },
    /// Connect to this address, up to the end of the AMQP handshake.
    Connect {
        /// The host's name, for TLS.
        name: String,
        /// One of its addresses, with the port.
        address: SocketAddr,
    },
    /// Every host has failed: wait this long.
    Wait(Duration),
}

impl Search {
    /// The search that these parameters describe.
    #[must_use]
    pub fn new(parameters: &ConnectionParameters) -> Self {
        Self {
            attempts: Attempts::new(parameters),
            name: String::new(),
            port: 0,
            addresses: Vec::new().into_iter(),
            address: None,
            failed: FailedAttempts::new(),
            is_over: false,
        }
    }

    /// What to do next; `None` when nothing is left to try.
    pub fn next_step(&mut self) -> Option<Step> {
        if self.is_over {
            return None;
        }
        self.address = self.addresses.next();
        if let Some(address) = self.address {
            let name = self.name.clone();
            return Some(Step::Connect { name, address });
        }
        match self.attempts.next()? {
            Attempt::Host { name, port } => {
                (self.name, self.port) = (name.clone(), port);
                Some(Step::Resolve { name, port })
            }
            Attempt::Wait(delay) => Some(Step::Wait(delay)),
        }
    }

    /// The addresses of the host that was to be resolved, in the resolver's order: they are tried in that of [`order`].
    pub fn resolved(&mut self, addresses: Result<Vec<SocketAddr>, AttemptError>) {
        match addresses {
            Ok(addresses) if addresses.is_empty() => self.failed(AttemptError::NoAddress),
            Ok(addresses) => self.addresses = order(addresses).into_iter(),
            Err(error) => self.failed(error),
        }
    }

    /// Why the last step failed. What every host would say again, such as that the password is wrong, ends the search.
    pub fn failed(&mut self, error: AttemptError) {
        self.is_over = matches!(&error, AttemptError::Closed(reason) if reason.is_permanent());
        self.failed.push(&self.name, self.port, self.address, error);
    }

    /// All that has failed.
    #[must_use]
    pub fn into_error(self) -> ConnectError {
        self.failed.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Stage;
    use amqp_proto::{CloseReason, Host, SaslError};
    use std::io::ErrorKind;

    fn two_hosts_twice() -> ConnectionParameters {
        ConnectionParameters::default()
            .hosts([Host::new("a"), Host::new("b").port(7)])
            .connection_attempts(2)
            .retry_delay(Duration::from_secs(3))
    }

    fn refused() -> AttemptError {
        AttemptError::io(Stage::Tcp, &ErrorKind::ConnectionRefused.into())
    }

    /// Resolves as told, fails to connect as told, and lists the steps.
    fn walk(
        search: &mut Search,
        resolve: impl Fn(&str) -> Result<Vec<SocketAddr>, AttemptError>,
        connect: impl Fn() -> AttemptError,
    ) -> Vec<String> {
        let mut steps = Vec::new();
        while let Some(step) = search.next_step() {
            steps.push(match step {
                Step::Resolve { name, port } => {
                    search.resolved(resolve(&name));
                    format!("{name}:{port}")
                }
                Step::Connect { name, address } => {
                    search.failed(connect());
                    format!("{name} {address}")
                }
                Step::Wait(delay) => format!("{delay:?}"),
            });
        }
        steps
    }

    fn resolve(name: &str) -> Result<Vec<SocketAddr>, AttemptError> {
        match name {
            "a" => Ok(["[::1]:1", "[::2]:1", "10.0.0.1:1"]
                .map(|address| address.parse().unwrap())
                .to_vec()),
            _ => Ok(vec![]),
        }
    }

    #[test]
    fn every_address_of_every_host_in_every_round() {
        let mut search = Search::new(&two_hosts_twice());
        let round = ["a:5672", "a [::1]:1", "a 10.0.0.1:1", "a [::2]:1", "b:7"];
        let steps = walk(&mut search, resolve, refused);
        assert_eq!(steps, [&round[..], &["3s"], &round[..]].concat());
        assert_eq!(
            search.into_error().to_string(),
            "a:5672 at [::1]:1: connecting failed: connection refused (2 times)\n\
             a:5672 at 10.0.0.1:1: connecting failed: connection refused (2 times)\n\
             a:5672 at [::2]:1: connecting failed: connection refused (2 times)\n\
             b:7: the name has no address (2 times)"
        );
    }

    #[test]
    fn a_host_that_is_not_known_is_passed_over() {
        let mut search = Search::new(&two_hosts_twice().connection_attempts(1));
        let unknown = |_: &str| Err(AttemptError::io(Stage::Resolve, &ErrorKind::NotFound.into()));
        assert_eq!(walk(&mut search, unknown, refused), ["a:5672", "b:7"]);
        let error = search.into_error().to_string();
        assert!(
            error.starts_with("a:5672: resolving the name failed: "),
            "{error}"
        );
        assert_eq!(error.lines().count(), 2);
    }

    #[test]
    fn what_every_host_would_say_ends_it() {
        let mut search = Search::new(&two_hosts_twice());
        let final_refusal = || CloseReason::Sasl(SaslError::CredentialsErased).into();
        assert_eq!(walk(&mut search, resolve, final_refusal), ["a:5672", "a [::1]:1"]);
        assert_eq!(search.next_step(), None);
        assert_eq!(search.into_error().to_string().lines().count(), 1);
    }

    #[test]
    fn a_broker_that_is_away_does_not_end_it() {
        let mut search = Search::new(&two_hosts_twice().connection_attempts(1));
        let passing = || CloseReason::AuthRefused { peer: None }.into();
        assert_eq!(walk(&mut search, resolve, passing).len(), 5);
    }
}
