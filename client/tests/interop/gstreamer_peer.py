"""A participant made of GStreamer's webrtcbin: libnice, OpenSSL's DTLS with an RSA certificate, libsrtp, libvpx, libopus.

Speaks protoo as the newer of the two demo applications does, and translates between the server's transport parameters
and the SDP that webrtcbin understands. Sends a moving VP8 picture and a tone of 440 Hz in Opus, decodes what the
others of the room send, and prints what it has so far as one line of JSON every half second. Ends when its standard
input does.

    gstreamer_peer.py ws://127.0.0.1:8080 ROOM PEER [--dtls-server]
    gstreamer_peer.py --check      # ends with 0 if all of GStreamer is installed, else prints what is missing
"""

import argparse
import array
import asyncio
import contextlib
import json
import sys
import zlib

# Debian's bindings of GLib are built for its own Python, and cannot be installed into an environment.
sys.path.append("/usr/lib/python3/dist-packages")

ELEMENTS = (
    "appsink audioconvert audiotestsrc dtlsdec nicesink nicesrc opusdec opusenc queue rtpopusdepay rtpopuspay "
    "rtpvp8depay rtpvp8pay srtpdec videotestsrc vp8dec vp8enc webrtcbin"
).split()

OPUS, VP8, VP8_RTX = 97, 96, 98
WIDTH, HEIGHT, FRAMES_PER_SECOND = 320, 240, 15

# No key frame by itself but the first: later ones are asked for.
VIDEO_SOURCE = f"""
    videotestsrc is-live=true pattern=ball
    ! video/x-raw,format=I420,width={WIDTH},height={HEIGHT},framerate={FRAMES_PER_SECOND}/1
    ! vp8enc deadline=1 cpu-used=8 target-bitrate=400000 keyframe-max-dist=100000
    ! rtpvp8pay pt={VP8} picture-id-mode=15-bit mtu=1200
    ! application/x-rtp,media=video,encoding-name=VP8,payload={VP8}
    ! queue
"""
AUDIO_SOURCE = f"""
    audiotestsrc is-live=true wave=sine freq=440 volume=0.3
    ! audio/x-raw,rate=48000,channels=2 ! opusenc
    ! rtpopuspay pt={OPUS} ! application/x-rtp,media=audio,encoding-name=OPUS,payload={OPUS}
    ! queue
"""
DECODERS = {
    "video": "rtpvp8depay ! vp8dec ! video/x-raw,format=I420",
    "audio": "rtpopusdepay ! opusdec ! audioconvert ! audio/x-raw,format=S16LE",
}
CAPABILITY_CODECS = {"audio/opus", "video/vp8"}


class Section:
    """One media section of an SDP, or what comes before the first."""

    def __init__(self, lines):
        self.media = lines[0][2:].split() if lines[0].startswith("m=") else []
        self.attributes = [line[2:].partition(":")[::2] for line in lines if line.startswith("a=")]

    @property
    def kind(self):
        return self.media[0]

    def all(self, name):
        return [value for key, value in self.attributes if key == name]

    def first(self, name):
        return next(iter(self.all(name)), None)


def sections(sdp):
    """The SDP cut before each m= line."""
    groups = [[]]
    for line in sdp.splitlines():
        if line.startswith("m="):
            groups.append([])
        groups[-1].append(line)
    return [Section(group) for group in groups]


def fingerprints(sdp):
    """The fingerprints of an SDP, wherever they stand in it."""
    found = {value for section in sections(sdp) for value in section.all("fingerprint")}
    return [dict(zip(("algorithm", "value"), each.split())) for each in sorted(found)]


