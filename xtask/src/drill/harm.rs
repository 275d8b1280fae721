//! What is done to the broker.

use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::figures::Limits;
use crate::broker::{Cluster, ClusterLease, Member};
use crate::process::{read, run};

/// How long a paused node is silent: it is noticed after ten, and elections take seven.
const PAUSE: Duration = Duration::from_secs(20);
/// A node that is silent is noticed after two of them, in seconds.
const HEARTBEAT: u64 = 5;
/// Ten times what an election takes, and a node to take part again.
const PATIENCE: Duration = Duration::from_secs(90);

/// What is done to the node that leads the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Harm {
    /// It is killed without warning, and started again after the election.
    Kill,
    /// Its process stops for a while.
    Pause,
    /// All connections to all nodes are closed by an operator.
    Operator,
}

/// Who suffers.
#[derive(Debug)]
pub(super) enum Broker {
    Private { lease: ClusterLease, harm: Harm },
    Foreign { uri: String, command: String },
}

impl Broker {
    pub(super) fn private(harm: Harm) -> Result<Self> {
        let lease = ClusterLease::take()?;
        Ok(Self::Private { lease, harm })
    }

    pub(super) fn foreign(uri: &str, command: &str) -> Self {
        Self::Foreign {
            uri: uri.into(),
            command: command.into(),
        }
    }

    pub(super) fn uri(&self) -> String {
        match self {
            Self::Private { lease, .. } => format!("{}?heartbeat={HEARTBEAT}", lease.cluster.uri()),
            Self::Foreign { uri, .. } => uri.clone(),
        }
    }

    /// What an outage may take beside the election.
    pub(super) fn limits(&self) -> Limits {
        match self {
            Self::Private {
                harm: Harm::Pause, ..
            } => Limits::judged(Duration::from_secs(2 * HEARTBEAT)),
            Self::Private { .. } => Limits::judged(Duration::ZERO),
            Self::Foreign { .. } => Limits::default(),
        }
    }

    /// Does it, and waits until all nodes are there again. Says how long the election took, if there was one.
    pub(super) fn harm(&self, queue: &str) -> Result<Duration> {
        match self {
            Self::Private { lease, harm } => lease.cluster.harm(*harm, queue),
            Self::Foreign { command, .. } => {
                run(Command::new("sh").args(["-c", command]))?;
                Ok(Duration::ZERO)
            }
        }
    }
}

impl Cluster {
    fn harm(&self, harm: Harm, queue: &str) -> Result<Duration> {
        let state = State::of(self.any()?, queue)?;
        let leader = self.member(&state.leader)?;
        eprintln!("drill: {harm:?} while {} leads", leader.name());
        let start = Instant::now();
        match harm {
            Harm::Kill => leader.kill()?,
            Harm::Pause => leader.pause()?,
            Harm::Operator => {
                run(&mut self.any()?.control(&["-q", "close_all_connections", "drill"]))?;
                return Ok(Duration::ZERO);
            }
        }
        let others = || {
            self.members
                .iter()
                .filter(|member| member.name() != leader.name())
        };
        let other = others().next().context("a cluster of one node")?;
        let outcome = wait_until("another node leads", || {
            Ok(State::of(other, queue)?.leader != leader.name())
        });
        let election = start.elapsed();
        // Whatever came of it: a node that is left stopped is in nobody's way, but nobody's help either.
        match harm {
            Harm::Pause => {
                sleep(PAUSE.saturating_sub(start.elapsed()));
                leader.resume()?;
            }
            _ => leader.restart()?,
        }
        outcome?;
        eprintln!("drill: another node leads after {election:?}");
        let count = self.members.len();
        wait_until("the node takes part again", || {
            Ok(State::of(other, queue)?.online == count)
        })?;
        Ok(election)
    }

    /// One to ask while all are well.
    fn any(&self) -> Result<&Member> {
        self.members.first().context("a cluster of no node")
    }

    fn member(&self, name: &str) -> Result<&Member> {
        let mut members = self.members.iter();
        let member = members.find(|member| member.name() == name);
        member.with_context(|| format!("no node is called {name:?}"))
    }
}

/// What a node says of a quorum queue.
#[derive(Debug, PartialEq, Eq)]
struct State {
    leader: String,
    /// How many nodes with a replica are there.
    online: usize,
}

impl State {
    fn of(member: &Member, queue: &str) -> Result<Self> {
        let arguments = [
            "-q",
            "list_queues",
            "--no-table-headers",
            "name",
            "leader",
            "online",
        ];
        let list = read(&mut member.control(&arguments))?;
        Self::in_list(&list, queue).with_context(|| format!("no queue {queue} in {list:?}"))
    }

    fn in_list(list: &str, queue: &str) -> Option<Self> {
        let mut rows = list.lines().map(|line| line.split('\t').collect::<Vec<_>>());
        rows.find_map(|row| match row[..] {
            [name, leader, online] if name == queue => Some(Self {
                leader: leader.into(),
                online: online.split(',').count(),
            }),
            _ => None,
        })
    }
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !is_so()? {
        if Instant::now() > deadline {
            bail!("waited {PATIENCE:?} in vain until {what}");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_s_state_is_found_in_a_list() {
        let list = "other\tc@localhost\t[c@localhost]\nq\tb@localhost\t[a@localhost, b@localhost]\n";
        let expected = State {
            leader: "b@localhost".into(),
            online: 2,
        };
        assert_eq!(State::in_list(list, "q"), Some(expected));
        assert_eq!(State::in_list(list, "r"), None);
    }
}
