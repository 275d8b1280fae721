//! `cargo xtask interop`: the RabbitMQ tutorials, as Python's clients pika and aio-pika do them, on the test broker.
//!
//! The scripts are in `xtask/interop`, a folder for each client; they run in a virtual environment of their own, in
//! `target/interop-venv`.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};

use crate::apt;
use crate::process::{cargo, root, run, succeeds};

/// Clients and tutorials: the folders and files of the scripts.
const CLIENTS: [&str; 2] = ["pika", "aio_pika"];
const TUTORIALS: [&str; 6] = [
    "hello",
    "work_queues",
    "publish_subscribe",
    "routing",
    "topics",
    "rpc",
];
/// A script ends itself after 25 seconds and says where it hung. This is for one that cannot.
const TUTORIAL_TIME: Duration = Duration::from_secs(40);
/// The broker is built before; ten times what its start and end take on a busy machine.
const BROKER_TIME: Duration = Duration::from_secs(20);
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// Which broker to try.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct InteropOptions {
    /// Use this broker instead of the test broker: amqp://...
    #[arg(long, value_name = "URI")]
    url: Option<String>,
}

/// Runs each tutorial with each client, and says which failed.
pub(crate) fn main(options: &InteropOptions) -> Result<()> {
    let python = ensure_python()?;
    if let Some(url) = &options.url {
        return run_tutorials(&python, url);
    }
    let broker = TestBroker::start()?;
    let outcome = run_tutorials(&python, &broker.url);
    let end = broker.stop();
    // If both failed, the broker's end is the cause.
    end.and(outcome)
}

fn run_tutorials(python: &Path, url: &str) -> Result<()> {
    let mut failed = Vec::new();
    for (client, tutorial) in CLIENTS
        .iter()
        .flat_map(|client| TUTORIALS.map(|tutorial| (client, tutorial)))
    {
        let name = format!("{client} {tutorial}");
        let start = Instant::now();
        match run_tutorial(python, url, client, tutorial) {
            Ok(()) => println!("{name}: done after {:.1} s", start.elapsed().as_secs_f64()),
            Err(error) => {
                println!("{name}: FAILED: {error}");
                eprintln!("{}", error.root_cause());
                failed.push(name);
            }
        }
    }
    ensure!(failed.is_empty(), "failed: {}", failed.join(", "));
    Ok(())
}

/// The error is the reason in one line; its cause is all that the script wrote.
fn run_tutorial(python: &Path, url: &str, client: &str, tutorial: &str) -> Result<()> {
    let scripts = root().join("xtask/interop");
    let log = environment().join(format!("{client}-{tutorial}.log"));
    let output = File::create(&log)?;
    let mut script = Command::new(python)
        .arg(scripts.join(format!("with_{client}/{tutorial}.py")))
        .env("AMQP_URL", url)
        .env("PYTHONPATH", &scripts)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output)
        .spawn()
        .with_context(|| format!("cannot run {}", python.display()))?;
    let status = wait(&mut script, TUTORIAL_TIME)?;
    if status.is_some_and(|status| status.success()) {
        return Ok(());
    }
    let outcome = status.map_or_else(
        || format!("not over after {TUTORIAL_TIME:?}"),
        |status| status.to_string(),
    );
    let log = fs::read(log)?;
    let log = String::from_utf8_lossy(&log);
    let reason = reason(&log);
    Err(anyhow!("{}", log.trim_end()).context(format!("{reason} ({outcome})")))
}

/// The line that names what was raised last (its text may go on behind), else the last line.
fn reason(log: &str) -> &str {
    let is_name = |text: &str| {
        text.chars()
            .all(|character| character.is_alphanumeric() || "._".contains(character))
    };
    let names_error = |line: &&str| line.split_once(": ").is_some_and(|(name, _)| is_name(name));
    let mut lines = log.lines().filter(|line| !line.trim().is_empty());
    let last = lines.clone().next_back();
    lines.rfind(names_error).or(last).unwrap_or("no word").trim()
}

/// Where the virtual environment is. It does not follow `CARGO_TARGET_DIR`, which checkouts may share.
fn environment() -> PathBuf {
    root().join("target/interop-venv")
}

/// A Python that has the clients: makes the virtual environment unless it is there with the same packages.
fn ensure_python() -> Result<PathBuf> {
    let environment = environment();
    let python = environment.join("bin/python");
    let requirements = include_str!("../interop/requirements.txt");
    // Written last: an environment that was not finished has none.
    let installed = environment.join("requirements.txt");
    if fs::read_to_string(&installed).is_ok_and(|installed| installed == requirements)
        && succeeds(Command::new(&python).arg("--version"))
    {
        return Ok(python);
    }
    // ensurepip is what some systems have in a package of its own.
    if !succeeds(Command::new("python3").args(["-c", "import venv, ensurepip"])) {
        apt::install("python3-venv")?;
    }
    eprintln!(
        "making a virtual environment for Python in {}",
        environment.display()
    );
    run(Command::new("python3")
        .args(["-m", "venv", "--clear"])
        .arg(&environment))?;
    let wanted = root().join("xtask/interop/requirements.txt");
    run(Command::new(&python)
        .args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--requirement",
        ])
        .arg(wanted))?;
    fs::write(installed, requirements)?;
    Ok(python)
}

