//! A private node, alone or in a cluster: its folder and its processes.
//!
//! The folder is there from the beginning of a start to the end of a stop (`target/cluster/1` and so on of a cluster's nodes):
//!
//! ```text
//! target/broker/  ports          what listens where
//!                 pid            of the Erlang VM
//!                 log            all the node says
//!                 home/          the Erlang cookie
//!                 data/, tls/, rabbitmq.conf, definitions.json, enabled_plugins
//! ```

use std::env;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::endpoint::{Client, Endpoint, query_value};
use super::ports::{Ports, accepts};
use super::tls::TlsFiles;
use super::{config, install};
use crate::process::{root, run, shell_word, succeeds};

/// Ten times what a start takes on a busy machine.
const START_TIME: Duration = Duration::from_secs(90);
/// A killed process and epmd's memory of it are gone within a second.
const STOP_TIME: Duration = Duration::from_secs(10);
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// Where a node is and what it is called, whether it runs or not.
#[derive(Debug, Clone)]
pub(super) struct Site {
    /// Of all the node has.
    pub(super) folder: PathBuf,
    /// Such as `amqp-xtask@localhost`.
    pub(super) name: String,
}

/// A private node with its ports, starting, up or killed.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) site: Site,
    pub(super) ports: Ports,
}

impl Site {
    /// Of the node that is alone. It does not follow `CARGO_TARGET_DIR`, which checkouts may share.
    pub(super) fn broker() -> Self {
        Self {
            folder: root().join("target/broker"),
            name: "amqp-xtask@localhost".into(),
        }
    }

    /// The node that is up, if it is. One that another process is starting at this moment is waited for.
    pub(super) fn running(&self) -> Option<Node> {
        let node = self.alive()?;
        let deadline = Instant::now() + START_TIME;
        while self.process().is_some() && Instant::now() < deadline {
            if node.ports.accept_clients() {
                return Some(node);
            }
            sleep(POLL_INTERVAL);
        }
        None
    }

    /// The node whose process is alive, be it that its application was stopped and no client can connect.
    pub(super) fn alive(&self) -> Option<Node> {
        self.process()?;
        self.node()
    }

    /// The node as it was started, whatever became of it since.
    pub(super) fn node(&self) -> Option<Node> {
        let ports = fs::read_to_string(self.folder.join("ports")).ok()?.parse().ok()?;
        Some(Node {
            site: self.clone(),
            ports,
        })
    }

    /// Starts a node with nothing in it, installing RabbitMQ if need be, and waits until clients can connect.
    pub(super) fn start(&self) -> Result<Node> {
        install::ensure_installed()?;
        self.clear()?;
        let [ports] = Ports::choose(&self.folder)?;
        let site = self.clone();
        let node = Node { site, ports };
        node.write_files(&random_cookie()?, &[])?;
        let outcome = node.run();
        if outcome.is_err() {
            self.end_processes()?;
        }
        outcome.map(|()| node)
    }

    /// Ends what is left of a node, whatever its state, and deletes its folder. Returns whether it was alive.
    pub(super) fn clear(&self) -> Result<bool> {
        let was_alive = self.process().is_some();
        if self.folder.exists() {
            self.end_processes()?;
            fs::remove_dir_all(&self.folder)
                .with_context(|| format!("cannot delete {}", self.folder.display()))?;
        }
        Ok(was_alive)
    }

    /// All the node says.
    pub(super) fn log_file(&self) -> PathBuf {
        self.folder.join("log")
    }

    /// The last lines of it.
    pub(super) fn log_tail(&self) -> String {
        let log = fs::read(self.log_file()).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }

    fn pid_file(&self) -> PathBuf {
        self.folder.join("pid")
    }

    fn tls_files(&self) -> TlsFiles {
        TlsFiles::in_folder(&self.folder.join("tls"))
    }

    /// The node's process, if it runs. A number from before a crash or a reboot may have become another process's,
    /// and a dead process that nobody has waited for still has its number but no environment.
    pub(super) fn process(&self) -> Option<u32> {
        let pid = fs::read_to_string(self.pid_file()).ok()?.trim().parse().ok()?;
        let environment = fs::read(format!("/proc/{pid}/environ")).ok()?;
        let home = format!("HOME={}", self.folder.join("home").display());
        environment
            .split(|&byte| byte == 0)
            .any(|variable| variable == home.as_bytes())
            .then_some(pid)
    }

