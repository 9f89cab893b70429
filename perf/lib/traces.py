"""Reads the summaries of `perf trace -s` and of `strace -c`."""

import re
from collections import namedtuple

# Of one thread (None where the tool does not tell threads apart); the mean in microseconds.
Call = namedtuple("Call", "thread name calls errors mean_us")

# ` data-0 (1234), 288 events, 97.3%`
THREAD = re.compile(r"^\s*(?P<name>\S.*?) \((?P<tid>\d+)\), \d+ events")
# `   openat                34     13     0.789     0.014     0.023     0.045      3.93%`
PERF = re.compile(r"^\s+(?P<name>\w+)\s+(?P<calls>\d+)\s+(?P<errors>\d+)\s+[\d.]+\s+[\d.]+\s+"
                  r"(?P<mean_ms>[\d.]+)\s")
# ` 97.10    0.123456         12     10288         3 recvmsg`
STRACE = re.compile(r"^\s*[\d.]+\s+[\d.]+\s+(?P<mean_us>\d+)\s+(?P<calls>\d+)\s+"
                    r"(?P<errors>\d+)?\s*(?P<name>[a-z]\w*)$")


def of_perf(text):
    """The calls of each thread."""
    found, thread = [], None
    for line in text.splitlines():
        if head := THREAD.match(line):
            thread = head["name"]
        elif row := PERF.match(line):
            found.append(Call(thread, row["name"], int(row["calls"]), int(row["errors"]),
                              float(row["mean_ms"]) * 1e3))
    return found


def of_strace(text):
    """The calls of the whole process; `total` is a line of its own there and left out."""
    rows = (STRACE.match(line) for line in text.splitlines())
    return [Call(None, row["name"], int(row["calls"]), int(row["errors"] or 0),
                 float(row["mean_us"])) for row in rows if row and row["name"] != "total"]
