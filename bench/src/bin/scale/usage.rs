//! What this process takes of the machine.

use std::fs;

use anyhow::{Context, Result};

/// At one moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Usage {
    /// Resident memory, in KiB.
    pub(crate) rss: u64,
    /// The most that there ever was of it.
    pub(crate) peak: u64,
    pub(crate) threads: u64,
    pub(crate) files: usize,
}

impl Usage {
    pub(crate) fn now() -> Result<Self> {
        let file = "/proc/self/status";
        let status = fs::read_to_string(file).context(file)?;
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok())
                .with_context(|| format!("{file} does not tell {name}"))
        };
        Ok(Self {
            rss: field("VmRSS:")?,
            peak: field("VmHWM:")?,
            threads: field("Threads:")?,
            files: fs::read_dir("/proc/self/fd")?.count(),
        })
    }
}
