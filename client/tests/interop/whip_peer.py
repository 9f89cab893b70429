"""A publisher that shares no line with ours: aiortc's own RTCPeerConnection, over WHIP (RFC 9725).

Sends a moving VP8 picture and a tone. Prints what the server answered and how it is connected as one line of JSON every
half second; when its standard input ends it deletes its session, prints the status of that, and ends.

    whip_peer.py http://127.0.0.1:8080/whip/ROOM [TOKEN]
"""

import asyncio
import contextlib
import json
import sys
import urllib.parse

import aiohttp
import aioice.ice
from aiortc import RTCPeerConnection, RTCSessionDescription

from aiortc_peer import Bars, Tone
from protoo import until_input_ends


async def main():
    address, token = sys.argv[1], sys.argv[2:]
    # aioice leaves loopback out, which is the only network these tests use.
    aioice.ice.get_host_addresses = lambda use_ipv4, use_ipv6: ["127.0.0.1"]
    headers = {"Authorization": f"Bearer {token[0]}"} if token else {}
    connection = RTCPeerConnection()
    connection.addTrack(Tone())
    connection.addTrack(Bars())
    await connection.setLocalDescription(await connection.createOffer())
    async with aiohttp.ClientSession(headers=headers) as http:
        offer = {"data": connection.localDescription.sdp, "headers": {"Content-Type": "application/sdp"}}
        async with http.post(address, **offer) as response:
            text = await response.text()
            if response.status != 201:
                raise ConnectionError(f"{response.status}: {text}")
            resource = urllib.parse.urljoin(address, response.headers["Location"])
            etag = response.headers["ETag"]
        await connection.setRemoteDescription(RTCSessionDescription(text, "answer"))
        report = asyncio.create_task(tell(connection, etag))
        await until_input_ends()
        report.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await report
        async with http.delete(resource) as response:
            deleted = response.status
        async with http.delete(resource) as response:
            print(json.dumps({"deleted": deleted, "again": response.status}), flush=True)
    await connection.close()


async def tell(connection, etag):
    while True:
        state = connection.connectionState
        print(json.dumps({"etag": etag, "state": state}), flush=True)
        await asyncio.sleep(0.5)


asyncio.run(main())
