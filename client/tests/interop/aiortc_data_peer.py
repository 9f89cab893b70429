"""A participant with data channels alone that shares no line with browsers: aiortc's own SCTP, and an ordinary peer
connection, which opens its channels by DCEP.

Says four things on a channel of its own, takes those that the server opens, and prints what it has so far as one line of
JSON every half second. Ends when its standard input does.

    aiortc_data_peer.py ws://127.0.0.1:8080 ROOM PEER
"""

import argparse
import asyncio
import contextlib
import json
import re

import aiohttp
from aiortc import RTCPeerConnection, RTCSessionDescription

from protoo import Protoo, until_input_ends


def answer_of(transport):
    """What the server says of a transport, as an answer (RFC 8841)."""
    ice, sctp = transport["iceParameters"], transport["sctpParameters"]
    fingerprint = transport["dtlsParameters"]["fingerprints"][0]
    lines = [
        "v=0",
        "o=- 1 1 IN IP4 127.0.0.1",
        "s=-",
        "t=0 0",
        "a=ice-lite",
        "a=group:BUNDLE 0",
        "m=application 9 UDP/DTLS/SCTP webrtc-datachannel",
        "c=IN IP4 0.0.0.0",
        "a=mid:0",
        f"a=ice-ufrag:{ice['usernameFragment']}",
        f"a=ice-pwd:{ice['password']}",
        f"a=fingerprint:{fingerprint['algorithm']} {fingerprint['value']}",
        "a=setup:passive",
        f"a=sctp-port:{sctp['port']}",
        f"a=max-message-size:{sctp['maxMessageSize']}",
    ]
    for each in transport["iceCandidates"]:
        place = f"{each['priority']} {each['address']} {each['port']}"
        lines.append(f"a=candidate:{each['foundation']} 1 udp {place} typ host")
    return "\r\n".join(lines) + "\r\n"


class Peer:
    """The participant."""

    def __init__(self, socket):
        self._protoo = Protoo(socket, self._requested)
        self._connection = RTCPeerConnection()
        self._taken = []
        self._messages = []

    async def run(self):
        """Speaks and listens until one of the two fails, or until it is cancelled."""
        tasks = [asyncio.create_task(self._protoo.run()), asyncio.create_task(self._speak())]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await self._connection.close()

    async def _requested(self, method, _data):
        if method != "newDataConsumer":
            raise RuntimeError(f"no such method here: {method}")

    async def _speak(self):
        device = {"flag": "aiortc", "name": "aiortc"}
        await self._protoo.request("join", displayName="aiortc", device=device)
        transport = await self._protoo.request(
            "createWebRtcTransport", dcep=True, appData={"direction": "consumer"}
        )
        self._connection.on("datachannel", self._take)
        channel = self._connection.createDataChannel("from aiortc")
        channel.on("open", lambda: self._say(channel))
        await self._connection.setLocalDescription(await self._connection.createOffer())
        offer = self._connection.localDescription.sdp
        algorithm, value = re.search(r"a=fingerprint:(sha-256) (\S+)", offer).groups()
        fingerprints = [{"algorithm": algorithm, "value": value}]
        await self._protoo.request(
            "connectWebRtcTransport",
            transportId=transport["transportId"],
            dtlsParameters={"role": "client", "fingerprints": fingerprints},
        )
        answer = RTCSessionDescription(type="answer", sdp=answer_of(transport))
        await self._connection.setRemoteDescription(answer)
        while True:
            print(json.dumps(self._report()), flush=True)
            await asyncio.sleep(0.5)

    def _say(self, channel):
        for message in ["hello", b"\1\2\3", "", bytes(100_000)]:
            channel.send(message)

    def _take(self, channel):
        self._taken.append(channel)
        channel.on("message", lambda message: self._heard(channel.label, message))

    def _heard(self, label, message):
        self._messages.append([label, message if isinstance(message, str) else len(message)])

    def _report(self):
        channels = {
            each.label: {"id": each.id, "ordered": each.ordered, "state": each.readyState}
            for each in self._taken
        }
        return {"channels": channels, "messages": self._messages}


async def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("server")
    parser.add_argument("room")
    parser.add_argument("peer")
    arguments = parser.parse_args()
    query = {"roomId": arguments.room, "peerId": arguments.peer}
    async with aiohttp.ClientSession() as session:
        async with session.ws_connect(
            f"{arguments.server}/", params=query, protocols=["protoo"]
        ) as socket:
            peer = asyncio.create_task(Peer(socket).run())
            ended = asyncio.create_task(until_input_ends())
            await asyncio.wait({peer, ended}, return_when=asyncio.FIRST_COMPLETED)
            peer.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await peer


if __name__ == "__main__":
    asyncio.run(main())
