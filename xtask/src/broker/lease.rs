//! The private broker or cluster for as long as one command needs it.

use std::env;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};

use super::cluster::Cluster;
use super::endpoint::Endpoint;
use super::node::Site;

/// The private broker is up while this lives. It stops afterwards, unless it was up before.
#[derive(Debug)]
pub(crate) struct Lease {
    pub(crate) endpoint: Endpoint,
    _guard: Option<Guard>,
}

impl Lease {
    /// Starts the broker if it is not up.
    pub(crate) fn take() -> Result<Self> {
        let site = Site::broker();
        if let Some(node) = site.running() {
            eprintln!("using the private RabbitMQ that is running already; it will stay up");
            return Ok(Self {
                endpoint: node.endpoint()?,
                _guard: None,
            });
        }
        eprintln!(
            "starting a private RabbitMQ in {}; it will be stopped at the end",
            site.folder.display()
        );
        let guard = Guard::post("broker")?;
        Ok(Self {
            endpoint: site.start()?.endpoint()?,
            _guard: Some(guard),
        })
    }

    /// The last lines of the broker's log.
    pub(crate) fn log_tail() -> String {
        Site::broker().log_tail()
    }
}

/// The private cluster is up while this lives. It stops afterwards, unless it was up before.
#[derive(Debug)]
pub(crate) struct ClusterLease {
    pub(crate) cluster: Cluster,
    _guard: Option<Guard>,
}

impl ClusterLease {
    /// Starts the cluster if it is not up.
    pub(crate) fn take() -> Result<Self> {
        if let Some(cluster) = Cluster::running() {
            eprintln!("using the private cluster that is running already; it will stay up");
            let _guard = None;
            return Ok(Self { cluster, _guard });
        }
        eprintln!("starting a private cluster; it will be stopped at the end");
        let _guard = Some(Guard::post("cluster")?);
        let cluster = Cluster::start()?;
        Ok(Self { cluster, _guard })
    }
}

/// A process that stops the broker or the cluster when we end, be it by Ctrl-C or worse: then its standard input ends.
#[derive(Debug)]
struct Guard(Child);

impl Guard {
    /// `what` is the command of xtask that stops it.
    fn post(what: &str) -> Result<Self> {
        // In a session of its own, for Ctrl-C is for all processes of ours.
        let mut command = Command::new("setsid");
        command
            .arg(env::current_exe()?)
            .args([what, "stop", "--at-end-of-input"]);
        let guard = command
            .stdin(Stdio::piped())
            .spawn()
            .context("cannot run setsid")?;
        Ok(Self(guard))
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // Waiting closes the guard's standard input first. If it fails, it has said so itself.
        let _ = self.0.wait();
    }
}
