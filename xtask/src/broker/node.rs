//! The private node: its folder and its processes.
//!
//! The folder is there from the beginning of a start to the end of a stop:
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

const NODE_NAME: &str = "amqp-xtask@localhost";
/// Ten times what a start takes on a busy machine.
const START_TIME: Duration = Duration::from_secs(90);
/// A killed process and epmd's memory of it are gone within a second.
const STOP_TIME: Duration = Duration::from_secs(10);
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// A private node, starting or up.
#[derive(Debug)]
pub(super) struct Node {
    ports: Ports,
}

/// The folder of all the node has. It does not follow `CARGO_TARGET_DIR`, which checkouts may share.
pub(super) fn folder() -> PathBuf {
    root().join("target/broker")
}

/// All the node says.
pub(super) fn log_file() -> PathBuf {
    folder().join("log")
}

impl Node {
    /// The node that is up, if it is. One that another process is starting at this moment is waited for.
    pub(super) fn running() -> Option<Self> {
        let node = Self::alive()?;
        let deadline = Instant::now() + START_TIME;
        while running_process().is_some() && Instant::now() < deadline {
            if node.ports.accept_clients() {
                return Some(node);
            }
            sleep(POLL_INTERVAL);
        }
        None
    }

    /// The node whose process is alive, be it that its application was stopped and no client can connect.
    pub(super) fn alive() -> Option<Self> {
        running_process()?;
        let ports = fs::read_to_string(folder().join("ports")).ok()?.parse().ok()?;
        Some(Self { ports })
    }

    /// Starts a node with nothing in it, installing RabbitMQ if need be, and waits until clients can connect.
    pub(super) fn start() -> Result<Self> {
        install::ensure_installed()?;
        Self::clear()?;
        let node = Self {
            ports: Ports::choose(root())?,
        };
        node.write_files()?;
        node.run()?;
        Ok(node)
    }

    /// Kills the node without warning and starts it again, with its data and on its ports.
    pub(super) fn restart(&self) -> Result<()> {
        end_node()?;
        // The old process's sockets go a little later than the rest of it.
        wait_until("the ports are free", || !self.ports.accept_any_client())?;
        self.run()
    }

    /// Starts the node's process, and waits until clients can connect.
    fn run(&self) -> Result<()> {
        let mut process = self.spawn()?;
        let outcome = self.wait_until_up(&mut process);
        if outcome.is_err() {
            eprintln!("the end of {}:\n{}", log_file().display(), log_tail());
            end_processes()?;
        }
        outcome
    }

    /// Ends what is left of a node, whatever its state, and deletes its folder. Returns whether it was alive.
    pub(super) fn clear() -> Result<bool> {
        let was_alive = running_process().is_some();
        if folder().exists() {
            end_processes()?;
            fs::remove_dir_all(folder()).with_context(|| format!("cannot delete {}", folder().display()))?;
        }
        Ok(was_alive)
    }

