"""Reads what `perf script` prints and folds it into stacks with weights."""

import re
from collections import Counter

# `data-0  1234/1240  12.345678: sched:sched_waking: comm=…`, `… PERF_RECORD_SWITCH_CPU_WIDE IN …`;
# the name may hold spaces.
HEADER = re.compile(
    r"^\s*(?P<comm>\S.*?)\s+(?P<pid>-?\d+)/(?P<tid>-?\d+)\s+"
    r"(?P<time>\d+\.\d+):\s+(?P<event>PERF_RECORD_\w+|\S+(?=:(?:\s|$))):?\s*(?P<rest>.*)$"
)
# `        ffffffff8100 udp_sendmsg+0x1c ([kernel.kallsyms])`; the symbol may hold brackets.
FRAME = re.compile(r"^\s+(?P<address>[0-9a-f]+) (?P<symbol>.+) "
                   r"\((?P<module>[^()]*(?:\(deleted\))?)\)$")
OFFSET = re.compile(r"\+0x[0-9a-f]+$")
# The hash that Rust's mangling puts behind a name, in the older form and in the newer.
HASH = re.compile(r"::h[0-9a-f]{16}$|\[[0-9a-f]{16}\]")
# What ends a stack that was cut off: more of it was in use than was copied.
CUT_OFF = "f" * 16
# The kernel lives in the upper half of the addresses.
KERNEL = 1 << 63


def frame_name(address, symbol, module):
    """What a frame is called in the graph; the kernel's frames end in `_[k]`."""
    symbol = HASH.sub("", OFFSET.sub("", symbol))
    if symbol == "[unknown]":
        symbol = f"[{module.rsplit('/', 1)[-1].strip('[]') or 'unknown'}]"
    return f"{symbol}_[k]" if int(address, 16) >= KERNEL else symbol


def samples(lines):
    """Yields (header as a dictionary, frames from the root to the leaf) for each sample."""
    header, frames = None, []
    for line in lines:
        found = FRAME.match(line.rstrip("\n")) if header else None
        if found:
            if found["address"] != CUT_OFF:
                frames.append(frame_name(found["address"], found["symbol"], found["module"]))
            continue
        if header:
            yield header, frames[::-1]
        found = HEADER.match(line.rstrip("\n"))
        header, frames = (found.groupdict() if found else None), []
    if header:
        yield header, frames[::-1]


def fold(found):
    """Samples as stacks below their thread's name; each weighs one."""
    folded = Counter()
    for header, frames in found:
        folded[(header["comm"], *frames)] += 1
    return folded


def thread_time(folded):
    """Weight by thread."""
    found = Counter()
    for stack, weight in folded.items():
        found[stack[0]] += weight
    return found


def self_time(folded, thread):
    """Weight by leaf: where the processor was."""
    leaves = Counter()
    for stack, weight in folded.items():
        if stack[0] == thread:
            leaves[stack[-1]] += weight
    return leaves


def ways(folded, thread, leaf, frames):
    """Weight by the frames that led to a leaf, the nearest first."""
    found = Counter()
    for stack, weight in folded.items():
        if stack[0] == thread and stack[-1] == leaf:
            found[stack[-2:-2 - frames:-1]] += weight
    return found


def total_time(folded, thread):
    """Weight by frame, with all that it called; a frame that recurs counts once."""
    frames = Counter()
    for stack, weight in folded.items():
        if stack[0] == thread:
            for frame in set(stack[1:]):
                frames[frame] += weight
    return frames
