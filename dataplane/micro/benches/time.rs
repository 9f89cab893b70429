//! The workloads by time: `cargo bench -p opencall-micro`, with a name to run only some.
#![forbid(unsafe_code)]

use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use opencall_micro::all;

fn time(criterion: &mut Criterion) {
    for workload in all() {
        let mut group = criterion.benchmark_group(workload.name);
        group.throughput(Throughput::Elements(workload.units));
        group.bench_function(workload.unit, |bencher| {
            let mut work = (workload.make)();
            bencher.iter_custom(|runs| {
                let mut spent = Duration::ZERO;
                for _ in 0..runs {
                    work.prepare();
                    let began = Instant::now();
                    work.run();
                    spent += began.elapsed();
                }
                spent
            });
        });
        group.finish();
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2));
    targets = time
}
criterion_main!(benches);
