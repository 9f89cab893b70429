"""Drives linux-perf: what this machine and this user may use, and the stacks that it samples."""

import os
import subprocess
from pathlib import Path

import stacks
from terminal import die, need, say

# Of the user's stack, what is copied with each sample where the unwinder reads it afterwards: the
# deepest we saw is 9 KiB, in control. More is copied in vain, less cuts the root off.
STACK_BYTES = 16384
# Tracepoints are files of the kernel's tracefs.
TRACEFS = ("/sys/kernel/tracing", "/sys/kernel/debug/tracing")


def perf():
    """The program, if it may look at the kernel's side."""
    found = need("perf")
    try:
        level = int(Path("/proc/sys/kernel/perf_event_paranoid").read_text())
    except OSError:
        die("this kernel has no perf events; it needs CONFIG_PERF_EVENTS")
    if os.geteuid() != 0 and level > 1:
        die("perf may not see the kernel; use sudo, or: "
            "sudo sysctl kernel.perf_event_paranoid=0 kernel.kptr_restrict=0")
    return found


def sees_cpus():
    """Whether this user may sample whole CPUs, whoever runs there."""
    level = Path("/proc/sys/kernel/perf_event_paranoid").read_text()
    return os.geteuid() == 0 or int(level) <= 0


def event():
    """Cycles where the processor's counter can be read, else the clock, as on most guests."""
    done = subprocess.run(["perf", "stat", "-x,", "-e", "cycles", "--", "true"],
                          capture_output=True, text=True, check=False)
    counts = done.returncode == 0 and done.stderr.strip()[:1].isdigit()
    return "cycles" if counts else "cpu-clock"


def tracepoints():
    """None if tracepoints can be used, else what is missing."""
    if os.geteuid() != 0:
        return "tracepoints need root: use sudo"
    if not any(os.path.isdir(f"{path}/events/sched") for path in TRACEFS):
        return "tracefs is not mounted: sudo mount -t tracefs tracefs /sys/kernel/tracing"
    return None


def record(options, seconds, data):
    """Records into a file for a time; what it complains of is shown when it fails."""
    command = ["perf", "record", "-q", *options, "-o", data, "--", "sleep", f"{seconds:g}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        die(f"perf record failed: {' '.join(done.stderr.split())}")


def samples(data, more=""):
    """The recorded samples, each with its stack."""
    say("reading the stacks")
    fields = f"comm,pid,tid,time,event{more},ip,sym,symoff,dso"
    command = ["perf", "script", "-i", data, "--no-inline", "--show-switch-events", "-F", fields]
    script = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                              text=True, errors="replace")
    yield from stacks.samples(script.stdout)
    if script.wait() != 0:
        die("perf script failed; see: perf script -i FILE")
