//! Three private nodes that are one cluster, in `target/cluster`: one cookie, one epmd, a folder each.

use std::fmt;
use std::fs;
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::process::{self, Child, Command};

use anyhow::{Context, Result};

use super::install;
use super::node::{Node, Site, create_private_folder, random_cookie};
use super::ports::Ports;
use crate::process::{root, shell_word};

/// The least that has a majority without one of its nodes.
const SIZE: usize = 3;

/// What to do with the private cluster.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum ClusterCommand {
    /// Start it (installing RabbitMQ if need be), and print its addresses as shell variables
    Start,
    /// End it and delete all it had
    Stop {
        /// Wait for the end of the standard input first: whoever holds the other end may die any way it likes
        #[arg(long, hide = true)]
        at_end_of_input: bool,
    },
    /// Say which of its nodes run, and print its addresses
    Status,
    /// Kill a node without warning
    Kill(Which),
    /// Start a node again with its data and on its ports; kill it first if it runs
    Restart(Which),
    /// Stop a node's process (SIGSTOP): it keeps its connections and is silent
    Pause(Which),
    /// Let it go on
    Resume(Which),
    /// Run rabbitmqctl on a node
    Ctl {
        #[command(flatten)]
        which: Which,
        /// The arguments of rabbitmqctl
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
}

/// A node of the cluster.
#[derive(Debug, clap::Args)]
pub(crate) struct Which {
    /// 1, 2 or 3
    #[arg(value_parser = clap::value_parser!(u8).range(1..=3))]
    node: u8,
}

const NOT_RUNNING: &str = "the private cluster is not running; type: cargo xtask cluster start";

/// `cargo xtask cluster`.
pub(crate) fn main(command: ClusterCommand) -> Result<()> {
    match command {
        ClusterCommand::Start => start(),
        ClusterCommand::Stop { at_end_of_input } => stop(at_end_of_input),
        ClusterCommand::Status => status(),
        ClusterCommand::Kill(which) => which.find()?.kill(),
        ClusterCommand::Restart(which) => which.find()?.restart(),
        ClusterCommand::Pause(which) => which.find()?.pause(),
        ClusterCommand::Resume(which) => which.find()?.resume(),
        ClusterCommand::Ctl { which, arguments } => {
            let status = which.find()?.0.control(&arguments).status()?;
            // Scripts tell rabbitmqctl's failures apart by its exit code.
            process::exit(status.code().unwrap_or(1));
        }
    }
}

impl Which {
    fn find(&self) -> Result<Member> {
        let cluster = Cluster::started().context(NOT_RUNNING)?;
        let mut members = cluster.members.into_iter();
        members.nth(usize::from(self.node) - 1).context(NOT_RUNNING)
    }
}

fn start() -> Result<()> {
    let cluster = if let Some(cluster) = Cluster::running() {
        eprintln!("the private cluster is running already");
        cluster
    } else {
        Cluster::start()?
    };
    print(&cluster)
}

fn stop(at_end_of_input: bool) -> Result<()> {
    if at_end_of_input {
        io::stdin().read_to_end(&mut Vec::new())?;
        return Cluster::clear().map(drop);
    }
    let outcome = if Cluster::clear()? {
        "has stopped"
    } else {
        "was not running"
    };
    eprintln!("the private cluster {outcome}");
    Ok(())
}

fn status() -> Result<()> {
    let cluster = Cluster::started().context(NOT_RUNNING)?;
    for Member(node) in &cluster.members {
        let state = match node.site.process() {
            Some(_) if node.ports.accept_clients() => "runs",
            Some(_) => "is there, but takes no clients",
            None => "does not run",
        };
        let log = node.site.log_file();
        eprintln!("{} {state} (its log: {})", node.site.name, log.display());
    }
    print(&cluster)
}

/// Written at once, so that `| head -1` is not an error.
fn print(cluster: &Cluster) -> Result<()> {
    Ok(io::stdout().write_all(cluster.to_string().as_bytes())?)
}

/// The private cluster.
#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) members: Vec<Member>,
}

/// One of its nodes.
#[derive(Debug)]
pub(crate) struct Member(Node);

impl Cluster {
    fn folder() -> PathBuf {
        root().join("target/cluster")
    }

    fn sites() -> [Site; SIZE] {
        std::array::from_fn(|index| Site {
            folder: Self::folder().join((index + 1).to_string()),
            name: format!("amqp-xtask-{}@localhost", index + 1),
        })
    }

