"""What the Python peers share: protoo on a WebSocket, and the end of a process when its input ends."""

import asyncio
import json
import random
import sys

# Only ends what hangs: a busy machine is slow.
ANSWER_TIMEOUT_S = 120


class Protoo:
    """Requests both ways, and notifications, on one WebSocket."""

    def __init__(self, socket, on_request):
        self._socket = socket
        self._on_request = on_request
        self._waiting = {}
        self._tasks = set()
        self.notifications = []

    async def request(self, method, **data):
        ident = random.randrange(10_000_000)
        answer = self._waiting[ident] = asyncio.get_running_loop().create_future()
        await self._socket.send_json({"request": True, "id": ident, "method": method, "data": data})
        return await asyncio.wait_for(answer, timeout=ANSWER_TIMEOUT_S)

    async def run(self):
        async for message in self._socket:
            frame = json.loads(message.data)
            if frame.get("response"):
                self._answered(frame)
            elif frame.get("request"):
                # Beside the reading, for its handler may ask the server something.
                task = asyncio.create_task(self._serve(frame))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            else:
                self.notifications.append(frame["method"])
        raise ConnectionError("the server closed the connection")

    def _answered(self, frame):
        answer = self._waiting.pop(frame["id"])
        if frame.get("ok"):
            answer.set_result(frame.get("data", {}))
        else:
            answer.set_exception(RuntimeError(f"{frame['errorCode']} {frame['errorReason']}"))

    async def _serve(self, frame):
        answer = {"response": True, "id": frame["id"], "ok": True, "data": {}}
        try:
            await self._on_request(frame["method"], frame["data"])
        except Exception as error:
            answer = {
                "response": True,
                "id": frame["id"],
                "ok": False,
                "errorCode": 500,
                "errorReason": repr(error),
            }
        await self._socket.send_json(answer)


async def until_input_ends():
    """The one who started us keeps our standard input open as long as it wants us."""
    reader = asyncio.StreamReader()
    protocol = asyncio.StreamReaderProtocol(reader)
    await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, sys.stdin)
    await reader.read()
