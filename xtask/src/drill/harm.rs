//! What is done to the broker.

use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::figures::Limits;
use crate::broker::{Cluster, ClusterLease, Member};
use crate::process::{read, run};

/// In seconds; a node that is silent is noticed after two of them.
const HEARTBEAT: u64 = 5;
/// Ten times what an election takes, and a node to take part again.
const PATIENCE: Duration = Duration::from_secs(90);

/// What is done to the node that leads the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Harm {
    /// It is killed without warning, and started again after the election.
    Kill,
    /// Its process stops for so long. RabbitMQ 3.10 answers `basic.consume` on other nodes only afterwards.
    Pause(Duration),
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

    /// What may be expected.
    pub(super) fn limits(&self) -> Limits {
        match self {
            Self::Private {
                harm: Harm::Pause(time),
                ..
            } => Limits::judged(*time),
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
        let leader = self.member(&leader(self.any()?, queue)?)?;
        eprintln!("drill: {harm:?} while {} leads", leader.name());
        let start = Instant::now();
        match harm {
            Harm::Kill => leader.kill()?,
            Harm::Pause(_) => leader.pause()?,
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
            Ok(self::leader(other, queue)? != leader.name())
        });
        let election = start.elapsed();
        // Whatever came of it: a node that is left stopped is in nobody's way, but nobody's help either.
        match harm {
            Harm::Pause(time) => {
                sleep(time.saturating_sub(start.elapsed()));
                leader.resume()?;
            }
            _ => leader.restart()?,
        }
        outcome?;
        eprintln!("drill: another node leads after {election:?}");
        let count = self.members.len();
        wait_until("the node takes part again", || {
            Ok(online(other, queue)?.is_none_or(|online| online == count))
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

/// The name of the node that leads the queue, by what this node knows itself: it asks no node that may be silent.
fn leader(member: &Member, queue: &str) -> Result<String> {
    let ask = format!(
        "{{ok, Q}} = rabbit_amqqueue:lookup(rabbit_misc:r(<<\"/\">>, queue, <<\"{queue}\">>)), \
         {{Name, _}} = amqqueue:get_pid(Q), \
         case ra_leaderboard:lookup_leader(Name) of {{_, Leader}} -> Leader; _ -> none end."
    );
    let leader = read(&mut member.control(&["-q", "eval", &ask]))?;
    Ok(leader.trim().trim_matches('\'').to_owned())
}

/// How many nodes with a replica of the queue are there; `None` if the drill has ended, which deletes the queue.
fn online(member: &Member, queue: &str) -> Result<Option<usize>> {
    let arguments = ["-q", "list_queues", "--no-table-headers", "name", "online"];
    let list = read(&mut member.control(&arguments))?;
    Ok(online_in(&list, queue))
}

fn online_in(list: &str, queue: &str) -> Option<usize> {
    let mut rows = list.lines().filter_map(|line| line.split_once('\t'));
    let (_, online) = rows.find(|(name, _)| *name == queue)?;
    Some(online.split(',').count())
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
    fn a_queue_s_nodes_are_counted() {
        let list = "other\t[c@localhost]\nq\t[a@localhost, b@localhost]\n";
        assert_eq!(online_in(list, "q"), Some(2));
        assert_eq!(online_in(list, "r"), None);
    }
}