def sent_parameters(section, cname):
    """What a section of webrtcbin's offer sends, in mediasoup's words."""
    formats = dict(value.split(" ", 1) for value in section.all("fmtp"))
    codecs = []
    for value in section.all("rtpmap"):
        payload_type, encoding = value.split(" ", 1)
        name, clock_rate, *channels = encoding.split("/")
        codec = {
            "mimeType": f"{section.kind}/{name}",
            "payloadType": int(payload_type),
            "clockRate": int(clock_rate),
            "parameters": {},
            "rtcpFeedback": feedback(section, payload_type),
        }
        if channels:
            codec["channels"] = int(channels[0])
        if name.lower() == "rtx":
            codec["parameters"] = {"apt": int(formats[payload_type].partition("apt=")[2])}
        codecs.append(codec)
    ssrcs = list(dict.fromkeys(int(value.split()[0]) for value in section.all("ssrc")))
    encoding = {"ssrc": ssrcs[0]}
    group = section.first("ssrc-group")
    if group:
        encoding["ssrc"], encoding["rtx"] = int(group.split()[1]), {"ssrc": int(group.split()[2])}
    return {
        "mid": section.first("mid"),
        "codecs": codecs,
        "headerExtensions": [],
        "encodings": [encoding],
        "rtcp": {"cname": cname, "reducedSize": True},
    }


def feedback(section, payload_type):
    """The rtcp-fb lines of one payload type."""
    entries = (value.split() for value in section.all("rtcp-fb"))
    return [
        {"type": kind, "parameter": " ".join(parameter)}
        for of, kind, *parameter in entries
        if of in (payload_type, "*")
    ]


class Description:
    """An SDP of the server, which has none: written from the parameters of its transport."""

    def __init__(self, transport, setup, mids):
        ice = transport["iceParameters"]
        self._lines = ["v=0", "o=- 1 1 IN IP4 127.0.0.1", "s=-", "t=0 0"]
        if ice["iceLite"]:
            self._lines.append("a=ice-lite")
        self._lines.append(f"a=group:BUNDLE {' '.join(mids)}")
        self._transport = [
            "c=IN IP4 0.0.0.0",
            f"a=ice-ufrag:{ice['usernameFragment']}",
            f"a=ice-pwd:{ice['password']}",
            *(f"a=fingerprint:{each['algorithm']} {each['value']}" for each in transport["dtlsParameters"]["fingerprints"]),
            f"a=setup:{setup}",
            "a=rtcp-mux",
            "a=rtcp-rsize",
            *(f"a=candidate:{candidate(each)}" for each in transport["iceCandidates"] if each["protocol"] == "udp"),
            "a=end-of-candidates",
        ]

    def add(self, kind, mid, direction, codecs, encodings=(), cname=None):
        """A media section of these codecs, and of the SSRCs if it sends."""
        types = " ".join(str(codec["payloadType"]) for codec in codecs)
        self._lines += [f"m={kind} 9 UDP/TLS/RTP/SAVPF {types}", *self._transport]
        self._lines += [f"a=mid:{mid}", f"a={direction}"]
        for codec in codecs:
            payload_type = codec["payloadType"]
            name = "/".join([codec["mimeType"].partition("/")[2], str(codec["clockRate"])])
            channels = f"/{codec['channels']}" if codec.get("channels") else ""
            self._lines.append(f"a=rtpmap:{payload_type} {name}{channels}")
            parameters = ";".join(f"{key}={value}" for key, value in codec["parameters"].items())
            if parameters:
                self._lines.append(f"a=fmtp:{payload_type} {parameters}")
            for each in codec["rtcpFeedback"]:
                detail = f"{each['type']} {each.get('parameter', '')}".strip()
                self._lines.append(f"a=rtcp-fb:{payload_type} {detail}")
        for encoding in encodings:
            ssrcs = [encoding["ssrc"]]
            if "rtx" in encoding:
                ssrcs.append(encoding["rtx"]["ssrc"])
                self._lines.append(f"a=ssrc-group:FID {ssrcs[0]} {ssrcs[1]}")
            for ssrc in ssrcs:
                self._lines.append(f"a=ssrc:{ssrc} cname:{cname}")
                self._lines.append(f"a=ssrc:{ssrc} msid:{mid} {mid}")

    def sdp(self):
        return "\r\n".join([*self._lines, ""])


def candidate(each):
    """A candidate as SDP has it."""
    return (
        f"{each['foundation']} 1 {each['protocol']} {each['priority']} {each['address']} {each['port']} "
        f"typ {each['type']}"
    )


