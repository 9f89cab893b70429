"""The server to look at: one that runs, or one of its own under a scenario of opencall-bench."""

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import proc
from terminal import die, say

ROOT = Path(__file__).resolve().parents[2]
SERVER = "opencall-sfu"
BENCH = "opencall-bench"
# How long a scenario may take until it measures: its server starts, its participants join.
START_LIMIT_S = 180
# What a scenario runs longer than we look: the tools take seconds to begin on a busy machine.
MARGIN_S = 5
# A line of the load generator for a second that counts; others say `not counted`.
MEASURED = re.compile(r"^\s*[\d.]+ s\s+measuring\b")

# Options of the load generator that this program sets itself.
OURS = {
    "--duration": "--seconds, before the scenario",
    "--json": "this command, which reads the result",
    "--target": "no option here: look at the server that runs with --pid",
}


def parser(description, seconds=10):
    """The options that all commands take; the caller adds its own, then calls `parse`."""
    made = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--pid", type=int,
                      help=f"process to look at; default: the {SERVER} that runs")
    made.add_argument("--seconds", type=seconds_of, default=seconds,
                      help=f"how long to look (default {seconds})")
    return made


def seconds_of(text):
    """A time that can be looked at."""
    seconds = float(text)
    if not 0 < seconds <= 86400:
        raise argparse.ArgumentTypeError("more than 0 and at most a day")
    return seconds


def parse(made):
    """The options; what begins with the scenario's name is for the load generator."""
    made.add_argument("scenario", nargs=argparse.REMAINDER, metavar="SCENARIO …",
                      help=f"start a server under `{BENCH} run SCENARIO …` and look at that")
    given = made.parse_args()
    if given.scenario[:1] == ["--"]:
        del given.scenario[0]
    if given.scenario and given.pid:
        die("either --pid or a scenario, not both")
    for option, instead in OURS.items():
        if any(word.split("=")[0] == option for word in given.scenario):
            die(f"{option} is set by {instead}")
    return given


def bench_program():
    """The release build of the load generator, brought up to date, its server beside it."""
    ready = os.environ.get("OPENCALL_BENCH")
    if ready:
        return Path(ready)
    say("building the release programs (the first time takes some minutes)")
    build = (f'. scripts/lib.sh && ensure_rust >&2 && cargo build --release --locked --quiet '
             f'--bin {SERVER} --bin {BENCH}')
    if subprocess.run(["bash", "-c", build], cwd=ROOT, check=False).returncode != 0:
        die("the build failed, see above; OPENCALL_BENCH names a load generator that is built")
    return Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release" / BENCH


def running():
    """The one server that runs."""
    found = proc.named(SERVER)
    if not found:
        die(f"no {SERVER} runs; start one (scripts/run), or name a scenario: "
            f"{sys.argv[0]} meeting --rooms 2")
    if len(found) > 1:
        die(f"several {SERVER} run ({' '.join(map(str, found))}); choose one with --pid")
    return found[0]


class Target:
    """The server while it is looked at; `with` ends what was started for it."""

    def __init__(self, given):
        self.load = None
        self.listener = None
        self.directory = None
        self.measuring = threading.Event()
        if given.scenario:
            self.start(given)
        else:
            self.pid = given.pid or running()
        if not Path(f"/proc/{self.pid}").exists():
            die(f"no process {self.pid}")

    def start(self, given):
        """Starts a scenario, and returns when it measures."""
        program = bench_program()
        # Told to end, the load is ended first, as on an interrupt.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
        self.directory = tempfile.TemporaryDirectory()
        command = [program, "run", *given.scenario, "--duration", f"{given.seconds + MARGIN_S:g}s",
                   "--json", Path(self.directory.name) / "result.json"]
        say(" ".join(map(str, command)))
        # A group of its own, so that an interrupt ends the load and its server together.
        self.load = subprocess.Popen(command, stdout=subprocess.PIPE, text=True,
                                     start_new_session=True)
        self.listener = threading.Thread(target=self.listen, daemon=True)
        self.listener.start()
        if not self.measuring.wait(START_LIMIT_S) or self.load.poll() is not None:
            self.end()
            die(f"{BENCH} did not come to measure, see above (options of this command go before "
                "the scenario)")
        servers = [pid for pid in proc.named(SERVER) if proc.parent_of(pid) == self.load.pid]
        if not servers:
            self.end()
            die(f"{BENCH} has started no {SERVER}")
        self.pid = servers[0]

    def listen(self):
        """Passes on what the load generator says; waits no longer when it says no more."""
        for line in self.load.stdout:
            print(line, end="", file=sys.stderr, flush=True)
            if MEASURED.match(line):
                self.measuring.set()
        self.load.wait()
        self.measuring.set()

    def result(self):
        """What the load generator measured, after its end; None of a server that ran before."""
        if self.load is None:
            return None
        # Until it has said its last word, so that ours does not stand between.
        self.listener.join()
        if self.load.wait() != 0:
            die(f"{BENCH} failed (status {self.load.returncode}), see above")
        return json.loads((Path(self.directory.name) / "result.json").read_text())

    def end(self):
        """Ends the load and its server, if they still run."""
        if self.load and self.load.poll() is None:
            os.killpg(self.load.pid, signal.SIGTERM)
            self.load.wait()
        if self.directory:
            self.directory.cleanup()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.end()


def cost_line(result):
    """What a forwarded packet cost while it was looked at, in one line."""
    if not result or not result.get("cpu_us_per_forwarded_packet"):
        return ""
    rate = result["forwarded_packets"] / result["duration_s"]
    words = ["{cpu_us_per_forwarded_packet:.2f} us of CPU per forwarded packet (user "
             "{user_us_per_forwarded_packet:.2f}, system {system_us_per_forwarded_packet:.2f})"
             .format(**result),
             f"{rate:,.0f} packets/s", f"{result['participants']} participants"]
    if trains := result.get("mean_gso_segments"):
        words.append(f"{trains:.2f} packets a message")
    if commit := result.get("commit"):
        words.append(f"commit {commit[:12]}")
    return ", ".join(words)


def sleep_until(moment):
    """Sleeps until a moment of the monotonic clock."""
    time.sleep(max(0.0, moment - time.monotonic()))