    /// Kills the node: a stopped process ends as well.
    pub(super) fn end_node(&self) -> Result<()> {
        if self.process().is_none() {
            return Ok(());
        }
        self.signal("KILL")?;
        wait_until(&format!("{} ends", self.name), || self.process().is_none())
    }

    /// Sends a signal to the whole group (setsid made it one), for what runs may still be a script and its children.
    pub(super) fn signal(&self, name: &str) -> Result<()> {
        let pid = self
            .process()
            .with_context(|| format!("{} does not run", self.name))?;
        run(Command::new("sh").arg("-c").arg(format!("kill -{name} -{pid}")))
    }

    /// All it has will be deleted, so there is nothing it should save.
    pub(super) fn end_processes(&self) -> Result<()> {
        self.end_node()?;
        let Some(node) = self.node() else {
            return Ok(()); // A start that did not come this far.
        };
        // epmd refuses as long as it knows of a living node. Should another checkout's have taken the port since,
        // that protects it, and the wait is in vain.
        let ended = wait_until("epmd ends", || {
            let port = node.ports.epmd.to_string();
            !accepts(node.ports.epmd) || {
                succeeds(Command::new("epmd").args(["-port", &port, "-kill"]));
                !accepts(node.ports.epmd)
            }
        });
        if let Err(error) = ended {
            eprintln!("warning: {error}; something else may have taken its port");
        }
        Ok(())
    }
}

impl Node {
    /// Kills the node without warning and starts it again, with its data and on its ports.
    pub(super) fn restart(&self) -> Result<()> {
        self.site.end_node()?;
        // The old process's sockets go a little later than the rest of it.
        wait_until("the ports are free", || !self.ports.accept_any_client())?;
        self.run()
    }

    /// Starts the node's process, and waits until clients can connect.
    fn run(&self) -> Result<()> {
        let mut process = self.spawn()?;
        self.wait_until_up(&mut process)
    }

