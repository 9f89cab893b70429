"""A participant that shares no line with browsers: aiortc, with OpenSSL's DTLS, libsrtp, aioice, libvpx and libopus.

Speaks protoo as the newer of the two demo applications does. Sends a moving VP8 picture and a tone of 440 Hz in Opus,
receives what the others of the room send, and prints what it has so far as one line of JSON every half second. Ends
when its standard input does.

    aiortc_peer.py ws://127.0.0.1:8080 ROOM PEER [--relay-port PORT]
"""

import argparse
import array
import asyncio
import contextlib
import fractions
import itertools
import json
import math
import random
import sys
import time

import aiohttp
import aioice.ice
from aiortc import (
    MediaStreamTrack,
    RTCCertificate,
    RTCDtlsTransport,
    RTCIceCandidate,
    RTCIceGatherer,
    RTCIceTransport,
    RTCRtpReceiver,
    RTCRtpSender,
)
from aiortc.mediastreams import MediaStreamError
from aiortc.rtcdtlstransport import RTCDtlsFingerprint, RTCDtlsParameters
from aiortc.rtcicetransport import RTCIceParameters
from aiortc.rtcrtpparameters import (
    RTCRtcpParameters,
    RTCRtpCodecParameters,
    RTCRtpDecodingParameters,
    RTCRtpHeaderExtensionParameters,
    RTCRtpReceiveParameters,
    RTCRtpRtxParameters,
    RTCRtpSendParameters,
)
from aiortc.rtcrtpreceiver import RemoteStreamTrack
from av import AudioFrame, VideoFrame

from protoo import Protoo, until_input_ends

MID = "urn:ietf:params:rtp-hdrext:sdes:mid"
AUDIO_LEVEL = "urn:ietf:params:rtp-hdrext:ssrc-audio-level"
ABS_SEND_TIME = "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time"

# What aiortc can receive, by lower-case MIME type, and the header extensions it knows.
CODECS = {"audio/opus", "video/vp8"}
EXTENSIONS = {MID, AUDIO_LEVEL, ABS_SEND_TIME}

# Payload types and extension ids of our own: neither the server's nor a browser's.
OPUS, VP8, VP8_RTX = 109, 98, 99
SENT_EXTENSIONS = {
    "audio": [(5, MID), (9, AUDIO_LEVEL)],
    "video": [(5, MID), (2, ABS_SEND_TIME)],
}
VIDEO_FEEDBACK = [("nack", ""), ("nack", "pli"), ("goog-remb", "")]

WIDTH, HEIGHT, FRAMES_PER_SECOND = 320, 240, 15
SAMPLE_RATE, SAMPLES_PER_FRAME, TONE_HZ = 48_000, 960, 440


class Clock:
    """Gives frames out when they are due, and drops behind rather than hurry."""

    def __init__(self, period_s):
        self._period_s = period_s
        self._due = None

    async def next(self):
        now = time.monotonic()
        self._due = now if self._due is None else max(self._due + self._period_s, now - 1)
        await asyncio.sleep(self._due - now)


