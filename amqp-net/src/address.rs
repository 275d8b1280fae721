//! Which hosts to try, when, and in which order their addresses.

use std::collections::HashSet;
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;
use std::vec;

use amqp_proto::{ConnectionParameters, Host};

/// The addresses of one host in the order of trying them: the families take turns, beginning with that of the first one
/// resolved (RFC 8305, section 4), so that one broken family does not cost every timeout it has. Within a family the
/// resolver's order stays; duplicates are dropped.
///
/// ```
/// # use amqp_net::order;
/// let resolved = ["[::1]:5672", "[::2]:5672", "10.0.0.1:5672", "[::1]:5672"].map(|a| a.parse().unwrap());
/// let expected = ["[::1]:5672", "10.0.0.1:5672", "[::2]:5672"].map(|a| a.parse().unwrap());
/// assert_eq!(order(resolved), expected);
/// ```
#[must_use]
pub fn order(resolved: impl IntoIterator<Item = SocketAddr>) -> Vec<SocketAddr> {
    let mut seen = HashSet::new();
    let distinct: Vec<_> = resolved
        .into_iter()
        .filter(|address| seen.insert(*address))
        .collect();
    let first_family = distinct.first().is_some_and(SocketAddr::is_ipv6);
    let (first, second): (Vec<_>, Vec<_>) = distinct
        .into_iter()
        .partition(|address| address.is_ipv6() == first_family);
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    let mut ordered = Vec::with_capacity(first.len() + second.len());
    while first.len() + second.len() > 0 {
        ordered.extend(first.next());
        ordered.extend(second.next());
    }
    ordered
}

/// The plan for a first connection: every host in its order, as often as
/// [`connection_attempts`](ConnectionParameters#structfield.connection_attempts) says, with
/// [`retry_delay`](ConnectionParameters#structfield.retry_delay) between two rounds.
///
/// It ends when nothing is left to try. Without hosts or without attempts it is empty, although
/// [`ConnectionParameters::validate`] refuses both.
#[derive(Debug, Clone)]
pub struct Attempts {
    hosts: Vec<(String, u16)>,
    round: vec::IntoIter<(String, u16)>,
    rounds_left: u32,
    delay: Duration,
}

impl Attempts {
    /// The plan that these parameters describe.
    #[must_use]
    pub fn new(parameters: &ConnectionParameters) -> Self {
        let hosts: Vec<_> = parameters
            .addresses()
            .map(|(name, port)| (name.to_owned(), port))
            .collect();
        let (first, rounds_left) = match parameters.connection_attempts.checked_sub(1) {
            Some(more) if !hosts.is_empty() => (hosts.clone(), more),
            _ => (Vec::new(), 0),
        };
        Self {
            hosts,
            round: first.into_iter(),
            rounds_left,
            delay: parameters.retry_delay,
        }
    }
}

impl Iterator for Attempts {
    type Item = Attempt;

    fn next(&mut self) -> Option<Attempt> {
        if let Some((name, port)) = self.round.next() {
            return Some(Attempt::Host { name, port });
        }
        self.rounds_left = self.rounds_left.checked_sub(1)?;
        self.round = self.hosts.clone().into_iter();
        Some(Attempt::Wait(self.delay))
    }
}

/// One step of [`Attempts`].
///
/// `Display` is the host as in a URI, or how long to wait.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Attempt {
    /// Resolve this host and try its addresses.
    Host {
        /// A DNS name or an IP address, see [`Host::name`].
        name: String,
        /// The TCP port.
        port: u16,
    },
    /// Every host has failed: wait this long before the next round.
    Wait(Duration),
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host { name, port } => Host::new(name.as_str()).port(*port).fmt(f),
            Self::Wait(delay) => write!(f, "wait {delay:?}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A digit is an IPv4 address, a letter one of IPv6.
    fn address(name: char) -> SocketAddr {
        let text = if name.is_ascii_digit() {
            format!("192.0.2.{name}:5672")
        } else {
            format!("[2001:db8::{name}]:5672")
        };
        text.parse().unwrap()
    }

    #[test]
    fn families_take_turns() {
        for (resolved, expected) in [
            ("", ""),
            ("1", "1"),
            ("a", "a"),
            ("12", "12"),
            ("abc", "abc"),
            ("ab12", "a1b2"),
            ("12ab", "1a2b"),
            ("a12", "a12"),
            ("abc1", "a1bc"),
            ("1abc2", "1a2bc"),
            ("aa1b1a", "a1b"),
        ] {
            let expected: Vec<_> = expected.chars().map(address).collect();
            assert_eq!(order(resolved.chars().map(address)), expected, "{resolved}");
        }
    }

    #[test]
    fn another_port_or_zone_is_another_address() {
        let different =
            ["10.0.0.1:1", "10.0.0.1:2", "[fe80::1%1]:1", "[fe80::1%2]:1"].map(|text| text.parse().unwrap());
        assert_eq!(order(different).len(), 4);
    }

    fn plan(parameters: &ConnectionParameters) -> Vec<String> {
        Attempts::new(parameters)
            .map(|attempt| attempt.to_string())
            .collect()
    }

    #[test]
    fn rounds_with_a_pause_between() {
        let two = ConnectionParameters::default()
            .hosts([Host::new("a"), Host::new("::1").port(7)])
            .retry_delay(Duration::from_millis(1500));
        assert_eq!(plan(&two), ["a:5672", "[::1]:7"]);
        let twice = two.clone().connection_attempts(2);
        assert_eq!(
            plan(&twice),
            ["a:5672", "[::1]:7", "wait 1.5s", "a:5672", "[::1]:7"]
        );
        let one = ConnectionParameters::from("a")
            .tls(amqp_proto::TlsParameters::default())
            .connection_attempts(3);
        assert_eq!(plan(&one), ["a:5671", "wait 2s", "a:5671", "wait 2s", "a:5671"]);
    }

    #[test]
    fn nothing_to_try_is_an_empty_plan_that_stays_empty() {
        let nobody = ConnectionParameters::default().hosts([]).connection_attempts(9);
        let never = ConnectionParameters::default().connection_attempts(0);
        for parameters in [nobody, never] {
            let mut attempts = Attempts::new(&parameters);
            assert_eq!((attempts.next(), attempts.next()), (None, None));
        }
        let mut once = Attempts::new(&ConnectionParameters::default());
        assert_eq!(once.by_ref().count(), 1);
        assert_eq!(once.next(), None);
    }

    #[test]
    fn any_number_of_rounds_is_possible() {
        let endless = ConnectionParameters::from("a").connection_attempts(u32::MAX);
        assert_eq!(Attempts::new(&endless).take(100_001).count(), 100_001);
    }
}
