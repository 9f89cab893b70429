//! How busy a data core's thread is, as the kernel counts.
#![forbid(unsafe_code)]

use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

use opencall_wire::time::Time;

/// The thread's id, which it writes itself when it begins; 0 before.
pub(super) type ThreadId = Arc<AtomicI32>;

/// To be called by the thread.
pub(super) fn enter(id: &ThreadId) {
    id.store(nix::unistd::gettid().as_raw(), Ordering::Relaxed);
}

/// Measures a thread from outside.
#[derive(Default)]
pub(super) struct LoadMeter {
    thread: ThreadId,
    /// When it was looked at last, and how long the thread had run until then, in nanoseconds.
    last: Option<(Time, u64)>,
}

impl LoadMeter {
    /// Of the thread that [`enter`]s with the same id.
    pub fn of(thread: ThreadId) -> Self {
        LoadMeter { thread, last: None }
    }

    /// The share of time, 0–1, for which the thread has run since the last call. `None` the first
    /// time, and where the kernel does not tell.
    pub fn busy(&mut self, now: Time) -> Option<f32> {
        let ran_ns = run_time_ns(self.thread.load(Ordering::Relaxed))?;
        let (then, before_ns) = self.last.replace((now, ran_ns))?;
        let elapsed_ns = now.since(then).as_nanos() as f32;
        (elapsed_ns > 0.0).then(|| ran_ns.saturating_sub(before_ns) as f32 / elapsed_ns)
    }
}

/// How long a thread of this process has run (proc_pid_schedstat: the first of three numbers).
fn run_time_ns(thread: i32) -> Option<u64> {
    let path = format!("/proc/self/task/{thread}/schedstat");
    std::fs::read_to_string(path).ok()?.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn a_thread_that_works_is_busier_than_one_that_sleeps() {
        let (works, sleeps) = (ThreadId::default(), ThreadId::default());
        let mut meters = [LoadMeter::of(Arc::clone(&works)), LoadMeter::of(Arc::clone(&sleeps))];
        assert_eq!(meters[0].busy(Time::ZERO), None, "it has not begun");
        let until = Instant::now() + Duration::from_millis(300);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                enter(&works);
                while Instant::now() < until {}
            });
            scope.spawn(|| {
                enter(&sleeps);
                std::thread::sleep(until - Instant::now());
            });
            std::thread::sleep(Duration::from_millis(50));
            let begin = Instant::now();
            for meter in &mut meters {
                assert_eq!(meter.busy(Time::from_millis(1)), None, "there is nothing to compare");
            }
            std::thread::sleep(Duration::from_millis(150));
            let now = Time::from_millis(1) + begin.elapsed();
            let [worked, slept] = meters.each_mut().map(|meter| meter.busy(now).unwrap());
            assert!(worked > 10.0 * slept && slept < 0.1, "{worked} and {slept}");
        });
    }
}
