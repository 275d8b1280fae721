//! The private nodes' ports on 127.0.0.1.

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::str::FromStr;

use anyhow::{Context, Error, Result};

/// Below the ports that systems give to outgoing connections, so none of those takes one of ours.
const RANGE: std::ops::Range<u16> = 20_000..30_000;

/// A port for each thing of a node that listens. The nodes of a cluster share an epmd.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ports {
    pub(super) amqp: u16,
    pub(super) amqps: u16,
    pub(super) distribution: u16,
    pub(super) epmd: u16,
}

impl Ports {
    /// Chooses free ports for that many nodes of one epmd. The search starts at a place that depends on the folder: each
    /// keeps its ports from one start to the next, and two that start at the same time are unlikely to meet.
    pub(super) fn choose<const N: usize>(folder: &Path) -> Result<[Self; N]> {
        let mut hasher = DefaultHasher::new();
        folder.hash(&mut hasher);
        let first = usize::try_from(hasher.finish() % RANGE.len() as u64)?;
        let is_free = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
        Self::search(first, is_free)
            .with_context(|| format!("of the ports of 127.0.0.1 in {RANGE:?} too few are free"))
    }

    fn search<const N: usize>(first: usize, is_free: impl Fn(u16) -> bool) -> Option<[Self; N]> {
        let mut free = RANGE
            .cycle()
            .skip(first)
            .take(RANGE.len())
            .filter(|&port| is_free(port));
        let epmd = free.next()?;
        let mut node = || {
            Some(Self {
                amqp: free.next()?,
                amqps: free.next()?,
                distribution: free.next()?,
                epmd,
            })
        };
        let nodes: Option<Vec<_>> = (0..N).map(|_| node()).collect();
        nodes?.try_into().ok()
    }

    /// Whether clients can connect, with and without TLS.
    pub(super) fn accept_clients(&self) -> bool {
        accepts(self.amqp) && accepts(self.amqps)
    }

    /// Whether some still can, with or without TLS.
    pub(super) fn accept_any_client(&self) -> bool {
        accepts(self.amqp) || accepts(self.amqps)
    }
}

/// Whether something listens on this port of 127.0.0.1.
pub(super) fn accepts(port: u16) -> bool {
    TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok()
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            amqp,
            amqps,
            distribution,
            epmd,
        } = self;
        write!(
            f,
            "amqp={amqp}\namqps={amqps}\ndistribution={distribution}\nepmd={epmd}\n"
        )
    }
}

impl FromStr for Ports {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let port = |name: &str| -> Result<u16> {
            let mut lines = text.lines().filter_map(|line| line.split_once('='));
            let (_, value) = lines
                .find(|(key, _)| *key == name)
                .with_context(|| format!("no port {name}"))?;
            value.parse().with_context(|| format!("port {name}"))
        };
        Ok(Self {
            amqp: port("amqp")?,
            amqps: port("amqps")?,
            distribution: port("distribution")?,
            epmd: port("epmd")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_read_as_written() {
        let ports = Ports {
            amqp: 20_001,
            amqps: 20_002,
            distribution: 20_003,
            epmd: 20_004,
        };
        assert_eq!(ports.to_string().parse::<Ports>().expect("well-formed"), ports);
    }

    #[test]
    fn a_truncated_file_is_an_error() {
        let error = "amqp=20001\namqps=2000"
            .parse::<Ports>()
            .expect_err("two ports are missing");
        assert_eq!(error.to_string(), "no port distribution");
    }

    #[test]
    fn taken_ports_are_passed_over() {
        let found = Ports::search(9_997, |port| port != 29_999 && port != 20_001);
        let first = Ports {
            amqp: 29_998,
            amqps: 20_000,
            distribution: 20_002,
            epmd: 29_997,
        };
        let second = Ports {
            amqp: 20_003,
            amqps: 20_004,
            distribution: 20_005,
            epmd: 29_997,
        };
        assert_eq!(found, Some([first, second]));
        assert_eq!(Ports::search::<1>(0, |port| port < 20_003), None);
    }
}
