#!/usr/bin/env python3
"""Broadcasts to servers that are not ours, all at once: by RTMP to nginx's module, by RTMPS through
nginx to ffmpeg, by SRT to ffmpeg. Does sound keep with the picture, and is anything lost?

    cargo build --release && client/tests/interop/broadcast.py [SECONDS]

A white flash and a beep begin together every two seconds; what was broadcast is decoded, and each
flash has its beep within 80 ms. Wants ffmpeg, openssl and nginx with its modules rtmp and stream.
"""

import array
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../..")
TARGET = os.environ.get("CARGO_TARGET_DIR", os.path.join(ROOT, "target"))
SECRET = "an admin secret of at least 32 bytes"
HTTP, RTC, RTMP, RTMPS, BEHIND, SRT = 8096, 47010, 19350, 19351, 19352, 19353
PERIOD_SECONDS = 2
WITHIN_MS = 80
FFMPEG = ["ffmpeg", "-y", "-hide_banner", "-loglevel", "error"]
MODULES = "/usr/lib/nginx/modules"
NGINX = """
load_module {modules}/ngx_rtmp_module.so;
load_module {modules}/ngx_stream_module.so;
daemon off; pid {folder}/pid; error_log {folder}/error.log;
events {{ worker_connections 64; }}
rtmp {{ server {{
  listen 127.0.0.1:{rtmp};
  application live {{ live on; record all; record_path {folder}; record_suffix -nginx.flv; }}
}} }}
stream {{ server {{
  listen 127.0.0.1:{rtmps} ssl;
  ssl_certificate {folder}/certificate.pem; ssl_certificate_key {folder}/key.pem;
  proxy_pass 127.0.0.1:{behind};
}} }}
"""
OPUS = {"mimeType": "audio/opus", "payloadType": 100, "clockRate": 48000, "channels": 2}
H264 = {
    "mimeType": "video/H264",
    "payloadType": 101,
    "clockRate": 90000,
    "parameters": {"packetization-mode": 1, "profile-level-id": "42e01f"},
}


def ask(method, path, body=None):
    connection = http.client.HTTPConnection("127.0.0.1", HTTP)
    headers = {"Authorization": "Bearer " + SECRET}
    connection.request(method, path, json.dumps(body) if body is not None else None, headers)
    answer = connection.getresponse()
    said = answer.read()
    if answer.status >= 300:
        sys.exit(f"{method} {path}: {answer.status} {said.decode()}")
    return json.loads(said) if said else None


def camera(room, first_ssrc):
    """Someone who flashes and beeps in a room."""
    ssrcs = first_ssrc, first_ssrc + 1
    base = f"/rooms/{room}/broadcasters"
    ask("POST", base, {"id": "camera", "displayName": "Camera"})
    ports = []
    for kind, codec, ssrc in zip(("video", "audio"), (H264, OPUS), ssrcs):
        wanted = {"type": "plain", "comedia": True, "rtcpMux": False}
        transport = ask("POST", f"{base}/camera/transports", wanted)
        parameters = {"codecs": [codec], "encodings": [{"ssrc": ssrc}]}
        produced = {"kind": kind, "rtpParameters": parameters}
        ask("POST", f"{base}/camera/transports/{transport['id']}/producers", produced)
        ports.append(transport["port"])
    is_on = f"lt(mod(t,{PERIOD_SECONDS}),0.2)"
    flash = f"color=black:s=640x360:r=25,drawbox=c=white:t=fill:enable='{is_on}'"
    beep = f"aevalsrc='0.5*sin(2*PI*1000*t)*{is_on}':s=48000"
    h264 = "-c:v libx264 -profile:v baseline -tune zerolatency -preset ultrafast -g 50 -b:v 800k"
    opus = "-c:a libopus -frame_duration 20"
    video, audio = (f"rtp://127.0.0.1:{port}?rtcpport={port}" for port in ports)

    def rtp(number, ssrc):
        return ["-f", "rtp", "-ssrc", str(ssrc), "-payload_type", str(number)]

    return subprocess.Popen(
        FFMPEG + ["-re", "-f", "lavfi", "-i", flash, "-f", "lavfi", "-i", beep]
        + ["-map", "0:v", *h264.split(), *rtp(101, ssrcs[0]), video + "&pkt_size=1200"]
        + ["-map", "1:a", *opus.split(), *rtp(100, ssrcs[1]), audio],
        stdout=subprocess.DEVNULL,
    )


def begins(levels, above, pause):
    """When something begins, of (seconds, level)."""
    found, last = [], -pause
    for at, level in levels:
        if level > above:
            if at - last > pause:
                found.append(at)
            last = at
    return found


