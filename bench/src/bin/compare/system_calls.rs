//! How many system calls a client makes: counted by the kernel with perf, or by strace.

use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use crate::processes::Client;

/// What is said under the table where neither program can count.
pub(crate) const NO_COUNTER: &str = "System calls: not counted. That takes perf (as root, or with kernel.perf_event_paranoid at -1) or strace.";

/// A program that counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Counter {
    /// The program runs nearly as fast as without it.
    Perf,
    /// Every call stops the program twice.
    Strace,
}

impl Counter {
    /// The better one of those that work here.
    pub(crate) fn find() -> Option<Self> {
        [Self::Perf, Self::Strace]
            .into_iter()
            .find(|counter| counter.works())
    }

    fn works(self) -> bool {
        let [program, arguments @ ..] = self.command() else {
            return false;
        };
        let output = Command::new(program)
            .args(arguments)
            .arg("true")
            .stderr(Stdio::null())
            .output();
        // perf succeeds even where it may not count.
        output.is_ok_and(|output| {
            self.read(&String::from_utf8_lossy(&output.stdout))
                .is_some_and(|count| count > 0)
        })
    }

    fn command(self) -> &'static [&'static str] {
        match self {
            Self::Perf => &[
                "perf",
                "stat",
                "-x",
                " ",
                "--log-fd",
                "1",
                "-e",
                "raw_syscalls:sys_enter",
            ],
            Self::Strace => &["strace", "-c", "-f", "-qq", "-o", "/dev/stdout"],
        }
    }

    /// The count, out of what the program printed.
    fn read(self, output: &str) -> Option<u64> {
        let mut lines = output.lines();
        let (line, column) = match self {
            Self::Perf => (lines.find(|line| line.contains("raw_syscalls:sys_enter"))?, 0),
            Self::Strace => (lines.find(|line| line.ends_with(" total"))?, 3),
        };
        line.split_whitespace().nth(column)?.parse().ok()
    }

    /// Counts twice, the first time without messages: that is start-up and handshake, and is taken away.
    pub(crate) fn per_message(self, client: &Client) -> Result<f64> {
        let messages = match self {
            Self::Perf => client.messages,
            Self::Strace => client.messages.div_ceil(10),
        };
        let without = self.count(client, 0)?;
        let with = self.count(client, messages)?;
        Ok(with.saturating_sub(without) as f64 / messages as f64)
    }

    fn count(self, client: &Client, messages: u64) -> Result<u64> {
        let output = client.run_under(self.command(), messages)?;
        self.read(&output)
            .with_context(|| format!("no count of system calls in {output:?}"))
    }

    /// What is said under the table.
    pub(crate) const fn note(self) -> &'static str {
        match self {
            Self::Perf => "System calls: counted with perf.",
            Self::Strace => {
                "System calls: counted with strace, in a tenth of the messages. It slows each of them down, so more \
                 happens between two of them than otherwise."
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_found_among_the_rest() {
        let perf = "report 1 2 3 4\n29  raw_syscalls:sys_enter 1158394 100.00  \n";
        assert_eq!(Counter::Perf.read(perf), Some(29));
        let refused = "<not counted>  raw_syscalls:sys_enter 0 100.00  \n";
        assert_eq!(Counter::Perf.read(refused), None);
        let strace = "report 1 2 3 4\n 50.00    0.1           1        12         3 read\n\
                      ------ ----- ----- ----- ----- ----\n100.00    0.2           2        29         4 total\n";
        assert_eq!(Counter::Strace.read(strace), Some(29));
    }
}
