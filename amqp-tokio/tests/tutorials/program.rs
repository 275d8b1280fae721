//! An example as a child process.

use std::env;
use std::ffi::{OsStr, OsString};
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::Duration;

/// Longer than any line takes, on a machine with much else to do.
const DEADLINE: Duration = Duration::from_secs(60);

/// A running example; killed when dropped.
#[derive(Debug)]
pub(crate) struct Program {
    name: String,
    child: Child,
    /// What it prints, until its end.
    lines: Receiver<String>,
    /// What it complains of, all at once at its end.
    complaints: Receiver<String>,
}

impl Program {
    pub(crate) fn start(url: &str, name: &str, arguments: &[&str]) -> Self {
        Self::start_with(&[("AMQP_URL", url)], name, arguments)
    }

    /// One that needs these variables.
    pub(crate) fn start_with(variables: &[(&str, &str)], name: &str, arguments: &[&str]) -> Self {
        let mut child = Command::new(examples().join(name))
            .args(arguments)
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let mut stderr = child.stderr.take().unwrap();
        let (line_sender, lines) = mpsc::channel();
        let (complaint_sender, complaints) = mpsc::channel();
        thread::spawn(move || {
            // Whoever has dropped the program needs no more lines.
            stdout
                .lines()
                .map_while(Result::ok)
                .try_for_each(|line| line_sender.send(line))
        });
        thread::spawn(move || {
            let mut text = String::new();
            stderr.read_to_string(&mut text).unwrap();
            complaint_sender.send(text)
        });
        Self {
            name: name.to_owned(),
            child,
            lines,
            complaints,
        }
    }

    /// A receiver, ready to receive.
    pub(crate) fn start_receiver(url: &str, name: &str, arguments: &[&str]) -> Self {
        let program = Self::start(url, name, arguments);
        program.expect("waiting for messages, until Ctrl-C");
        program
    }

    /// The next line; `None` at the end.
    pub(crate) fn line(&self) -> Option<String> {
        match self.lines.recv_timeout(DEADLINE) {
            Ok(line) => Some(line),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => panic!("{} prints nothing", self.name),
        }
    }

    pub(crate) fn expect(&self, line: &str) {
        match self.line() {
            Some(found) => assert_eq!(found, line, "{}", self.name),
            None => panic!("{} ends, without {line}: {}", self.name, self.complaint()),
        }
    }

    /// Ctrl-C. It ends well, and prints nothing but why.
    pub(crate) fn interrupt(self) {
        self.press_ctrl_c();
        assert_eq!(self.rest(), ["closed on request"]);
    }

    pub(crate) fn press_ctrl_c(&self) {
        let id = self.child.id().to_string();
        let kill = Command::new("kill").args(["-INT", &id]).status().unwrap();
        assert!(kill.success());
    }

    /// What it prints until its end, which is a good one.
    pub(crate) fn rest(mut self) -> Vec<String> {
        let (rest, is_success) = self.end();
        assert!(is_success, "{}: {}", self.name, self.complaint());
        rest
    }

    /// What it complains of at its end, which is a bad one.
    pub(crate) fn rest_in_vain(mut self) -> String {
        let (rest, is_success) = self.end();
        assert!(!is_success, "{}: {rest:?}", self.name);
        self.complaint()
    }

    /// What is left of its lines, and whether it ended well.
    fn end(&mut self) -> (Vec<String>, bool) {
        let rest = std::iter::from_fn(|| self.line()).collect();
        (rest, self.child.wait().unwrap().success())
    }

    fn complaint(&self) -> String {
        self.complaints.recv_timeout(DEADLINE).unwrap_or_default()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs one to its end, and gives what it printed.
pub(crate) fn run(url: &str, name: &str, arguments: &[&str]) -> Vec<String> {
    Program::start(url, name, arguments).rest()
}

/// Runs one that fails, and gives what it complained of.
pub(crate) fn run_in_vain(url: &str, name: &str, arguments: &[&str]) -> String {
    Program::start(url, name, arguments).rest_in_vain()
}

/// Where the examples are, all of them built: `cargo test` does not do that for a test that is named.
fn examples() -> &'static Path {
    static EXAMPLES: OnceLock<PathBuf> = OnceLock::new();
    EXAMPLES.get_or_init(|| {
        // TARGET/PROFILE/deps/this
        let this = env::current_exe().unwrap();
        let directory = this.ancestors().nth(2).unwrap();
        let profile = match directory.file_name().and_then(OsStr::to_str).unwrap() {
            "debug" => "dev",
            other => other,
        };
        let mut build = Command::new(env!("CARGO"));
        build
            .args([
                "build",
                "--quiet",
                "--examples",
                "--package",
                env!("CARGO_PKG_NAME"),
            ])
            .args([
                "--manifest-path",
                concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"),
            ])
            .args(["--profile", profile, "--target-dir"])
            .arg(directory.parent().unwrap());
        // Cargo tells a test of its package. The build scripts that look at that would have all built anew.
        let of_package = |(name, _): &(OsString, OsString)| {
            let name = name.to_string_lossy();
            name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")
        };
        for (name, _) in env::vars_os().filter(of_package) {
            build.env_remove(name);
        }
        let status = build.status().unwrap();
        assert!(status.success());
        directory.join("examples")
    })
}
