//! Feeds every target its seeds, and seeded mutations of them: the part of fuzzing that any
//! compiler can do. A failure prints the input that caused it.
#![forbid(unsafe_code)]

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::time::{Duration, Instant};

use opencall_fuzz::{TARGETS, Target};

/// Mutations fed to each target; the cheap ones take a fraction of a second for all of them.
const MUTATIONS: u32 = 50_000;

/// When to stop early. Targets run side by side and the slowest are slow on small machines, where
/// this test must not become the longest one.
const TIME_LIMIT: Duration = Duration::from_secs(5);

/// Longest mutation, bytes: enough for two seeds behind one another.
const MAX_LEN: usize = 8192;

/// SplitMix64: one seed replays a test.
struct Random(u64);

impl Random {
    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.bits() % bound.max(1) as u64) as usize
    }

    fn range(&mut self, len: usize) -> std::ops::Range<usize> {
        let start = self.below(len + 1);
        start..start + self.below((len - start).min(64) + 1)
    }
}

/// A damaged copy of one seed, with pieces of another.
fn mutate(random: &mut Random, seeds: &[Vec<u8>]) -> Vec<u8> {
    const EDGES: [u8; 8] = [0, 1, 0x0f, 0x7f, 0x80, 0xbe, 0xfe, 0xff];
    let mut bytes = seeds[random.below(seeds.len())].clone();
    for _ in 0..=random.below(5) {
        let at = random.below(bytes.len());
        match random.below(10) {
            0..=2 if !bytes.is_empty() => bytes[at] ^= 1 << random.below(8),
            3 | 4 if !bytes.is_empty() => bytes[at] = EDGES[random.below(EDGES.len())],
            5 if !bytes.is_empty() => bytes[at] = random.bits() as u8,
            6 => {
                let range = random.range(bytes.len());
                bytes.drain(range);
            }
            7 => {
                let piece = bytes[random.range(bytes.len())].to_vec();
                bytes.splice(at..at, piece);
            }
            8 => {
                let other = &seeds[random.below(seeds.len())];
                let piece = other[random.range(other.len())].to_vec();
                bytes.splice(at..at, piece);
            }
            _ => bytes.truncate(random.below(bytes.len() + 1)),
        }
    }
    bytes.truncate(MAX_LEN);
    bytes
}

fn seeds(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds").join(target);
    let files = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{folder:?}: {error}"));
    let mut paths: Vec<_> = files.map(|file| file.expect("a file").path()).collect();
    paths.sort();
    assert!(!paths.is_empty(), "no seeds in {folder:?}");
    paths.iter().map(|path| fs::read(path).expect("a readable seed")).collect()
}

fn feed(target: Target, input: &[u8]) {
    let Err(panic) = catch_unwind(AssertUnwindSafe(|| (target.run)(input))) else { return };
    let dump: String = input.iter().map(|byte| format!("{byte:02x}")).collect();
    eprintln!("{} failed for: {dump}", target.name);
    eprintln!("as text: {}", String::from_utf8_lossy(input).escape_debug());
    resume_unwind(panic);
}

fn smoke(name: &str) {
    let target = *TARGETS.iter().find(|target| target.name == name).expect("a target");
    let seeds = seeds(name);
    for seed in &seeds {
        feed(target, seed);
    }
    let started = Instant::now();
    let mut random = Random(0x5eed);
    let mut fed = 0;
    while fed < MUTATIONS && started.elapsed() < TIME_LIMIT {
        feed(target, &mutate(&mut random, &seeds));
        fed += 1;
    }
    println!("{name}: {fed} mutations of {} seeds in {:.1?}", seeds.len(), started.elapsed());
}

macro_rules! smoke {
    ($($name:ident)+) => {
        $(#[test]
        fn $name() {
            smoke(stringify!($name));
        })+

        /// The names above.
        const TESTED: &[&str] = &[$(stringify!($name)),+];
    };
}

smoke!(core demux ice rtcp rtp sctp signaling_opencall signaling_protoo srtp_open stun);

#[test]
fn every_target_is_tested_and_has_a_binary() {
    let manifest = include_str!("../Cargo.toml");
    let names: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
    assert_eq!(names, TESTED);
    assert_eq!(manifest.matches("[[bin]]").count(), names.len());
    for name in names {
        assert!(manifest.contains(&format!("path = \"fuzz_targets/{name}.rs\"")), "{name}");
    }
}
