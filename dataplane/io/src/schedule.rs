//! What the scheduler is told of the threads: media first, where control shares a CPU with it.

use std::cell::Cell;
use std::mem;
use std::time::{Duration, Instant};

/// The weight of nice 10 is a tenth of the usual.
const BACK: i32 = 10;

/// How long a data core asks to run at a time, nanoseconds: the shortest slice there is.
const PROMPT_SLICE: u64 = 100_000;

/// How long a thread that has stepped back works before it [gives way](give_way): two slices of a
/// data core.
const STINT: Duration = Duration::from_micros(200);

/// Has this thread, and those it starts from now on, step back where it shares a CPU with a data
/// core: it interrupts nobody when it wakes up (`SCHED_BATCH`), and gets a tenth of a CPU that is
/// full. It is to [give way](give_way) as often as it can.
pub fn step_back() {
    apply(libc::SCHED_BATCH, niceness().max(BACK), STINT.as_nanos() as u64);
}

thread_local! {
    /// When this thread gave way last.
    static GAVE_WAY: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Lets a data core that waits for this CPU run, unless this thread did so a moment ago: for
/// threads that have [stepped back](step_back), between any two pieces of their work.
///
/// A core that wakes up interrupts such a thread only if it has had no more than its share by then.
/// One that has just been at work is a few microseconds above it, and the scheduler looks again
/// when the thread sleeps or at the next tick, which may be milliseconds later.
pub fn give_way() {
    let now = Instant::now();
    let is_soon = |at: Instant| now.duration_since(at) < STINT;
    if GAVE_WAY.get().is_some_and(is_soon) {
        return;
    }
    std::thread::yield_now();
    // What others did meanwhile was not this thread's stint.
    GAVE_WAY.set(Some(Instant::now()));
}

/// Has this thread run as soon as it wakes up, whoever else is at work on its CPU: it asks for
/// shorter slices than others, and the scheduler serves the shorter first (Linux 6.12). With slices
/// of equal length it would wait for the other's to end, up to 4 ms. Older kernels take no notice.
pub fn run_promptly() {
    apply(libc::SCHED_OTHER, niceness(), PROMPT_SLICE);
}

/// How nice this thread is: whoever starts the server with another niceness than 0 means it.
fn niceness() -> i32 {
    // SAFETY: reads a number of this thread's.
    unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) }
}

/// Changes how this thread is scheduled; a slice of 0 is the usual one.
fn apply(policy: libc::c_int, nice: i32, slice_nanos: u64) {
    // SAFETY: all-zero is a valid `sched_attr`: the default policy, nice 0, no flags.
    let mut attr: libc::sched_attr = unsafe { mem::zeroed() };
    attr.size = size_of::<libc::sched_attr>() as u32;
    attr.sched_policy = policy as u32;
    attr.sched_nice = nice;
    attr.sched_runtime = slice_nanos;
    // SAFETY: the attributes are initialised and name their size; 0 is this thread.
    let result = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attr, 0) };
    if result < 0 {
        let error = std::io::Error::last_os_error();
        tracing::debug!(%error, "a thread keeps the scheduler's usual settings");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Policy and niceness of a new thread after `change`.
    fn after(change: fn()) -> (i32, i32) {
        let thread = std::thread::spawn(move || {
            change();
            // SAFETY: reads a number of this thread's.
            let policy = unsafe { libc::sched_getscheduler(0) };
            (policy, niceness())
        });
        thread.join().unwrap()
    }

    #[test]
    fn control_steps_back_and_a_core_keeps_its_niceness() {
        let (_, usual) = after(|| ());
        assert_eq!(after(step_back), (libc::SCHED_BATCH, BACK.max(usual)));
        assert_eq!(after(run_promptly), (libc::SCHED_OTHER, usual));
    }

    #[test]
    fn a_thread_gives_way_once_in_a_stint() {
        give_way();
        let first = GAVE_WAY.get().unwrap();
        let mut last = first;
        while last == first {
            give_way();
            last = GAVE_WAY.get().unwrap();
        }
        assert!(last - first >= STINT, "{:?}", last - first);
    }
}
