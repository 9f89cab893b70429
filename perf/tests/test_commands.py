"""Each command, as a reader runs it: against a process, and with a server of its own."""


import os
import shutil
import subprocess
import sys
import tempfile
import time
import unittest
import xml.etree.ElementTree as xml
from pathlib import Path

from context import PERF
import proc
import sampler

# A process that computes, sleeps, writes, and has a UDP socket.
BUSY = """
import os, socket, time
opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
opened.bind(("127.0.0.1", 0))
sink = os.open("/dev/null", os.O_WRONLY)
print("busy", flush=True)
while True:
    until = time.monotonic() + 0.004
    while time.monotonic() < until:
        os.write(sink, b"x")
    time.sleep(0.001)
"""
# Only ends what hangs: a busy machine is slow.
HANGS_S = 300
# Longer than a command looks, and than a busy machine takes to begin with it.
LONG_ENOUGH_S = 8
# Stands for the load generator: starts a process named as the server, says that it measures.
FAKE_BENCH = """#!{python}
import json, subprocess, sys, time
words = sys.argv[1:]
if words[:2] != ["run", "pair"] or "--rooms" not in words:
    sys.exit("unexpected: " + " ".join(words))
server = subprocess.Popen(["{server}", "{busy}"], stdout=subprocess.PIPE)
server.stdout.readline()
print("   1.0 s  not counted     2 people     99 packets/s", flush=True)
print("   2.0 s  measuring       2 people     99 packets/s", flush=True)
time.sleep({seconds})
server.terminate()
result = {{"duration_s": 2.0, "forwarded_packets": 5000, "participants": 2, "lost": 0,
    "cpu_us_per_forwarded_packet": 4.5, "user_us_per_forwarded_packet": 1.5,
    "system_us_per_forwarded_packet": 3.0, "latency_us": {{"p50": 120.0, "max": 950.0}},
    "mean_gso_segments": None, "commit": "0123456789abcdef"}}
json.dump(result, open(words[words.index("--json") + 1], "w"))
"""


def lacking():
    """Why perf cannot be used here, or None."""
    if not shutil.which("perf"):
        return "perf is missing: sudo apt-get install linux-perf"
    if os.geteuid() != 0 and int(Path("/proc/sys/kernel/perf_event_paranoid").read_text()) > 1:
        return "perf may not see the kernel: sudo sysctl kernel.perf_event_paranoid=0"
    return None


def run(name, *words, **environment):
    """Runs a command of perf/ and returns what came of it."""
    return subprocess.run([PERF / name, *map(str, words)], capture_output=True, text=True,
                          timeout=HANGS_S, env={**os.environ, **environment}, check=False)


class Running(unittest.TestCase):
    """Against a process that runs."""

    def setUp(self):
        self.directory = tempfile.TemporaryDirectory()
        self.addCleanup(self.directory.cleanup)
        self.busy = subprocess.Popen([sys.executable, "-c", BUSY], stdout=subprocess.PIPE)
        self.addCleanup(self.busy.stdout.close)
        self.addCleanup(self.busy.wait)
        self.addCleanup(self.busy.kill)
        self.busy.stdout.readline()

    def looked(self, name, *words, seconds=0.5):
        done = run(name, "--pid", self.busy.pid, "--seconds", seconds, *words)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    def path(self, name):
        return Path(self.directory.name) / name

    @unittest.skipIf(lacking(), lacking())
    def test_record_draws_and_lists(self):
        # Until a thread has enough samples for a table of its own: that takes longer where others run too.
        for seconds in (0.5, 2, 8, 32):
            text = self.looked("record", "--out", self.path("a.svg"), seconds=seconds)
            if "its own time" in text:
                break
        self.assertEqual(xml.parse(self.path("a.svg")).getroot().tag,
                         "{http://www.w3.org/2000/svg}svg")
        self.assertIn("write", self.path("a.svg").read_text())
        self.assertIn("its own time", text)
        self.assertEqual(text.split("flame graph:")[0].strip(),
                         self.path("a.txt").read_text().strip())

    @unittest.skipIf(lacking(), lacking())
    def test_record_names_the_threads_when_it_knows_none_of_that_name(self):
        done = run("record", "--pid", self.busy.pid, "--thread", "data-9")
        self.assertEqual(done.returncode, 1)
        self.assertIn("no thread data-9; there are: ", done.stderr)

    @unittest.skipIf(lacking() or sampler.tracepoints(), lacking() or sampler.tracepoints())
    def test_syscalls_and_offcpu_trace(self):
        self.assertRegex(self.looked("syscalls"), r"write +\d+")
        text = self.looked("offcpu", "--out", self.path("o.svg"))
        self.assertIn("asleep", text)
        self.assertIn("nanosleep", self.path("o.svg").read_text())

    @unittest.skipUnless(shutil.which("strace"), "strace is missing: sudo apt-get install strace")
    def test_syscalls_by_strace(self):
        self.assertRegex(self.looked("syscalls", "--strace"), r"all write +\d+")

    def test_offcpu_samples_without_any_tool(self):
        self.assertRegex(self.looked("offcpu", "--sample"), r"\sR\s")

    def test_stat_and_latency_need_no_tool(self):
        text = self.looked("stat")
        self.assertRegex(text, r"all +[\d.]+ % +[\d.]+ %")
        self.assertRegex(text, r"memory: [\d.]+ MiB")
        self.assertRegex(self.looked("latency"), r"UDP \d+ +0 +0 +0 +0")