class Bin:
    """One webrtcbin in a pipeline of its own, against one transport of the server."""

    def __init__(self, gst, name, sources=()):
        self._gst = gst
        self._loop = asyncio.get_running_loop()
        self.pipeline = gst.core.Pipeline.new(name)
        self.webrtc = gst.core.ElementFactory.make("webrtcbin", None)
        self.webrtc.set_property("bundle-policy", gst.webrtc.WebRTCBundlePolicy.MAX_BUNDLE)
        self.webrtc.set_property("latency", 100)
        self.pipeline.add(self.webrtc)
        self._name = name
        self._sinks = []
        for source in sources:
            branch = gst.core.parse_bin_from_description(source, True)
            self.pipeline.add(branch)
            pad = self.webrtc.request_pad_simple("sink_%u")
            pad.get_property("transceiver").set_property(
                "direction", gst.webrtc.WebRTCRTPTransceiverDirection.SENDONLY
            )
            pad.get_property("transceiver").set_property("do-nack", "videotestsrc" in source)
            branch.get_static_pad("src").link(pad)
            self._sinks.append(pad)

    async def describe(self, kind):
        """Makes an offer or an answer, sets it, and returns its text."""
        text = await self._ask(f"create-{kind}", None, kind)
        await self._ask("set-local-description", self._description(kind, text))
        # libnice keeps an address alive by indications unless told otherwise; a server that follows RFC 7675 stops
        # sending after 30 seconds without a check.
        self._elements()["nicesink"].get_property("agent").set_property("keepalive-conncheck", True)
        return text

    async def set_remote(self, kind, text):
        await self._ask("set-remote-description", self._description(kind, text))

    async def _ask(self, signal, argument, key=None):
        """Emits an action signal that answers by a promise; the SDP that its reply has under the key."""
        done = self._loop.create_future()

        def answered(promise):
            # What is in the reply lives no longer than the promise.
            reply = promise.get_reply()
            failed = reply is not None and reply.has_field("error")
            if failed:
                text = reply.get_value("error").message
            else:
                text = reply.get_value(key).sdp.as_text() if key else None
            self._loop.call_soon_threadsafe(done.set_result, (failed, text))

        promise = self._gst.core.Promise.new_with_change_func(answered)
        self.webrtc.emit(signal, argument, promise)
        failed, text = await asyncio.wait_for(done, ANSWER_TIMEOUT_S)
        if failed:
            raise RuntimeError(f"{self._name}: {signal}: {text}")
        return text

    def _description(self, kind, text):
        code, sdp = self._gst.sdp.SDPMessage.new_from_text(text)
        if code != self._gst.sdp.SDPResult.OK:
            raise RuntimeError(f"{self._name}: GStreamer cannot read this SDP:\n{text}")
        kinds = {
            "offer": self._gst.webrtc.WebRTCSDPType.OFFER,
            "answer": self._gst.webrtc.WebRTCSDPType.ANSWER,
        }
        return self._gst.webrtc.WebRTCSessionDescription.new(kinds[kind], sdp)

    async def play(self):
        """Starts; returns once each source has its SSRC, which an offer needs."""
        self.pipeline.set_state(self._gst.core.State.PLAYING)
        while not all(pad.get_current_caps() for pad in self._sinks):
            self.check()
            await asyncio.sleep(0.02)

    def stop(self):
        self.pipeline.set_state(self._gst.core.State.NULL)

    def check(self):
        """Raises what the pipeline has failed with."""
        message = self.pipeline.get_bus().pop_filtered(self._gst.core.MessageType.ERROR)
        if message:
            error, detail = message.parse_error()
            raise RuntimeError(f"{self._name}: {error.message}: {detail}")

    def _elements(self):
        """One element of each kind in the pipeline, by the name of its factory."""
        found = {}
        elements = self.pipeline.iterate_recurse()
        while True:
            code, element = elements.next()
            if code != self._gst.core.IteratorResult.OK:
                return found
            factory = element.get_factory()
            if factory:
                found.setdefault(factory.get_name(), element)

    def security(self):
        """Its role in DTLS and the type of its key, once connected; None before."""
        from cryptography import x509

        found = self._elements()
        decoder, encoder = found.get("dtlsdec"), found.get("dtlsenc")
        if decoder is None or encoder is None:
            return None
        if encoder.get_property("connection-state").value_nick != "connected":
            return None
        certificate = x509.load_pem_x509_certificate(decoder.get_property("pem").encode())
        key = type(certificate.public_key()).__name__
        role = "client" if encoder.get_property("is-client") else "server"
        return {"role": role, "key": "RSA" if "RSA" in key else key}


