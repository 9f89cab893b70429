"""What the tools print is read rightly: recorded input, from a server under the load generator."""

import os
import unittest
from collections import Counter
from pathlib import Path

from context import LIB  # noqa: F401, before the modules of ../lib
import proc
import stacks
import switches
import traces

RECORDED = Path(__file__).resolve().parent / "recorded"


def samples(name):
    with open(RECORDED / name) as lines:
        return list(stacks.samples(lines))


class Stacks(unittest.TestCase):
    def test_a_sample_has_its_thread_and_its_frames_from_the_root(self):
        header, frames = samples("cpu-clock.txt")[0]
        self.assertEqual((header["comm"], header["tid"], header["event"]),
                         ("data-0", "23115", "cpu-clock"))
        self.assertEqual(frames[:2], ["clone3", "start_thread"])
        self.assertIn("<opencall_dataplane::io::uring::UringIo as "
                      "opencall_dataplane::io::Io>::turn", frames)
        self.assertEqual(frames[-1], "__ip_select_ident_[k]")
        self.assertEqual(len(frames), 19)

    def test_all_samples_are_found_and_what_was_cut_off_is_no_frame(self):
        folded = stacks.fold(samples("cpu-clock.txt"))
        self.assertEqual(stacks.thread_time(folded), {"data-0": 6, "opencall-sfu": 1})
        control = [stack for stack in folded if stack[0] == "opencall-sfu"]
        self.assertEqual(control[0][1], "opencall_signaling::server::run")

    def test_own_time_is_the_leaf_and_a_frame_that_recurs_counts_once(self):
        folded = Counter({("t", "main", "f", "f"): 3, ("t", "main", "g"): 2, ("u", "f"): 9})
        self.assertEqual(stacks.self_time(folded, "t"), {"f": 3, "g": 2})
        self.assertEqual(stacks.total_time(folded, "t"), {"main": 5, "f": 3, "g": 2})
        self.assertEqual(stacks.ways(folded, "t", "f", 2), {("f", "main"): 3})

    def test_names_lose_hash_and_offset_and_keep_what_is_theirs(self):
        user, kernel = "55d0c0de", "ffffffff81000130"
        name = stacks.frame_name
        self.assertEqual(name(user, "core::f::h0123456789abcdef+0x1a", "/x"), "core::f")
        self.assertEqual(name(user, "core[0123456789abcdef]::f+0x1a", "/x"), "core::f")
        self.assertEqual(name(kernel, "udp_sendmsg+0x9", "[kernel.kallsyms]"), "udp_sendmsg_[k]")
        self.assertEqual(name(kernel, "veth_xmit+0x9", "[veth]"), "veth_xmit_[k]")
        self.assertEqual(name(user, "[unknown]", "/usr/lib/libc.so.6"), "[libc.so.6]")

    def test_a_program_that_was_rebuilt_meanwhile_is_read(self):
        lines = ["a b 1/2 3.5: cycles:P: \n", "\t 12ab f(int)+0x2 (/x/sfu (deleted))\n", "\n"]
        (header, frames), = stacks.samples(lines)
        self.assertEqual((header["comm"], header["event"], frames), ("a b", "cycles:P", ["f(int)"]))


class Cpus(unittest.TestCase):
    def setUp(self):
        self.gate = os.pipe()

    def test_lists_are_read_as_the_kernel_writes_them(self):
        self.assertEqual(list(proc.numbers("0,2-4,7")), [0, 2, 3, 4, 7])

    def test_a_cpu_that_two_threads_may_run_on_is_named_once(self):
        own = sorted(os.sched_getaffinity(0))
        self.assertEqual(proc.cpus([os.getpid(), os.getpid()]), ",".join(map(str, own)))
        child = os.fork()
        if child == 0:
            os.sched_setaffinity(0, own[-1:])
            os.read(self.gate[0], 1)
            os._exit(0)
        self.addCleanup(os.waitpid, child, 0)
        self.addCleanup(os.write, self.gate[1], b"x")
        while proc.cpus([child]) != str(own[-1]):
            pass
        self.assertEqual(proc.cpus([os.getpid(), child]), ",".join(map(str, own)))


class Switches(unittest.TestCase):
    def test_stops_wakings_and_runs_are_paired(self):
        found = switches.intervals(samples("sched.txt"), {11187})
        # The last stop did not end within the recording: that is no interval.
        self.assertEqual([(round(i.off_us), round(i.ready_us)) for i in found],
                         [(593, 30), (404, 12), (1087, 32), (165, 33), (252, 17)])
        self.assertFalse(any(i.preempted for i in found))
        self.assertIn("io_cqring_wait_[k]", found[0].stack)

    def test_other_threads_are_no_concern(self):
        self.assertEqual(switches.intervals(samples("sched.txt"), {1}), [])

    def test_a_thread_that_was_preempted_was_ready_all_the_time(self):
        found = switches.intervals([
            sample("0.5", "PERF_RECORD_SWITCH_CPU_WIDE", "IN prev pid/tid: 0/0"),
            sample("1.0", "sched:sched_switch", "prev_comm=data-0 prev_pid=7 prev_prio=120 "
                   "prev_state=R+ ==> next_comm=x y next_pid=9 next_prio=120"),
            sample("1.25", "PERF_RECORD_SWITCH_CPU_WIDE", "IN prev pid/tid: 9/9")], {7})
        self.assertEqual(found, [switches.Interval(7, ["f"], 250000, 250000, True)])

    def test_the_short_form_of_perf_is_read_too(self):
        found = switches.intervals([
            sample("1.0", "sched:sched_switch", "data-0:7 [120] S ==> swapper/1:0 [120]"),
            sample("1.5", "sched:sched_waking", "data-0:7 [120] success=1"),
            sample("1.75", "PERF_RECORD_SWITCH_CPU_WIDE", "IN prev pid/tid: 0/0")], {7})
        self.assertEqual(found, [switches.Interval(7, ["f"], 750000, 250000, False)])


def sample(time, event, rest):
    """A sample of thread 7."""
    return {"tid": "7", "time": time, "event": event, "rest": rest}, ["f"]


class Traces(unittest.TestCase):
    def test_the_summary_of_perf_trace(self):
        found = traces.of_perf((RECORDED / "perf-trace.txt").read_text())
        self.assertEqual(len(found), 6)
        self.assertIn(traces.Call("data-0", "io_uring_enter", 4029, 76, 113.0), found)
        self.assertIn(traces.Call("opencall-sfu", "sendto", 430, 0, 24.0), found)

    def test_the_summary_of_strace(self):
        found = traces.of_strace((RECORDED / "strace.txt").read_text())
        self.assertEqual(len(found), 5)
        self.assertIn(traces.Call(None, "io_uring_enter", 4918, 182, 19.0), found)
        self.assertIn(traces.Call(None, "sendmmsg", 2897, 0, 32.0), found)


if __name__ == "__main__":
    unittest.main()
