#!/usr/bin/env python3
"""What 500 tapped voices cost: the CPU of the server's threads without a tap and with one.

    cargo build --release && client/tests/interop/tap_cost.py [PARTICIPANTS]

One room, all of whom have voices with pauses (`opencall-bench run audio`), on a stage; the program
that hears them reads and does nothing.
"""

import http.client
import json
import os
import socket
import subprocess
import sys
import threading
import time
from base64 import b64encode
from hashlib import sha1

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../..")
TARGET = os.environ.get("CARGO_TARGET_DIR", os.path.join(ROOT, "target"))
SECRET = "an admin secret of at least 32 bytes"
ROOM = "taps"
SECONDS = 10
GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
ANSWER = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
    b"Connection: Upgrade\r\nSec-WebSocket-Accept: "
)
TICK = os.sysconf("SC_CLK_TCK")


def program():
    """A WebSocket server that reads what comes; where it is."""
    listener = socket.create_server(("127.0.0.1", 0))

    def hear():
        while True:
            connection, _ = listener.accept()
            head = b""
            while b"\r\n\r\n" not in head:
                head += connection.recv(4096)
            lines = [line.split(": ", 1) for line in head.decode().split("\r\n") if ": " in line]
            key = {name.lower(): value for name, value in lines}["sec-websocket-key"]
            accept = b64encode(sha1((key + GUID).encode()).digest())
            connection.sendall(ANSWER + accept + b"\r\n\r\n")
            buffer = bytearray(1 << 20)
            while connection.recv_into(buffer):
                pass

    threading.Thread(target=hear, daemon=True).start()
    return "ws://127.0.0.1:%d" % listener.getsockname()[1]


def ask(port, method, body=None):
    connection = http.client.HTTPConnection("127.0.0.1", port)
    headers = {"Authorization": "Bearer " + SECRET}
    connection.request(method, f"/v1/rooms/{ROOM}/tap", body, headers)
    answer = connection.getresponse()
    return answer.status, json.loads(answer.read())


def threads(pid):
    """Seconds of CPU by the names of threads."""
    used = {}
    for task in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{task}/stat") as file:
            name, rest = file.read().rsplit(")", 1)
        fields = rest.split()
        name = name.split("(", 1)[1]
        used[name] = used.get(name, 0) + (int(fields[11]) + int(fields[12])) / TICK
    return used


def measure(pid):
    before = threads(pid)
    time.sleep(SECONDS)
    after = threads(pid)
    return {name: 100 * (after[name] - before.get(name, 0)) / SECONDS for name in after}


def main():
    participants = sys.argv[1] if len(sys.argv) > 1 else "500"
    heard = program()
    server = subprocess.Popen(
        [f"{TARGET}/release/opencall-sfu", "--http-listen", "127.0.0.1:8095"]
        + ["--workers", "1", "--pin", "false", "--stage-from", "10"]
        + ["--tap-allow", heard, "--admin-key", "ops=" + SECRET]
        + ["--sessions-per-address", "1000", "--rtc-min-port", "47000", "--rtc-max-port", "47000"],
        stderr=subprocess.DEVNULL,
    )
    time.sleep(1)
    bench = subprocess.Popen(
        [f"{TARGET}/release/opencall-bench", "run", "audio", "--rooms", "1", "--room", ROOM]
        + ["--participants", participants, "--duration", "45s", "--pin", "false"]
        + ["--target", "ws://127.0.0.1:8095/ws"],
        stdout=subprocess.DEVNULL,
    )
    try:
        report(server.pid, heard, int(participants))
    finally:
        bench.kill()
        server.kill()


def report(pid, heard, participants):
    deadline = time.time() + 60
    while time.time() < deadline:
        try:
            connection = http.client.HTTPConnection("127.0.0.1", 8095)
            connection.request("GET", "/healthz")
            health = json.loads(connection.getresponse().read())
            if health.get("peers") == participants:
                break
        except OSError:
            pass
        time.sleep(0.5)
    time.sleep(5)
    alone = measure(pid)
    status, answer = ask(8095, "POST", json.dumps({"url": heard, "noticeSeconds": 0}))
    assert status == 200, answer
    time.sleep(3)
    _, first = ask(8095, "GET")
    tapped = measure(pid)
    _, last = ask(8095, "GET")
    frames = (last["frames"] - first["frames"]) / SECONDS
    dropped = last["framesDropped"]
    print(f"{last['voices']} voices, {frames:.0f} frames/s handed on, {dropped} dropped")
    print(f"{'thread':12} {'alone %':>8} {'tapped %':>9}")
    for name in sorted(tapped, key=tapped.get, reverse=True):
        print(f"{name:12} {alone.get(name, 0):8.1f} {tapped[name]:9.1f}")
    print(f"{'all':12} {sum(alone.values()):8.1f} {sum(tapped.values()):9.1f}")


if __name__ == "__main__":
    main()
