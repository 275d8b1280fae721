//! What came of it, and whether that is good enough.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

/// For the handshake and everything that is made again, and for the deliveries of a broker that is busy.
const RESTORING: Duration = Duration::from_secs(2);
/// KiB: twice what was seen.
const MEMORY: usize = 16 * 1024;

/// The head of a table with one row an adapter.
pub(super) const HEAD: &str = "\
| adapter | sent | confirmed | lost | refused | republished | consumed | redelivered | of republished | unexplained | outages | recovery, ms | of it backoff, ms | gap, ms | election, ms | peak, KiB |
|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|";

/// What a program has said: the last value of each name.
#[derive(Debug, Default)]
pub(super) struct Figures(BTreeMap<String, usize>);

/// What an outage may take.
#[derive(Debug, Default)]
pub(super) struct Limits {
    /// Of the harm itself; `None` if nothing is known of it.
    harm: Option<Duration>,
    /// The longest election.
    election: Duration,
}

impl Limits {
    pub(super) const fn judged(harm: Duration) -> Self {
        Self {
            harm: Some(harm),
            election: Duration::ZERO,
        }
    }

    /// One more outage, with that election.
    pub(super) fn outage(&mut self, election: Duration) {
        self.election = self.election.max(election);
    }

    /// For how long a consumer may be without deliveries, in milliseconds.
    fn gap(&self, backoff: usize) -> Option<u128> {
        let beside = self.harm?.max(self.election) + RESTORING;
        Some(backoff as u128 + beside.as_millis())
    }
}

impl Figures {
    /// Notes a line of a name and a value.
    pub(super) fn add(&mut self, line: &str) -> Result<()> {
        let parse = || {
            let (name, value) = line.split_once(' ')?;
            Some((name.to_owned(), value.parse().ok()?))
        };
        let (name, value) = parse().with_context(|| format!("not a figure: {line:?}"))?;
        self.0.insert(name, value);
        Ok(())
    }

    pub(super) fn get(&self, name: &str) -> usize {
        self.0.get(name).copied().unwrap_or_default()
    }

    /// Whether that was all: the peak is told last.
    pub(super) fn finish(&self) -> Result<()> {
        ensure!(self.0.contains_key("peak"), "it ended before it was done");
        Ok(())
    }

    /// What is not as it must be.
    pub(super) fn faults(&self, messages: usize, limits: &Limits) -> Vec<String> {
        let mut faults = Vec::new();
        let mut must = |is_so: bool, fault: String| {
            if !is_so {
                faults.push(fault);
            }
        };
        for name in ["confirmed", "consumed"] {
            let count = self.get(name);
            must(
                count == messages,
                format!("{count} of {messages} messages are {name}"),
            );
        }
        for (name, fault) in [
            ("missing", "confirmed and never delivered"),
            ("unexplained", "delivered twice without being marked"),
            ("failures", "failures, see above"),
        ] {
            let count = self.get(name);
            must(count == 0, format!("{count} {fault}"));
        }
        if let Some(limit) = limits.gap(self.get("backoff")) {
            let gap = self.get("gap");
            must(
                gap as u128 <= limit,
                format!("a consumer was without deliveries for {gap} ms, more than {limit}"),
            );
            must(self.get("outages") > 0, "no connection was lost".into());
        }
        let peak = self.get("peak");
        must(
            peak <= MEMORY,
            format!("{peak} KiB of memory, more than {MEMORY}"),
        );
        faults
    }

    /// In the order of [`HEAD`].
    pub(super) fn row(&self, adapter: &str, limits: &Limits) -> String {
        let names = [
            "sent",
            "confirmed",
            "lost",
            "refused",
            "republished",
            "consumed",
            "redelivered",
            "repeated",
            "unexplained",
            "outages",
            "recovery",
            "backoff",
            "gap",
        ];
        let cells: Vec<_> = names.iter().map(|name| self.get(name).to_string()).collect();
        let election = limits.election.as_millis();
        format!(
            "| {adapter} | {} | {election} | {} |",
            cells.join(" | "),
            self.get("peak")
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As good as can be, but for that line.
    fn faults(line: &str) -> Vec<String> {
        let mut figures = Figures::default();
        let good = "confirmed 7\nconfirmed 9\nconsumed 9\noutages 3\nbackoff 500\ngap 2600\npeak 9000";
        for line in good.lines().chain([line]) {
            figures.add(line).expect("well-formed");
        }
        figures.finish().expect("all is there");
        let mut limits = Limits::judged(Duration::ZERO);
        limits.outage(Duration::from_millis(200));
        limits.outage(Duration::from_millis(100));
        figures.faults(9, &limits)
    }

    #[test]
    fn each_fault_is_told() {
        assert_eq!(faults("lost 5"), [""; 0]);
        assert_eq!(faults("confirmed 8"), ["8 of 9 messages are confirmed"]);
        assert_eq!(faults("consumed 8"), ["8 of 9 messages are consumed"]);
        assert_eq!(faults("missing 1"), ["1 confirmed and never delivered"]);
        assert_eq!(
            faults("unexplained 2"),
            ["2 delivered twice without being marked"]
        );
        assert_eq!(faults("failures 1"), ["1 failures, see above"]);
        assert_eq!(
            faults("gap 2701"),
            ["a consumer was without deliveries for 2701 ms, more than 2700"]
        );
        assert_eq!(faults("outages 0"), ["no connection was lost"]);
        assert_eq!(faults("peak 16385"), ["16385 KiB of memory, more than 16384"]);
    }

    #[test]
    fn a_gap_may_take_as_long_as_the_harm() {
        let mut limits = Limits::judged(Duration::from_secs(20));
        limits.outage(Duration::from_secs(7));
        assert_eq!(limits.gap(500), Some(22_500));
        assert_eq!(Limits::default().gap(500), None);
    }

    #[test]
    fn a_row_has_as_many_cells_as_the_head() {
        let row = Figures::default().row("tokio", &Limits::default());
        let cells = |line: &str| line.matches('|').count();
        assert!(HEAD.lines().all(|line| cells(line) == cells(&row)), "{row}");
    }

    #[test]
    fn what_is_no_figure_is_an_error() {
        let mut figures = Figures::default();
        assert!(figures.add("confirmed").is_err());
        assert!(figures.add("confirmed many").is_err());
        assert!(figures.finish().is_err());
    }
}