/// The test broker's program. It ends with us, whatever becomes of us: then its standard input ends.
struct TestBroker {
    process: Child,
    url: String,
}

impl TestBroker {
    fn start() -> Result<Self> {
        let program = [
            "--package",
            "amqp-testbroker",
            "--bin",
            "amqp-testbroker",
            "--features",
            "cli",
        ];
        run(cargo(["build", "--quiet"]).args(program))?;
        let mut process = cargo(["run", "--quiet"])
            .args(program)
            .args(["--", "--listen", "127.0.0.1:0", "--until-stdin-closes"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot run cargo")?;
        let url = first_line(&mut process).context("the test broker did not start")?;
        Ok(Self { process, url })
    }

    fn stop(mut self) -> Result<()> {
        drop(self.process.stdin.take());
        match wait(&mut self.process, BROKER_TIME)? {
            Some(status) if status.success() => Ok(()),
            Some(status) => bail!("the test broker failed: {status}"),
            None => bail!("the test broker did not end within {BROKER_TIME:?}"),
        }
    }
}

/// What the process says first.
fn first_line(process: &mut Child) -> Result<String> {
    let output = process.stdout.take().context("no output")?;
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut line = String::new();
        let outcome = BufReader::new(output).read_line(&mut line);
        // Nobody waits any more if it took too long.
        let _ = sender.send(outcome.map(|_| line));
    });
    let line = receiver
        .recv_timeout(BROKER_TIME)
        .with_context(|| format!("it said nothing within {BROKER_TIME:?}"))??;
    ensure!(line.ends_with('\n'), "it ended without a word");
    Ok(line.trim_end().to_owned())
}

/// Waits for the end of the process, and if that does not come in time, makes an end of it.
fn wait(process: &mut Child, time: Duration) -> Result<Option<ExitStatus>> {
    let deadline = Instant::now() + time;
    loop {
        if let Some(status) = process.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() > deadline {
            process.kill()?;
            process.wait()?;
            return Ok(None);
        }
        thread::sleep(POLL_INTERVAL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_tutorial_is_there_for_every_client() {
        let scripts = root().join("xtask/interop");
        for client in CLIENTS {
            let folder = scripts.join(format!("with_{client}"));
            let files = fs::read_dir(&folder).expect("a folder for each client");
            let mut files: Vec<_> = files
                .filter_map(|file| {
                    file.ok()?
                        .file_name()
                        .to_str()?
                        .strip_suffix(".py")
                        .map(String::from)
                })
                .filter(|name| name != "tutorial")
                .collect();
            files.sort_unstable();
            let mut expected = TUTORIALS;
            expected.sort_unstable();
            assert_eq!(files, expected, "{}", folder.display());
        }
    }

    #[test]
    fn the_reason_is_what_was_raised_last_or_where_it_hung() {
        let raised =
            "Traceback:\n  File \"a.py\"\nValueError: one\n\nTraceback:\npika.Closed: (541, 'two\nlines')\n";
        assert_eq!(reason(raised), "pika.Closed: (541, 'two");
        assert_eq!(
            reason("Timeout!\n  File \"a.py\", line 3\n\n"),
            "File \"a.py\", line 3"
        );
        assert_eq!(reason("\n"), "no word");
    }

    #[test]
    fn a_process_that_does_not_end_is_ended() {
        let mut process = Command::new("sh")
            .args(["-c", "read line"])
            .stdin(Stdio::piped())
            .spawn()
            .expect("a shell");
        let status = wait(&mut process, Duration::from_millis(1)).expect("it can be waited for");
        assert_eq!(status, None);
        assert!(process.try_wait().expect("it was waited for").is_some());
    }

    #[test]
    fn the_first_line_is_all_that_is_waited_for() {
        let say = |script: &str| {
            let mut process = Command::new("sh")
                .args(["-c", script])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .expect("a shell");
            let line = first_line(&mut process).map_err(|error| error.to_string());
            drop(process.stdin.take());
            process.wait().expect("it ends with its input");
            line
        };
        assert_eq!(say("echo amqp://here; read line"), Ok("amqp://here".to_owned()));
        assert_eq!(say("printf amqp:"), Err("it ended without a word".to_owned()));
    }
}
