"""Pairs the scheduler's events: when a thread stopped, was woken, and ran again."""

import re
from collections import namedtuple

# As the kernel prints them, and as perf does where it has a plugin for them: `name:pid [prio] …`.
SWITCH = re.compile(r"prev_pid=(?P<pid>\d+) .*?prev_state=(?P<state>\S+)")
SWITCH_SHORT = re.compile(r":(?P<pid>\d+) \[\d+\] (?P<state>\S+) ==>")
WAKING = re.compile(r"\bpid=(?P<pid>\d+)")
WAKING_SHORT = re.compile(r":(?P<pid>\d+) \[\d+\]")

# One time a thread did not run: the stack it stopped in, how long, and of that how long it was
# ready to run: from its wake-up (None if that was not seen), or all of it where it was preempted.
Interval = namedtuple("Interval", "tid stack off_us ready_us preempted")


def intervals(samples, tids):
    """All times these threads did not run that began and ended within the samples.

    That a thread stopped, and in what, is told by sched_switch. That it runs again is told by
    perf's own record: the tracepoint is silent on some guests when the CPU comes from idle.
    """
    found, stopped, woken = [], {}, {}
    for header, frames in samples:
        now_us, rest = float(header["time"]) * 1e6, header["rest"]
        if header["event"].startswith("PERF_RECORD_SWITCH"):
            tid = int(header["tid"])
            if rest.startswith("IN") and tid in stopped:
                found.append(ended(tid, stopped.pop(tid), woken.pop(tid, None), now_us))
        elif header["event"].endswith("sched_waking"):
            match = WAKING.search(rest) or WAKING_SHORT.search(rest)
            if match and int(match["pid"]) in stopped:
                woken.setdefault(int(match["pid"]), now_us)
        elif match := SWITCH.search(rest) or SWITCH_SHORT.search(rest):
            if int(match["pid"]) in tids:
                stopped[int(match["pid"])] = (now_us, frames, match["state"].startswith("R"))
    return found


def ended(tid, stop, woken_us, now_us):
    """A thread that stopped runs again."""
    since_us, stack, preempted = stop
    ready_since_us = since_us if preempted else woken_us
    ready_us = None if ready_since_us is None else now_us - ready_since_us
    return Interval(tid, stack, now_us - since_us, ready_us, preempted)