    /// Where clients connect without TLS.
    pub(super) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.ports.amqp)
    }

    /// How clients reach the node.
    pub(super) fn endpoint(&self) -> Result<Endpoint> {
        let amqps = self.ports.amqps;
        let tls = self.site.tls_files();
        let authority = query_value(&tls.authority);
        let xtask = shell_word(&env::current_exe()?.to_string_lossy());
        Ok(Endpoint {
            url: format!("amqp://guest:guest@{}", self.address()),
            tls_url: Some(format!(
                "amqps://guest:guest@localhost:{amqps}?cacertfile={authority}"
            )),
            client: Some(Client {
                certificate: tls.client.certificate.display().to_string(),
                key: tls.client.key.display().to_string(),
            }),
            control: Some(format!("{xtask} broker ctl")),
            restart: Some(format!("{xtask} broker restart")),
        })
    }

    /// rabbitmqctl for this node.
    pub(super) fn control(&self, arguments: &[String]) -> Command {
        let mut command = Command::new(install::script("rabbitmqctl"));
        self.set_environment(&mut command);
        command.args(arguments);
        command
    }

    /// `peers` are the names of all nodes of a cluster, with one cookie.
    pub(super) fn write_files(&self, cookie: &str, peers: &[String]) -> Result<()> {
        let folder = &self.site.folder;
        create_private_folder(folder)?;
        for name in ["data", "home", "tls"] {
            fs::create_dir(folder.join(name))?;
        }
        let tls = self.site.tls_files();
        tls.create()?;
        write_private_file(&folder.join("home/.erlang.cookie"), cookie)?;
        let definitions = folder.join("definitions.json");
        let version = install::major_version();
        let server = config::server(self.ports, &tls, &definitions, version) + &config::cluster(peers);
        fs::write(folder.join("rabbitmq.conf"), server)?;
        fs::write(definitions, config::definitions())?;
        fs::write(folder.join("enabled_plugins"), config::PLUGINS)?;
        Ok(fs::write(folder.join("ports"), self.ports.to_string())?)
    }

    /// Starts the node's process.
    pub(super) fn spawn(&self) -> Result<Child> {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.site.log_file())?;
        let mut command = Command::new("setsid"); // Ctrl-C in our terminal is not meant for the node.
        self.set_environment(&mut command);
        command
            .arg(install::script("rabbitmq-server"))
            .current_dir(&self.site.folder);
        let process = command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let process = process.spawn().context("cannot run setsid")?;
        // setsid and RabbitMQ's script replace themselves, so that this becomes the Erlang VM's.
        fs::write(self.site.pid_file(), format!("{}\n", process.id()))?;
        Ok(process)
    }

    /// Waits until clients can connect. What the node said last is shown if they cannot.
    pub(super) fn wait_until_up(&self, process: &mut Child) -> Result<()> {
        let outcome = self.come_up(process);
        if outcome.is_err() {
            let log = self.site.log_file();
            eprintln!("the end of {}:\n{}", log.display(), self.site.log_tail());
            self.site.end_node()?;
        }
        outcome
    }

    fn come_up(&self, process: &mut Child) -> Result<()> {
        let deadline = Instant::now() + START_TIME;
        // RabbitMQ opens these last, when the plugins are up and the users known.
        while !self.ports.accept_clients() {
            if let Some(status) = process.try_wait()? {
                bail!("RabbitMQ ended while starting: {status}");
            }
            if Instant::now() > deadline {
                bail!("RabbitMQ did not accept clients within {START_TIME:?}");
            }
            sleep(POLL_INTERVAL);
        }
        Ok(())
    }

    fn set_environment(&self, command: &mut Command) {
        for (name, _) in env::vars_os() {
            let name_text = name.to_string_lossy();
            if name_text.starts_with("RABBITMQ_") || name_text.starts_with("ERL_") {
                command.env_remove(&name);
            }
        }
        let folder = &self.site.folder;
        let loopback = "-kernel inet_dist_use_interface {127,0,0,1}";
        command
            .env("HOME", folder.join("home"))
            .env("LANG", "C.UTF-8")
            .env("ERL_EPMD_PORT", self.ports.epmd.to_string())
            .env("ERL_EPMD_ADDRESS", "127.0.0.1")
            .env("ERL_CRASH_DUMP", folder.join("erl_crash.dump"))
            .env("RABBITMQ_NODENAME", &self.site.name)
            .env("RABBITMQ_DIST_PORT", self.ports.distribution.to_string())
            // It need not exist, but without a name the system's own is read.
            .env("RABBITMQ_CONF_ENV_FILE", folder.join("rabbitmq-env.conf"))
            .env("RABBITMQ_CONFIG_FILE", folder.join("rabbitmq.conf"))
            .env("RABBITMQ_ADVANCED_CONFIG_FILE", folder.join("advanced.config"))
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", folder.join("enabled_plugins"))
            .env("RABBITMQ_MNESIA_BASE", folder.join("data"))
            .env("RABBITMQ_LOG_BASE", folder)
            .env("RABBITMQ_LOGS", "-")
            // Makes the script replace itself by the VM instead of watching over it.
            .env("RABBITMQ_ALLOW_INPUT", "1")
            .env(
                "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS",
                format!("-noinput +sbwt none {loopback}"),
            )
            .env("RABBITMQ_CTL_ERL_ARGS", loopback)
            // By default eleven ports for all the machine's rabbitmqctl, too few for tests in parallel.
            .env("RABBITMQ_CTL_DIST_PORT_MIN", "30000")
            .env("RABBITMQ_CTL_DIST_PORT_MAX", "32767");
    }
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) -> Result<()> {
    let deadline = Instant::now() + STOP_TIME;
    while !is_so() {
        if Instant::now() > deadline {
            bail!("waited {STOP_TIME:?} in vain until {what}");
        }
        sleep(POLL_INTERVAL);
    }
    Ok(())
}

/// Whoever knows the cookie can run anything as the user who started the node.
pub(super) fn random_cookie() -> Result<String> {
    let mut bytes = [0; 16];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

pub(super) fn create_private_folder(path: &Path) -> Result<()> {
    let mut builder = fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    fs::create_dir_all(path.parent().unwrap_or(path))?;
    // Of two starts at the same moment, one finds the folder there.
    builder
        .create(path)
        .with_context(|| format!("cannot create {}; is another start under way?", path.display()))
}

fn write_private_file(path: &Path, text: &str) -> Result<()> {
    let mut options = File::options();
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    Ok(options
        .write(true)
        .create_new(true)
        .open(path)?
        .write_all(text.as_bytes())?)
}