    /// How clients reach the node.
    pub(super) fn endpoint(&self) -> Result<Endpoint> {
        let Ports { amqp, amqps, .. } = self.ports;
        let tls = tls_files();
        let authority = query_value(&tls.authority);
        let xtask = shell_word(&env::current_exe()?.to_string_lossy());
        Ok(Endpoint {
            url: format!("amqp://guest:guest@127.0.0.1:{amqp}"),
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

    fn write_files(&self) -> Result<()> {
        let folder = folder();
        create_private_folder(&folder)?;
        for name in ["data", "home", "tls"] {
            fs::create_dir(folder.join(name))?;
        }
        let tls = tls_files();
        tls.create()?;
        write_private_file(&folder.join("home/.erlang.cookie"), &random_cookie()?)?;
        let definitions = folder.join("definitions.json");
        let server = config::server(self.ports, &tls, &definitions, install::major_version());
        fs::write(folder.join("rabbitmq.conf"), server)?;
        fs::write(definitions, config::definitions())?;
        fs::write(folder.join("enabled_plugins"), config::PLUGINS)?;
        Ok(fs::write(folder.join("ports"), self.ports.to_string())?)
    }

    fn spawn(&self) -> Result<Child> {
        let log = File::options().create(true).append(true).open(log_file())?;
        let mut command = Command::new("setsid"); // Ctrl-C in our terminal is not meant for the node.
        self.set_environment(&mut command);
        command
            .arg(install::script("rabbitmq-server"))
            .current_dir(folder());
        let process = command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let process = process.spawn().context("cannot run setsid")?;
        // setsid and RabbitMQ's script replace themselves, so that this becomes the Erlang VM's.
        fs::write(pid_file(), format!("{}\n", process.id()))?;
        Ok(process)
    }

    fn wait_until_up(&self, process: &mut Child) -> Result<()> {
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
        let folder = folder();
        let loopback = "-kernel inet_dist_use_interface {127,0,0,1}";
        command
            .env("HOME", folder.join("home"))
            .env("LANG", "C.UTF-8")
            .env("ERL_EPMD_PORT", self.ports.epmd.to_string())
            .env("ERL_EPMD_ADDRESS", "127.0.0.1")
            .env("ERL_CRASH_DUMP", folder.join("erl_crash.dump"))
            .env("RABBITMQ_NODENAME", NODE_NAME)
            .env("RABBITMQ_DIST_PORT", self.ports.distribution.to_string())
            // It need not exist, but without a name the system's own is read.
            .env("RABBITMQ_CONF_ENV_FILE", folder.join("rabbitmq-env.conf"))
            .env("RABBITMQ_CONFIG_FILE", folder.join("rabbitmq.conf"))
            .env("RABBITMQ_ADVANCED_CONFIG_FILE", folder.join("advanced.config"))
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", folder.join("enabled_plugins"))
            .env("RABBITMQ_MNESIA_BASE", folder.join("data"))
            .env("RABBITMQ_LOG_BASE", &folder)
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

/// The last lines of the node's log.
pub(super) fn log_tail() -> String {
    let log = fs::read(log_file()).unwrap_or_default();
    let log = String::from_utf8_lossy(&log);
    let lines: Vec<_> = log.lines().collect();
    lines[lines.len().saturating_sub(30)..].join("\n")
}

fn pid_file() -> PathBuf {
    folder().join("pid")
}

fn tls_files() -> TlsFiles {
    TlsFiles::in_folder(&folder().join("tls"))
}

/// The node's process, if it runs. A number from before a crash or a reboot may have become another process's,
/// and a dead process that nobody has waited for still has its number but no environment.
fn running_process() -> Option<u32> {
    let pid = fs::read_to_string(pid_file()).ok()?.trim().parse().ok()?;
    let environment = fs::read(format!("/proc/{pid}/environ")).ok()?;
    let home = format!("HOME={}", folder().join("home").display());
    environment
        .split(|&byte| byte == 0)
        .any(|variable| variable == home.as_bytes())
        .then_some(pid)
}

/// Kills the node: a stopped process ends as well.
fn end_node() -> Result<()> {
    let Some(pid) = running_process() else {
        return Ok(());
    };
    // The whole group (setsid made it one), for what runs may still be a script and its children.
    run(Command::new("sh").arg("-c").arg(format!("kill -KILL -{pid}")))?;
    wait_until("the private RabbitMQ ends", || running_process().is_none())
}

/// All it has will be deleted, so there is nothing it should save.
fn end_processes() -> Result<()> {
    end_node()?;
    let Ok(ports) = fs::read_to_string(folder().join("ports"))
        .unwrap_or_default()
        .parse::<Ports>()
    else {
        return Ok(()); // A start that did not come this far.
    };
    // epmd refuses as long as it knows of a living node. Should another checkout's have taken the port since,
    // that protects it, and the wait is in vain.
    let ended = wait_until("epmd ends", || {
        let port = ports.epmd.to_string();
        !accepts(ports.epmd) || {
            succeeds(Command::new("epmd").args(["-port", &port, "-kill"]));
            !accepts(ports.epmd)
        }
    });
    if let Err(error) = ended {
        eprintln!("warning: {error}; something else may have taken its port");
    }
    Ok(())
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
fn random_cookie() -> Result<String> {
    let mut bytes = [0; 16];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn create_private_folder(path: &Path) -> Result<()> {
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
