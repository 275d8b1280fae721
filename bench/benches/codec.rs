//! How long each case takes, ours and the peers' in the same run.

use std::time::{Duration, Instant};

use amqp_bench::cases::{CASES, Rounds};
use criterion::{Criterion, criterion_group, criterion_main};

fn codecs(criterion: &mut Criterion) {
    for case in CASES {
        let mut group = criterion.benchmark_group(case.name);
        for &(codec, prepare) in case.subjects {
            group.bench_function(format!("{codec:?}"), |bencher| match case.rounds {
                Rounds::Endless(_) => {
                    let mut run = prepare(usize::MAX);
                    bencher.iter_custom(|total| {
                        let start = Instant::now();
                        run(usize::try_from(total).unwrap_or(usize::MAX));
                        start.elapsed()
                    });
                }
                Rounds::Limited(at_once) => bencher.iter_custom(|total| {
                    let mut time = Duration::ZERO;
                    let mut left = usize::try_from(total).unwrap_or(usize::MAX);
                    while left > 0 {
                        let now = left.min(at_once);
                        let mut run = prepare(now);
                        let start = Instant::now();
                        run(now);
                        time += start.elapsed();
                        left -= now;
                    }
                    time
                }),
            });
        }
        group.finish();
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .without_plots();
    targets = codecs
}
criterion_main!(benches);
