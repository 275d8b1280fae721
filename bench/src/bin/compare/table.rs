//! The table: a line for each case and client, medians of the rounds.

use amqp_bench::clients::Case;

/// A case and a client, and what was measured of them.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) case: &'static Case,
    pub(crate) peer: &'static str,
    pub(crate) samples: Vec<Sample>,
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
}

pub(crate) fn print(rows: &[Row]) {
    println!(
        "case              client        CPU ns/msg  allocs/msg  syscalls/msg  peak RSS MiB  messages/s"
    );
    let mut last = None;
    for row in rows {
        let name = row.case.name;
        if last.is_some_and(|last| last != name) {
            println!();
        }
        last = Some(name);
        let median = |number: fn(&Sample) -> f64| median(row.samples.iter().map(number).collect());
        let system_calls: Option<Vec<f64>> = row.samples.iter().map(|sample| sample.system_calls).collect();
        let system_calls =
            system_calls.map_or_else(|| "–".to_owned(), |counts| format!("{:.3}", self::median(counts)));
        println!(
            "{name:<17} {:<12} {:>11.0} {:>11.2} {system_calls:>13} {:>13.1} {:>11.0}",
            row.peer,
            median(|sample| sample.cpu),
            median(|sample| sample.allocations),
            median(|sample| sample.peak_rss),
            median(|sample| sample.rate),
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
