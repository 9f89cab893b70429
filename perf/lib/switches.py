"""Pairs the scheduler's events: when a thread stopped, was woken, and ran again."""

import re
from collections import namedtuple

# As the kernel prints them, and as perf does where it has a plugin for them: `name:pid [prio] …`.
SWITCH = re.compile(r"prev_pid=(?P<prev>\d+) .*?prev_state=(?P<state>\S+) ==> .*?"
                    r"next_pid=(?P<next>\d+)")
SWITCH_SHORT = re.compile(r":(?P<prev>\d+) \[\d+\] (?P<state>\S+) ==> .*:(?P<next>\d+) \[\d+\]")
WAKING = re.compile(r"\bpid=(?P<pid>\d+)")
WAKING_SHORT = re.compile(r":(?P<pid>\d+) \[\d+\]")

# One time a thread did not run: the stack it stopped in, how long, and of that how long it was
# ready to run: from its wake-up (None if that was not seen), or all of it where it was preempted.
Interval = namedtuple("Interval", "tid stack off_us ready_us preempted")


def intervals(samples, tids):
    """All times these threads did not run that began and ended within the samples."""
    found, stopped, woken = [], {}, {}
    for header, frames in samples:
        now_us, rest = float(header["time"]) * 1e6, header["rest"] or ""
        if header["event"].endswith("sched_waking"):
            match = WAKING.search(rest) or WAKING_SHORT.search(rest)
            if match and int(match["pid"]) in stopped:
                woken.setdefault(int(match["pid"]), now_us)
            continue
        match = SWITCH.search(rest) or SWITCH_SHORT.search(rest)
        if not match:
            continue
        prev, into = int(match["prev"]), int(match["next"])
        if into in stopped:
            since_us, stack, preempted = stopped.pop(into)
            ready_us = since_us if preempted else woken.get(into)
            woken.pop(into, None)
            found.append(Interval(into, stack, now_us - since_us,
                                  None if ready_us is None else now_us - ready_us, preempted))
        if prev in tids:
            stopped[prev] = (now_us, frames, match["state"].startswith("R"))
    return found