class Watched:
    """A received track, counted in the threads of its pipeline."""

    def __init__(self, kind):
        self.kind = kind
        self.frames = 0
        self.changes = 0
        self.energy = 0.0
        self.size = None
        self._last = None

    def sample(self, sink):
        sample = sink.emit("pull-sample")
        buffer, caps = sample.get_buffer(), sample.get_caps().get_structure(0)
        data = buffer.extract_dup(0, buffer.get_size())
        self.frames += 1
        if self.kind == "audio":
            values = array.array("h", data)
            self.energy += sum((value / 32768) ** 2 for value in values[::8])
        else:
            self.size = [caps.get_value("width"), caps.get_value("height")]
            seen = zlib.crc32(data)
            self.changes += seen != self._last
            self._last = seen
        return 0

    def report(self):
        return {
            "kind": self.kind,
            "frames": self.frames,
            "changes": self.changes,
            "energy": round(self.energy, 6),
            "size": self.size,
        }


class Peer:
    """The participant."""

    def __init__(self, gst, socket, is_dtls_server):
        self._gst = gst
        self._protoo = Protoo(socket, self._requested)
        self._is_dtls_server = is_dtls_server
        self._send = None
        self._recv = None
        self._receiving = None
        self._connected = False
        self._consumers = []
        self._negotiating = asyncio.Lock()
        self._sent = {}
        self._watched = {}

    async def run(self):
        """Speaks and listens until one of the two fails, or until it is cancelled."""
        tasks = [asyncio.create_task(self._protoo.run()), asyncio.create_task(self._speak())]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            for each in filter(None, [self._send, self._recv]):
                each.stop()

    async def _speak(self):
        answer = await self._protoo.request("getRouterRtpCapabilities")
        capabilities = receivable(answer["routerRtpCapabilities"])
        sending = await self._transport("producer")
        self._receiving = await self._transport("consumer")
        self._recv = Bin(self._gst, "receiving")
        self._recv.webrtc.connect("pad-added", self._pad_added)
        await self._recv.play()
        await self._protoo.request(
            "join",
            displayName="GStreamer",
            device={"flag": "gstreamer", "name": "GStreamer"},
            rtpCapabilities=capabilities,
        )
        await self._produce(sending)
        while True:
            self._send.check()
            self._recv.check()
            print(json.dumps(self._report()), flush=True)
            await asyncio.sleep(0.5)

    def _transport(self, direction):
        return self._protoo.request(
            "createWebRtcTransport", forceTcp=False, appData={"direction": direction}
        )

    async def _connect(self, transport, sdp):
        await self._protoo.request(
            "connectWebRtcTransport",
            transportId=transport["transportId"],
            dtlsParameters={
                "role": "server" if self._is_dtls_server else "client",
                "fingerprints": fingerprints(sdp),
            },
        )

    async def _produce(self, transport):
        """Offers both tracks, and answers in the server's name."""
        self._send = Bin(self._gst, "sending", [VIDEO_SOURCE, AUDIO_SOURCE])
        await self._send.play()
        offer = await self._send.describe("offer")
        media = sections(offer)[1:]
        await self._connect(transport, offer)
        setup = "active" if self._is_dtls_server else "passive"
        answer = Description(transport, setup, [section.first("mid") for section in media])
        for section in media:
            parameters = sent_parameters(section, "gstreamer")
            produced = await self._protoo.request(
                "produce",
                transportId=transport["transportId"],
                kind=section.kind,
                rtpParameters=parameters,
                appData={"source": section.kind},
            )
            self._sent[produced["producerId"]] = section.kind
            answer.add(section.kind, parameters["mid"], "recvonly", parameters["codecs"])
        await self._send.set_remote("answer", answer.sdp())

    async def _requested(self, method, data):
        if method != "newConsumer":
            raise RuntimeError(f"no such method here: {method}")
        async with self._negotiating:
            self._consumers.append(data)
            await self._receive()

    async def _receive(self):
        """Offers all consumers in the server's name; webrtcbin answers."""
        setup = "active" if self._is_dtls_server else "actpass"
        mids = [consumer["rtpParameters"]["mid"] for consumer in self._consumers]
        offer = Description(self._receiving, setup, mids)
        for consumer in self._consumers:
            parameters = consumer["rtpParameters"]
            cname = parameters["rtcp"]["cname"]
            offer.add(
                consumer["kind"],
                parameters["mid"],
                "sendonly",
                parameters["codecs"],
                parameters["encodings"],
                cname,
            )
        await self._recv.set_remote("offer", offer.sdp())
        answer = await self._recv.describe("answer")
        if not self._connected:
            self._connected = True
            await self._connect(self._receiving, answer)

    def _pad_added(self, _webrtc, pad):
        """In a thread of GStreamer: decodes what arrives there."""
        if pad.get_property("direction") != self._gst.core.PadDirection.SRC:
            return
        ssrc = pad.get_current_caps().get_structure(0).get_value("ssrc")
        consumer = next(
            each
            for each in self._consumers
            if any(encoding["ssrc"] == ssrc for encoding in each["rtpParameters"]["encodings"])
        )
        kind = consumer["kind"]
        watched = self._watched.setdefault(consumer["producerId"], Watched(kind))
        sink = "appsink name=sink emit-signals=true sync=false max-buffers=50 drop=true"
        decoder = self._gst.core.parse_bin_from_description(
            f"queue ! {DECODERS[kind]} ! {sink}", True
        )
        decoder.get_by_name("sink").connect("new-sample", watched.sample)
        self._recv.pipeline.add(decoder)
        pad.link(decoder.get_static_pad("sink"))
        decoder.sync_state_with_parent()

    def _report(self):
        # A copy in one step: pads are added in other threads.
        watched = dict(self._watched)
        return {
            "sent": self._sent,
            "received": {ident: each.report() for ident, each in watched.items()},
            "send": self._send.security(),
            "recv": self._recv.security(),
        }