def flashes_and_beeps(file):
    """When the flashes and the beeps of a file begin, seconds."""
    decode = ["ffmpeg", "-hide_banner", "-i", file]
    print_level = "signalstats,metadata=print:key=lavfi.signalstats.YAVG:file=-"
    pictures = subprocess.run(
        decode + ["-an", "-vf", "scale=16:16," + print_level, "-f", "null", "-"],
        capture_output=True, text=True, check=True,
    ).stdout
    levels = re.findall(r"pts_time:([\d.]+)\s+lavfi.signalstats.YAVG=([\d.]+)", pictures)
    flashes = begins(((float(at), float(level)) for at, level in levels), 120, 1)
    sound = subprocess.run(
        decode + ["-vn", "-ac", "1", "-ar", "8000", "-af", "aresample=async=1:first_pts=0"]
        + ["-f", "s16le", "-"],
        capture_output=True, check=True,
    ).stdout
    samples = array.array("h", sound)
    loud = ((index / 8000, abs(sample)) for index, sample in enumerate(samples))
    return flashes, begins(loud, 3000, 1)


def judge(name, file, seconds):
    """Says what came; whether it is well."""
    flashes, beeps = flashes_and_beeps(file)
    if not flashes or not beeps:
        print(f"{name}: {len(flashes)} flashes, {len(beeps)} beeps")
        return False
    apart = [1000 * (min(beeps, key=lambda beep: abs(beep - at)) - at) for at in flashes[1:-1]]
    least = seconds / PERIOD_SECONDS - 5
    print(
        f"{name}: {len(flashes)} flashes and {len(beeps)} beeps (to prove: {least:.0f}), "
        f"sound after picture by {min(apart):.0f} to {max(apart):.0f} ms (to prove: {WITHIN_MS})"
    )
    return min(len(flashes), len(beeps)) >= least and max(map(abs, apart)) <= WITHIN_MS


def servers(folder):
    """The servers of broadcasts."""
    key, certificate = f"{folder}/key.pem", f"{folder}/certificate.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-keyout", key]
        + ["-out", certificate, "-subj", "/CN=localhost"]
        + ["-addext", "subjectAltName=DNS:localhost"],
        check=True, capture_output=True,
    )
    configuration = NGINX.format(
        modules=MODULES, folder=folder, rtmp=RTMP, rtmps=RTMPS, behind=BEHIND
    )
    with open(f"{folder}/nginx.conf", "w") as file:
        file.write("user root;" * (os.geteuid() == 0) + configuration)
    take = FFMPEG + ["-analyzeduration", "1000000"]
    return [
        subprocess.Popen(["/usr/sbin/nginx", "-c", f"{folder}/nginx.conf", "-p", folder]),
        subprocess.Popen(
            take + ["-listen", "1", "-i", f"rtmp://127.0.0.1:{BEHIND}/live/key"]
            + ["-c", "copy", f"{folder}/rtmps.mkv"]
        ),
        subprocess.Popen(
            take + ["-i", f"srt://127.0.0.1:{SRT}?mode=listener"]
            + ["-c", "copy", f"{folder}/srt.mkv"]
        ),
    ]


def main():
    seconds = int(sys.argv[1]) if len(sys.argv) > 1 else 300
    urls = {
        "rtmp": f"rtmp://127.0.0.1:{RTMP}/live/key",
        "rtmps": f"rtmps://localhost:{RTMPS}/live/key",
        "srt": f"srt://127.0.0.1:{SRT}",
    }
    with tempfile.TemporaryDirectory() as folder:
        programs = servers(folder)
        sfu = f"{TARGET}/release/opencall-sfu"
        programs.append(subprocess.Popen(
            [sfu, "--http-listen", f"127.0.0.1:{HTTP}", "--workers", "1", "--pin", "false"]
            + ["--rtc-min-port", str(RTC), "--rtc-max-port", str(RTC + 20)]
            + ["--admin-key", "ops=" + SECRET, "--push-ca", f"{folder}/certificate.pem"]
            + ["--push-allow=" + url.removesuffix("/live/key") for url in urls.values()],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        ))
        try:
            time.sleep(2)
            for index, name in enumerate(urls):
                programs.append(camera(name, 1000 + 10 * index))
            time.sleep(1)
            for name, url in urls.items():
                wanted = {"url": url, "participant": "camera", "noticeSeconds": 0}
                ask("POST", f"/v1/rooms/{name}/push", wanted)
            time.sleep(seconds)
            for name in urls:
                report = ask("GET", f"/v1/rooms/{name}/push")
                print(f"{name}: {json.dumps(report)}")
                ask("DELETE", f"/v1/rooms/{name}/push")
            time.sleep(3)
        finally:
            for program in reversed(programs):
                program.send_signal(signal.SIGINT)
            for program in programs:
                try:
                    program.wait(10)
                except subprocess.TimeoutExpired:
                    program.kill()
        recorded = [name for name in os.listdir(folder) if name.endswith("-nginx.flv")]
        if len(recorded) != 1:
            sys.exit(f"nginx has recorded {recorded}: {open(folder + '/error.log').read()}")
        files = {"rtmp": recorded[0], "rtmps": "rtmps.mkv", "srt": "srt.mkv"}
        well = [judge(name, f"{folder}/{file}", seconds) for name, file in files.items()]
    sys.exit(0 if all(well) else 1)


if __name__ == "__main__":
    main()