class RealScenario(unittest.TestCase):
    """With the load generator that people use: what it prints is what the commands read."""

    @unittest.skipUnless(os.environ.get("BUILT_BENCH"), "the load generator is not built")
    def test_two_people_are_looked_at(self):
        done = run("stat", "--seconds", "1", "pair", OPENCALL_BENCH=os.environ["BUILT_BENCH"])
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertRegex(done.stdout, r"us of CPU per forwarded packet .*, 2 participants")
        self.assertIn("data-0", done.stdout)


class Scenario(unittest.TestCase):
    """With a server of its own, under a load generator."""

    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.directory = Path(directory.name)
        (self.directory / "busy.py").write_text(BUSY)
        # The name of a process is that of its file.
        (self.directory / "opencall-sfu").symlink_to(Path(sys.executable).resolve())

    def bench(self, seconds):
        path = self.directory / "opencall-bench"
        path.write_text(FAKE_BENCH.format(python=sys.executable, seconds=seconds,
                                          server=self.directory / "opencall-sfu",
                                          busy=self.directory / "busy.py"))
        path.chmod(0o755)
        return {"OPENCALL_BENCH": str(path)}

    def test_what_follows_the_scenario_goes_to_the_generator(self):
        done = run("latency", "--seconds", "0.3", "pair", "--rooms", "1",
                   **self.bench(LONG_ENOUGH_S))
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("run pair --rooms 1 --duration 5.3s", done.stderr)
        self.assertIn("4.50 us of CPU per forwarded packet (user 1.50, system 3.00), "
                      "2,500 packets/s, 2 participants, commit 0123456789ab\n", done.stdout)
        self.assertRegex(done.stdout, r"p50 +120\n")
        self.assertRegex(done.stdout, r"UDP \d+")

    def test_told_to_end_it_ends_what_it_started(self):
        environment = {**os.environ, **self.bench(HANGS_S)}
        words = ["--seconds", str(HANGS_S), "pair", "--rooms", "1"]
        command = subprocess.Popen([PERF / "stat", *words],
                                   stderr=subprocess.PIPE, text=True, env=environment)
        # It has found the server.
        line = next(line for line in command.stderr if "watching process" in line)
        pid = line.split("process ")[1].split()[0]
        self.assertIsNotNone(self.state(pid))
        command.terminate()
        self.assertEqual(command.wait(HANGS_S), 128 + 15)
        command.stderr.close()
        until = time.monotonic() + HANGS_S
        while (state := self.state(pid)) and time.monotonic() < until:
            time.sleep(0.05)
        self.assertIsNone(state)

    def state(self, pid):
        """What a process does; None when it has ended, whoever looks after its remains."""
        fields = proc.stat_fields(proc.read(f"/proc/{pid}/stat"))
        return fields[0] if fields and fields[0] != "Z" else None

    def test_a_generator_that_fails_ends_it_in_one_line(self):
        done = run("stat", "--seconds", "0.3", "nonsense", **self.bench(1))
        self.assertEqual(done.returncode, 1)
        self.assertIn("unexpected: run nonsense", done.stderr)
        self.assertRegex(done.stderr.splitlines()[-1], "^error: opencall-bench did not come to")

    def test_duration_is_not_ours_to_take(self):
        done = run("stat", "pair", "--duration", "5s", **self.bench(1))
        self.assertEqual((done.returncode, done.stdout), (1, ""))
        self.assertRegex(done.stderr, "^error: --duration is set by --seconds")

    def test_pid_and_scenario_exclude_each_other(self):
        done = run("stat", "--pid", "1", "pair")
        self.assertEqual((done.returncode, done.stderr),
                         (1, "error: either --pid or a scenario, not both\n"))

    def test_a_process_that_is_not_there(self):
        done = run("stat", "--pid", str(2 ** 22 + 1))
        self.assertEqual((done.returncode, done.stderr), (1, f"error: no process {2 ** 22 + 1}\n"))


if __name__ == "__main__":
    unittest.main()