    /// The cluster with all its nodes up, if it is.
    pub(crate) fn running() -> Option<Self> {
        Self::of(Site::running)
    }

    /// The cluster as it was started, though nodes of it may have been killed since.
    fn started() -> Option<Self> {
        Self::of(Site::node)
    }

    fn of(node: impl Fn(&Site) -> Option<Node>) -> Option<Self> {
        let members: Option<_> = Self::sites().iter().map(|site| node(site).map(Member)).collect();
        Some(Self { members: members? })
    }

    /// Starts three nodes with nothing in them, and waits until clients can connect to each.
    pub(crate) fn start() -> Result<Self> {
        install::ensure_installed()?;
        Self::clear()?;
        create_private_folder(&Self::folder())?;
        let sites = Self::sites();
        let names = sites.each_ref().map(|site| site.name.clone());
        let cookie = random_cookie()?;
        let ports: [_; SIZE] = Ports::choose(&Self::folder())?;
        let mut members = Vec::new();
        for (site, ports) in sites.into_iter().zip(ports) {
            let node = Node { site, ports };
            node.write_files(&cookie, &names)?;
            members.push(Member(node));
        }
        // Together, for the first waits for the others.
        let started = Self::start_all(&members);
        if started.is_err() {
            Self::end()?;
        }
        started.map(|()| Self { members })
    }

    fn start_all(members: &[Member]) -> Result<()> {
        let spawn = |Member(node): &Member| node.spawn();
        let mut processes: Vec<Child> = members.iter().map(spawn).collect::<Result<_>>()?;
        for (Member(node), process) in members.iter().zip(&mut processes) {
            node.wait_until_up(process)?;
        }
        Ok(())
    }

    /// Ends what is left of a cluster, whatever its state, and deletes its folder. Returns whether any of it was alive.
    pub(crate) fn clear() -> Result<bool> {
        let folder = Self::folder();
        if !folder.exists() {
            return Ok(false);
        }
        let was_alive = Self::end()?;
        fs::remove_dir_all(&folder).with_context(|| format!("cannot delete {}", folder.display()))?;
        Ok(was_alive)
    }

    /// All nodes first: the epmd that they share goes with the first one that is cleared.
    fn end() -> Result<bool> {
        let sites = Self::sites();
        let was_alive = sites.iter().any(|site| site.process().is_some());
        for site in &sites {
            site.end_node()?;
        }
        for site in &sites {
            site.end_processes()?;
        }
        Ok(was_alive)
    }

    /// One URI with the addresses of all nodes.
    pub(crate) fn uri(&self) -> String {
        let addresses: Vec<_> = self.members.iter().map(|Member(node)| node.address()).collect();
        format!("amqp://guest:guest@{}", addresses.join(","))
    }
}

/// Lines for a shell to evaluate.
impl fmt::Display for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pids = self.members.iter().map(|Member(node)| node.site.process());
        let pids: Vec<_> = pids.map(|pid| pid.unwrap_or_default().to_string()).collect();
        writeln!(f, "AMQP_URL={}", shell_word(&self.uri()))?;
        writeln!(
            f,
            "AMQP_CLUSTER_DATA={}",
            shell_word(&Self::folder().to_string_lossy())
        )?;
        writeln!(f, "AMQP_CLUSTER_PIDS={}", shell_word(&pids.join(" ")))
    }
}

impl Member {
    /// Its Erlang name, by which others speak of it.
    pub(crate) fn name(&self) -> &str {
        &self.0.site.name
    }

    /// rabbitmqctl for this node.
    pub(crate) fn control(&self, arguments: &[&str]) -> Command {
        let arguments: Vec<_> = arguments.iter().copied().map(String::from).collect();
        self.0.control(&arguments)
    }

    /// Kills it without warning.
    pub(crate) fn kill(&self) -> Result<()> {
        self.0.site.signal("KILL")
    }

    /// Starts it again with its data and on its ports, and waits until clients can connect.
    pub(crate) fn restart(&self) -> Result<()> {
        self.0.restart()
    }

    /// Stops its process.
    pub(crate) fn pause(&self) -> Result<()> {
        self.0.site.signal("STOP")
    }

    /// Lets it go on.
    pub(crate) fn resume(&self) -> Result<()> {
        self.0.site.signal("CONT")
    }
}
