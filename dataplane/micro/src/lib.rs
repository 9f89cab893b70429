//! The data plane's work in small pieces, each defined once and measured in two ways.
//!
//! * By instructions: `scripts/instruction-counts` runs the `opencall-micro` program under
//!   callgrind and compares with `instructions.tsv`. The same program gives nearly the same counts
//!   every time, so a few per cent more are seen on a machine where times jump by thirty.
//! * By time: `cargo bench -p opencall-micro` (criterion).
//!
//! | module | what |
//! |---|---|
//! | `srtp` | sealing and opening, for each profile |
//! | `packet` | classifying, parsing, renumbering, writing headers |
//! | `streams` | history, loss detection, transport-wide feedback |
//! | `ring` | the hand-off between two cores |
//! | `turn` | whole turns of a core: receiving, fan-out, answers to NACK, STUN checks |
//! | `meeting` | turns of a core with many rooms, whose state is in no cache |
//! | `stage` | a core with its clients, for `turn` |
#![forbid(unsafe_code)]

mod meeting;
mod packet;
mod ring;
mod srtp;
mod stage;
mod streams;
mod turn;

/// Bytes of an RTP packet of video as browsers cut it: header, extensions and payload, before
/// sealing.
const VIDEO_PACKET_LEN: usize = 1180;

/// Bytes of a packet of Opus at 32 kbit/s and 20 ms, before sealing.
const AUDIO_PACKET_LEN: usize = 100;

/// One piece of work that can be done again and again.
pub trait Work {
    /// Makes ready for one run: what comes in, and the time it comes at. Not measured.
    fn prepare(&mut self);

    /// Does the work. Measured.
    fn run(&mut self);

    /// Units done since the beginning, as the code under measurement itself counts them: a workload
    /// that does something else than it says is found out.
    fn done(&self) -> u64;
}

/// A workload: a name, and how to begin it.
pub struct Workload {
    /// What tables and filters call it.
    pub name: &'static str,
    /// What the count is per.
    pub unit: &'static str,
    /// Units in one run.
    pub units: u64,
    /// Begins it.
    pub make: fn() -> Box<dyn Work>,
}

/// All workloads, from the packet's way in to its way out.
pub fn all() -> Vec<Workload> {
    [
        srtp::workloads(),
        packet::workloads(),
        streams::workloads(),
        ring::workloads(),
        turn::workloads(),
        meeting::workloads(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 32 s of media: connections must have been kept alive.
    const RUNS: u64 = 800;

    #[test]
    fn every_workload_does_as_much_as_it_says() {
        for workload in all() {
            let mut work = (workload.make)();
            let before = work.done();
            for _ in 0..RUNS {
                work.prepare();
                work.run();
            }
            assert_eq!(work.done() - before, RUNS * workload.units, "{}", workload.name);
        }
    }

    #[test]
    fn names_are_unique() {
        let mut names: Vec<_> = all().iter().map(|workload| workload.name).collect();
        names.sort_unstable();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
