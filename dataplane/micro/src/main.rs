//! Runs the workloads so that callgrind can count them: `scripts/instruction-counts` starts it, and
//! names the two functions below that switch the counting on and write it down.
#![forbid(unsafe_code)]

use std::hint::black_box;

use opencall_micro::{Work, all};

/// Runs before counting begins, 1.4 s of media: histories have grown to what the stream needs.
const WARM_UP_RUNS: u64 = 35;

/// Counted runs of each workload, a second of media: what is done once a second is in the mean.
const RUNS: u64 = 25;

fn main() {
    println!("cpu\t{}", cpu_features());
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    for workload in all() {
        if !wanted.is_empty() && !wanted.iter().any(|name| name == workload.name) {
            continue;
        }
        let mut work = (workload.make)();
        for _ in 0..WARM_UP_RUNS {
            work.prepare();
            work.run();
        }
        let before = work.done();
        for _ in 0..RUNS {
            work.prepare();
            counted_run(&mut *work);
        }
        let units = RUNS * workload.units;
        assert_eq!(work.done() - before, units, "{} does not do what it says", workload.name);
        println!("{}\t{}\t{units}", workload.name, workload.unit);
        counting_ends(workload.name);
    }
}

/// What the cryptographic library and memcpy choose their code by. Under valgrind, what valgrind
/// can do of what the CPU can.
fn cpu_features() -> String {
    #[cfg(target_arch = "x86_64")]
    let features = [
        ("ssse3", is_x86_feature_detected!("ssse3")),
        ("avx2", is_x86_feature_detected!("avx2")),
        ("avx512", is_x86_feature_detected!("avx512vl")),
        ("aes", is_x86_feature_detected!("aes")),
        ("vaes", is_x86_feature_detected!("vaes")),
        ("clmul", is_x86_feature_detected!("pclmulqdq")),
        ("movbe", is_x86_feature_detected!("movbe")),
        ("sha", is_x86_feature_detected!("sha")),
    ];
    #[cfg(not(target_arch = "x86_64"))]
    let features = [(std::env::consts::ARCH, true)];
    let names: Vec<&str> =
        features.into_iter().filter(|(_, there)| *there).map(|(name, _)| name).collect();
    names.join(" ")
}

/// Counting is on while this runs.
#[inline(never)]
fn counted_run(work: &mut dyn Work) {
    black_box(work).run();
}

/// What was counted is written when this has run.
#[inline(never)]
fn counting_ends(name: &str) {
    black_box(name);
}