class Bars(MediaStreamTrack):
    """Grey bars that wander to the left; red above and blue below the middle."""

    kind = "video"

    def __init__(self):
        super().__init__()
        self._clock = Clock(1 / FRAMES_PER_SECOND)
        self._frames = itertools.count()

    async def recv(self):
        await self._clock.next()
        number = next(self._frames)
        frame = VideoFrame(WIDTH, HEIGHT, "yuv420p")
        row = bytes(64 + (x + 4 * number) % 128 for x in range(frame.planes[0].line_size))
        frame.planes[0].update(row * HEIGHT)
        half = frame.planes[1].line_size * (HEIGHT // 4)
        frame.planes[1].update(bytes([90]) * half + bytes([240]) * half)
        frame.planes[2].update(bytes([240]) * half + bytes([90]) * half)
        frame.pts, frame.time_base = number, fractions.Fraction(1, FRAMES_PER_SECOND)
        return frame


class Tone(MediaStreamTrack):
    """A tone in both ears."""

    kind = "audio"

    def __init__(self):
        super().__init__()
        self._clock = Clock(SAMPLES_PER_FRAME / SAMPLE_RATE)
        self._samples = itertools.count(0, SAMPLES_PER_FRAME)

    async def recv(self):
        await self._clock.next()
        first = next(self._samples)
        samples = array.array("h")
        for at in range(first, first + SAMPLES_PER_FRAME):
            value = round(8000 * math.sin(2 * math.pi * TONE_HZ * at / SAMPLE_RATE))
            samples.extend((value, value))
        frame = AudioFrame(format="s16", layout="stereo", samples=SAMPLES_PER_FRAME)
        frame.planes[0].update(samples.tobytes())
        frame.sample_rate = SAMPLE_RATE
        frame.pts, frame.time_base = first, fractions.Fraction(1, SAMPLE_RATE)
        return frame


class Transport:
    """One of the server's transports, and ours against it."""

    def __init__(self, protoo, answer, relay_port):
        self._protoo = protoo
        self._answer = answer
        self._relay_port = relay_port
        self._connected = None
        gatherer = RTCIceGatherer(iceServers=[])
        # The server is ICE-lite, which leaves the controlling role to its clients.
        gatherer._connection.ice_controlling = True
        self._ice = RTCIceTransport(gatherer)
        self.dtls = RTCDtlsTransport(self._ice, [RTCCertificate.generateCertificate()])
        self.dtls._set_role("client")

    @property
    def id(self):
        return self._answer["transportId"]

    @property
    def ice_role(self):
        return self._ice.role

    async def connect(self):
        """Connects, the first time that it is asked to."""
        if self._connected is None:
            self._connected = asyncio.create_task(self._connect())
        await asyncio.shield(self._connected)

    async def _connect(self):
        ours = self.dtls.getLocalParameters()
        fingerprints = [vars(fingerprint) for fingerprint in ours.fingerprints]
        await self._protoo.request(
            "connectWebRtcTransport",
            transportId=self.id,
            dtlsParameters={"role": "client", "fingerprints": fingerprints},
        )
        await self._ice.iceGatherer.gather()
        for candidate in self._answer["iceCandidates"]:
            if candidate["protocol"] == "udp":
                await self._ice.addRemoteCandidate(self._candidate(candidate))
        await self._ice.addRemoteCandidate(None)
        ice = self._answer["iceParameters"]
        await self._ice.start(
            RTCIceParameters(ice["usernameFragment"], ice["password"], iceLite=ice["iceLite"])
        )
        if self._ice.state != "completed":
            raise ConnectionError(f"ICE: {self._ice.state}")
        fingerprints = self._answer["dtlsParameters"]["fingerprints"]
        await self.dtls.start(
            RTCDtlsParameters(
                [RTCDtlsFingerprint(each["algorithm"], each["value"]) for each in fingerprints]
            )
        )
        if self.dtls.state != "connected":
            raise ConnectionError(f"DTLS: {self.dtls.state}")

    def _candidate(self, candidate):
        return RTCIceCandidate(
            component=1,
            foundation=str(candidate["foundation"]),
            ip=candidate["address"],
            port=self._relay_port or candidate["port"],
            priority=candidate["priority"],
            protocol=candidate["protocol"],
            type=candidate["type"],
        )

    async def close(self):
        await self.dtls.stop()
        await self._ice.stop()

    def security(self):
        """What DTLS and SRTP agreed on."""
        ssl = self.dtls._ssl
        if ssl is None or self.dtls.state != "connected":
            return None
        profile = ssl.get_selected_srtp_profile().decode()
        return {"dtls": ssl.get_protocol_version_name(), "srtp": profile}


def codec_parameters(codecs):
    """mediasoup's codecs as aiortc's."""
    return [
        RTCRtpCodecParameters(
            mimeType=codec["mimeType"],
            clockRate=codec["clockRate"],
            channels=codec.get("channels"),
            payloadType=codec["payloadType"],
            parameters=codec.get("parameters", {}),
        )
        for codec in codecs
    ]


def extension_parameters(extensions):
    """mediasoup's header extensions as aiortc's."""
    return [
        RTCRtpHeaderExtensionParameters(id=extension["id"], uri=extension["uri"])
        for extension in extensions
    ]


def receivable(capabilities):
    """Of what the server forwards, what aiortc takes; numbers stay the server's."""
    media = [codec for codec in capabilities["codecs"] if codec["mimeType"].lower() in CODECS]
    types = {codec["preferredPayloadType"] for codec in media}
    repair = [codec for codec in capabilities["codecs"] if codec["parameters"].get("apt") in types]
    extensions = [each for each in capabilities["headerExtensions"] if each["uri"] in EXTENSIONS]
    return {"codecs": media + repair, "headerExtensions": extensions}


class Watched:
    """A received track: how much of it could be decoded, and what it was."""

    def __init__(self, kind, transport, rtp_parameters):
        self.kind = kind
        self.frames = 0
        self.energy = 0.0
        self.size = None
        self.contrast = 0
        self.changes = 0
        self._last = None
        self._receiver = RTCRtpReceiver(kind, transport.dtls)
        # What a peer connection would do with the answer it was given.
        self._receiver._track = RemoteStreamTrack(kind=kind)
        self._receiver._set_rtcp_ssrc(random.getrandbits(32))
        self._parameters = rtp_parameters

    async def start(self):
        encodings = []
        for encoding in self._parameters["encodings"]:
            rtx = encoding.get("rtx")
            encodings.append(
                RTCRtpDecodingParameters(
                    ssrc=encoding["ssrc"],
                    payloadType=self._parameters["codecs"][0]["payloadType"],
                    rtx=RTCRtpRtxParameters(ssrc=rtx["ssrc"]) if rtx else None,
                )
            )
        await self._receiver.receive(
            RTCRtpReceiveParameters(
                codecs=codec_parameters(self._parameters["codecs"]),
                headerExtensions=extension_parameters(self._parameters["headerExtensions"]),
                muxId=self._parameters["mid"],
                rtcp=RTCRtcpParameters(cname=self._parameters["rtcp"]["cname"], mux=True),
                encodings=encodings,
            )
        )
        asyncio.create_task(self._watch())

    async def _watch(self):
        while True:
            try:
                frame = await self._receiver.track.recv()
            except MediaStreamError:
                return
            self.frames += 1
            if self.kind == "audio":
                samples = array.array("h", bytes(frame.planes[0]))
                self.energy += sum((value / 32768) ** 2 for value in samples[::8])
            elif self.frames % 5 == 0:
                self.size = [frame.width, frame.height]
                luma = bytes(frame.planes[0])[:: 97]
                self.contrast = max(luma) - min(luma)
                self.changes += luma != self._last
                self._last = luma

    async def stop(self):
        await self._receiver.stop()

    async def report(self):
        stats = await self._receiver.getStats()
        # What it keeps for each SSRC; its statistics show one of them, whichever it met last.
        streams = self._receiver._RTCRtpReceiver__remote_streams
        media = {encoding["ssrc"] for encoding in self._parameters["encodings"]}
        inbound = [stream for ssrc, stream in streams.items() if ssrc in media]
        repair = [stream for ssrc, stream in streams.items() if ssrc not in media]
        return {
            "kind": self.kind,
            "frames": self.frames,
            "energy": round(self.energy, 6),
            "size": self.size,
            "contrast": self.contrast,
            "changes": self.changes,
            "packetsReceived": sum(stream.packets_received for stream in inbound),
            "packetsLost": sum(stream.packets_lost for stream in inbound),
            "retransmittedPacketsReceived": sum(stream.packets_received for stream in repair),
            "senderReports": sum(each.type == "remote-outbound-rtp" for each in stats.values()),
        }


class Peer:
    """The participant."""

    def __init__(self, socket, relay_port):
        self._protoo = Protoo(socket, self._requested)
        self._relay_port = relay_port
        self._send = None
        self._recv = None
        self._senders = {}
        self._watched = {}

    async def run(self):
        """Speaks and listens until one of the two fails, or until it is cancelled."""
        tasks = [asyncio.create_task(self._protoo.run()), asyncio.create_task(self._speak())]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await self._close()

    async def _close(self):
        for stream in [*self._senders.values(), *self._watched.values()]:
            await stream.stop()
        for transport in filter(None, [self._send, self._recv]):
            await transport.close()

    async def _speak(self):
        await self._protoo.request("getRtcStatsUrl")
        answer = await self._protoo.request("getRouterRtpCapabilities")
        capabilities = receivable(answer["routerRtpCapabilities"])
        self._send = await self._transport("producer")
        self._recv = await self._transport("consumer")
        await self._protoo.request(
            "join",
            displayName="aiortc",
            device={"flag": "aiortc", "name": "aiortc"},
            rtpCapabilities=capabilities,
        )
        await self._send.connect()
        await self._produce(Bars())
        await self._produce(Tone())
        while True:
            print(json.dumps(await self._report()), flush=True)
            await asyncio.sleep(0.5)

    async def _transport(self, direction):
        answer = await self._protoo.request(
            "createWebRtcTransport", forceTcp=False, appData={"direction": direction}
        )
        return Transport(self._protoo, answer, self._relay_port)

    async def _produce(self, track):
        sender = RTCRtpSender(track, self._send.dtls)
        parameters = self._sent_parameters(sender)
        answer = await self._protoo.request(
            "produce",
            transportId=self._send.id,
            kind=track.kind,
            rtpParameters=parameters,
            appData={"source": track.kind},
        )
        self._senders[answer["producerId"]] = sender
        await sender.send(
            RTCRtpSendParameters(
                codecs=codec_parameters(parameters["codecs"]),
                headerExtensions=extension_parameters(parameters["headerExtensions"]),
                muxId=parameters["mid"],
                rtcp=RTCRtcpParameters(cname=parameters["rtcp"]["cname"], mux=True),
            )
        )

    def _sent_parameters(self, sender):
        """What we send, in mediasoup's words."""
        encoding = {"ssrc": sender._ssrc}
        if sender.kind == "video":
            encoding["rtx"] = {"ssrc": sender._rtx_ssrc}
            feedback = [{"type": name, "parameter": detail} for name, detail in VIDEO_FEEDBACK]
            codecs = [
                {"mimeType": "video/VP8", "payloadType": VP8, "rtcpFeedback": feedback},
                {"mimeType": "video/rtx", "payloadType": VP8_RTX, "parameters": {"apt": VP8}},
            ]
            codecs = [{"clockRate": 90_000, "parameters": {}, **codec} for codec in codecs]
        else:
            codecs = [
                {
                    "mimeType": "audio/opus",
                    "payloadType": OPUS,
                    "clockRate": SAMPLE_RATE,
                    "channels": 2,
                    "parameters": {"useinbandfec": 1, "sprop-stereo": 1},
                    "rtcpFeedback": [],
                }
            ]
        extensions = SENT_EXTENSIONS[sender.kind]
        return {
            "mid": sender.kind,
            "codecs": codecs,
            "headerExtensions": [{"id": ident, "uri": uri} for ident, uri in extensions],
            "encodings": [encoding],
            "rtcp": {"cname": "aiortc", "reducedSize": True},
        }

    async def _requested(self, method, data):
        if method != "newConsumer":
            raise RuntimeError(f"no such method here: {method}")
        # First the receiver, then the connection: the first packets of a new transport count too.
        watched = Watched(data["kind"], self._recv, data["rtpParameters"])
        await watched.start()
        await self._recv.connect()
        self._watched[data["producerId"]] = watched

    async def _report(self):
        sent = {}
        for producer_id, sender in self._senders.items():
            stats = (await sender.getStats()).values()
            remote = [each for each in stats if each.type == "remote-inbound-rtp"]
            sent[producer_id] = {
                "kind": sender.kind,
                "packetsSent": sum(each.packetsSent for each in stats if each.type == "outbound-rtp"),
                "receiverReports": len(remote),
                "packetsLost": sum(each.packetsLost for each in remote),
            }
        received = {ident: await watched.report() for ident, watched in self._watched.items()}
        return {
            "sent": sent,
            "received": received,
            "iceRole": self._send.ice_role,
            "send": self._send.security(),
            "recv": self._recv.security(),
            "notifications": sorted(set(self._protoo.notifications)),
        }


async def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("server")
    parser.add_argument("room")
    parser.add_argument("peer")
    parser.add_argument("--relay-port", type=int)
    arguments = parser.parse_args()
    # aioice leaves loopback out, which is the only network these tests use.
    aioice.ice.get_host_addresses = lambda use_ipv4, use_ipv6: ["127.0.0.1"]
    query = {"roomId": arguments.room, "peerId": arguments.peer}
    async with aiohttp.ClientSession() as session:
        async with session.ws_connect(
            f"{arguments.server}/", params=query, protocols=["protoo"]
        ) as socket:
            peer = asyncio.create_task(Peer(socket, arguments.relay_port).run())
            ended = asyncio.create_task(until_input_ends())
            await asyncio.wait({peer, ended}, return_when=asyncio.FIRST_COMPLETED)
            peer.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await peer


if __name__ == "__main__":
    asyncio.run(main())
