"""Reads /proc: threads, their CPU time and switches, sockets."""

import os
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")


def read(path):
    """A file's text; empty where it cannot be read, for threads end while we look."""
    try:
        return Path(path).read_text()
    except OSError:
        return ""


def stat_fields(text):
    """The fields of /proc/…/stat from the third on; the name before them may hold anything."""
    return text.rpartition(")")[2].split()


def name_of(pid):
    """The name of a process."""
    return read(f"/proc/{pid}/comm").strip()


def named(name):
    """The processes of this name, ascending."""
    pids = (int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit())
    return sorted(pid for pid in pids if name_of(pid) == name)


def parent_of(pid):
    """The process that started a process; None where that has ended."""
    fields = stat_fields(read(f"/proc/{pid}/stat"))
    return int(fields[1]) if len(fields) > 1 else None


def threads(pid):
    """Thread id to name, the data cores first."""
    found = {}
    for path in Path(f"/proc/{pid}/task").glob("*"):
        name = read(path / "comm").strip()
        if name:
            found[int(path.name)] = name
    return dict(sorted(found.items(), key=lambda item: (not item[1].startswith("data-"), item[1])))


def cpus(tids):
    """The CPUs that any of these threads may run on, as a list such as `0,2,3`; empty if unknown.
    None is named twice, for perf refuses that."""
    found = set()
    for tid in tids:
        for line in read(f"/proc/{tid}/status").splitlines():
            if line.startswith("Cpus_allowed_list:"):
                found.update(numbers(line.split()[1]))
    return ",".join(map(str, sorted(found)))


def numbers(text):
    """The numbers of a list such as `0,2-3`."""
    for part in text.split(","):
        first, _, last = part.partition("-")
        yield from range(int(first), int(last or first) + 1)


def key_values(text):
    """Lines such as `VmRSS:   123 kB` as a dictionary of their first numbers."""
    found = {}
    for line in text.splitlines():
        key, colon, value = line.partition(":")
        words = value.split()
        if colon and words and words[0].isdigit():
            found[key] = int(words[0])
    return found


def snmp_udp(text):
    """The UDP counters of /proc/…/net/snmp."""
    lines = [line.split()[1:] for line in text.splitlines() if line.startswith("Udp:")]
    if len(lines) < 2:
        return {}
    return dict(zip(lines[0], map(int, lines[1])))


def udp_sockets(pid):
    """Inode to (port, bytes that wait, packets dropped) of a process's UDP sockets."""
    inodes = socket_inodes(pid)
    found = {}
    for name in ["udp", "udp6"]:
        found.update(udp_table(read(f"/proc/{pid}/net/{name}"), inodes))
    return found


def udp_table(text, inodes):
    """The lines of /proc/…/net/udp that belong to these sockets."""
    found = {}
    for words in map(str.split, text.splitlines()[1:]):
        if len(words) > 12 and words[9] in inodes:
            port = int(words[1].rpartition(":")[2], 16)
            found[words[9]] = (port, int(words[4].partition(":")[2], 16), int(words[12]))
    return found


def socket_inodes(pid):
    """The inodes of a process's sockets; raises PermissionError for another user's process."""
    found = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        try:
            name = str(link.readlink())
        except FileNotFoundError:
            continue
        if name.startswith("socket:["):
            found.add(name[len("socket:["):-1])
    return found


def waited(text):
    """Of /proc/…/schedstat: seconds spent ready to run without a CPU, and how often it ran."""
    words = text.split()
    return (int(words[1]) / 1e9, int(words[2])) if len(words) > 2 else (0.0, 0)
