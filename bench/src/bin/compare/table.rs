//! The table: a line for each case and client, medians of the rounds.

use amqp_bench::clients::Case;

/// A case and a client, and what was measured of them.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) case: &'static Case,
    pub(crate) peer: &'static str,
    pub(crate) samples: Vec<Sample>,
    /// Why it was not tried again.
    pub(crate) failure: Option<String>,
}

/// What was measured in one round. All but the memory and the rate is per message.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    /// In nanoseconds.
    pub(crate) cpu: f64,
    pub(crate) allocations: f64,
    pub(crate) system_calls: Option<f64>,
    /// In MiB.
    pub(crate) peak_rss: f64,
    /// Messages a second.
    pub(crate) rate: f64,
    /// The median of the round trips, in microseconds.
    pub(crate) round_trip: Option<f64>,
}

pub(crate) fn print(rows: &[Row]) {
    println!(
        "case              client         CPU ns/msg      least–most  allocs/msg  syscalls/msg  peak RSS MiB  messages/s  round trip µs"
    );
    let mut last = None;
    for row in rows {
        if last.is_some_and(|last| last != row.case.name) {
            println!();
        }
        last = Some(row.case.name);
        row.print();
    }
}

impl Row {
    /// Of those rounds that had it; none if one had not.
    pub(crate) fn median(&self, number: fn(&Sample) -> Option<f64>) -> Option<f64> {
        let numbers: Option<Vec<_>> = self.samples.iter().map(number).collect();
        numbers.filter(|numbers| !numbers.is_empty()).map(median)
    }

    fn print(&self) {
        if self.samples.is_empty() {
            println!("{:<17} {:<13} {:>11}", self.case.name, self.peer, "FAILED");
            return;
        }
        let cpu = || self.samples.iter().map(|sample| sample.cpu);
        let (least, most) = (cpu().fold(f64::INFINITY, f64::min), cpu().fold(0.0, f64::max));
        let all = |number: fn(&Sample) -> Option<f64>, digits: usize| {
            let median = self.median(number);
            median.map_or_else(|| "–".to_owned(), |median| format!("{median:.digits$}"))
        };
        println!(
            "{:<17} {:<13} {:>11} {:>15} {:>11} {:>13} {:>13} {:>11} {:>14}",
            self.case.name,
            self.peer,
            all(|sample| Some(sample.cpu), 0),
            format!("{least:.0}–{most:.0}"),
            all(|sample| Some(sample.allocations), 2),
            all(|sample| sample.system_calls, 3),
            all(|sample| Some(sample.peak_rss), 1),
            all(|sample| Some(sample.rate), 0),
            all(|sample| sample.round_trip, 1),
        );
    }
}

/// The one in the middle, or the mean of the two that are; 0 of none.
fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    let upper = numbers.get(numbers.len() / 2).copied().unwrap_or_default();
    let lower = numbers
        .get(numbers.len().saturating_sub(1) / 2)
        .copied()
        .unwrap_or_default();
    f64::midpoint(lower, upper)
}

#[cfg(test)]
mod tests {
    use super::median;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(median(Vec::new()), 0.0);
    }
}