def receivable(capabilities):
    """Of what the server forwards, what this peer decodes; numbers stay the server's."""
    media = [each for each in capabilities["codecs"] if each["mimeType"].lower() in CAPABILITY_CODECS]
    types = {codec["preferredPayloadType"] for codec in media}
    repair = [each for each in capabilities["codecs"] if each["parameters"].get("apt") in types]
    return {"codecs": media + repair, "headerExtensions": []}


class Gst:
    """GStreamer's modules."""

    def __init__(self):
        import gi

        for name in ("Gst", "GstSdp", "GstWebRTC", "GstApp"):
            gi.require_version(name, "1.0")
        # GstApp gives appsink its signals.
        from gi.repository import Gst, GstApp, GstSdp, GstWebRTC  # noqa: F401

        Gst.init(None)
        self.core, self.sdp, self.webrtc = Gst, GstSdp, GstWebRTC

    def missing(self):
        """Elements that are not installed."""
        return [name for name in ELEMENTS if self.core.ElementFactory.find(name) is None]


def check():
    """What is missing for this peer, in words; None if nothing is."""
    try:
        missing = Gst().missing()
    except (ImportError, ValueError) as error:
        return f"GStreamer's Python bindings: {error}"
    return f"GStreamer has no {', '.join(missing)}" if missing else None


async def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("server", nargs="?")
    parser.add_argument("room", nargs="?")
    parser.add_argument("peer", nargs="?")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--dtls-server", action="store_true")
    arguments = parser.parse_args()
    if arguments.check:
        sys.exit(check())
    import aiohttp

    query = {"roomId": arguments.room, "peerId": arguments.peer}
    async with aiohttp.ClientSession() as session:
        async with session.ws_connect(
            f"{arguments.server}/", params=query, protocols=["protoo"]
        ) as socket:
            peer = asyncio.create_task(Peer(Gst(), socket, arguments.dtls_server).run())
            ended = asyncio.create_task(until_input_ends())
            await asyncio.wait({peer, ended}, return_when=asyncio.FIRST_COMPLETED)
            peer.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await peer


from protoo import ANSWER_TIMEOUT_S, Protoo, until_input_ends  # noqa: E402

if __name__ == "__main__":
    asyncio.run(main())
