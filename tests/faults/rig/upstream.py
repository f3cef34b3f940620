"""Services behind the gateway: one that returns the request it received, with switchable misbehaviour, and a server of
a key set.
"""

import asyncio
import base64
import hashlib
import json
import os
import socket
import struct
import threading
import time

WEBSOCKET = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
# A request that must not get here carries this field.
FORBIDDEN = "x-must-not-pass"
HABITS = ["reset", "hang", "garbage", "close", "truncate", "slow"]


class Upstream:
    """Answers with the request it received, unless its `habit` says otherwise: `good` or one of `HABITS`.

    `/…/socket` is a WebSocket that echoes, `/…/events` an event stream, `/…/much` an answer of 64 MiB.
    """

    def __init__(self, name=""):
        self.name, self.habit, self.forbidden, self.requests = name, "good", 0, 0
        # Seconds after which long answers were cut off.
        self.cut = []
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self.loop.run_forever, daemon=True).start()
        self.server = asyncio.run_coroutine_threadsafe(
            asyncio.start_server(self._serve, "127.0.0.1", 0, limit=1 << 22), self.loop).result(5)
        self.port = self.server.sockets[0].getsockname()[1]
        self.address = f"127.0.0.1:{self.port}"

    async def _serve(self, reader, writer):
        try:
            while await self._exchange(reader, writer):
                pass
        except (OSError, asyncio.IncompleteReadError, ValueError):
            # Cut off by the gateway, possibly in the middle of a chunk.
            pass
        finally:
            writer.close()

    async def _exchange(self, reader, writer):
        head = await reader.readuntil(b"\r\n\r\n")
        line, *fields = head.decode("latin-1").split("\r\n")
        fields = {name.lower(): value.strip() for name, _, value in (it.partition(":") for it in fields) if name}
        self.requests += 1
        self.forbidden += FORBIDDEN in fields
        path = line.split()[1].split("?")[0]
        if fields.get("upgrade", "").lower() == "websocket" and self.habit == "good":
            await echo_frames(reader, writer, fields["sec-websocket-key"])
            return False
        body = await read_body(reader, fields)
        if self.habit != "good":
            return await self._misbehave(writer)
        if path.endswith("/events"):
            await stream_events(writer)
            return True
        if path.endswith("/much"):
            began = time.monotonic()
            try:
                await say_much(writer)
            except OSError:
                self.cut.append(time.monotonic() - began)
                raise
            return True
        seen = {name: value for name, value in fields.items() if name.startswith("x-auth-")}
        answer = {"at": self.name, "seen": seen, "sum": hashlib.sha256(body).hexdigest(), "bytes": len(body)}
        await say(writer, json.dumps(answer).encode())
        return True

    async def _misbehave(self, writer):
        """Follows the habit; returns whether the connection stays open."""
        match self.habit:
            case "slow":
                await asyncio.sleep(1.5)
                await say(writer, b"{}")
                return True
            case "hang":
                await asyncio.sleep(60)
            case "garbage":
                writer.write(os.urandom(300) + b"\r\n\r\n")
                await writer.drain()
            case "truncate":
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nnot a hundred bytes")
                await writer.drain()
            case "reset":
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                writer.transport.abort()
        return False


class KeyServer:
    """Serves a JWK set; while `is_away`, it answers 500."""

    def __init__(self, key_set):
        self.key_set, self.is_away, self.fetches = json.dumps(key_set).encode(), False, 0
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self.loop.run_forever, daemon=True).start()
        server = asyncio.run_coroutine_threadsafe(
            asyncio.start_server(self._serve, "127.0.0.1", 0), self.loop).result(5)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/keys"

    async def _serve(self, reader, writer):
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                self.fetches += 1
                await say(writer, self.key_set, "500 Away" if self.is_away else "200 OK")
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


async def say(writer, body, status="200 OK"):
    """Answers with a JSON body."""
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)
    await writer.drain()


async def say_much(writer, mib=64):
    """Sends a long answer as fast as it is read."""
    writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {mib << 20}\r\n\r\n".encode())
    for _ in range(mib):
        writer.write(bytes(1 << 20))
        await writer.drain()


async def read_body(reader, fields):
    """Reads the whole body of a request."""
    if fields.get("transfer-encoding", "").lower() != "chunked":
        return await reader.readexactly(int(fields.get("content-length", 0)))
    body = b""
    while size := int((await reader.readline()).split(b";")[0], 16):
        body += await reader.readexactly(size)
        await reader.readline()
    await reader.readline()
    return body


async def stream_events(writer, count=5):
    """Sends an event stream of some events, 0.2 s apart."""
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
    for number in range(count):
        event = b"data: %d\n\n" % number
        writer.write(b"%x\r\n%s\r\n" % (len(event), event))
        await writer.drain()
        await asyncio.sleep(0.2)
    writer.write(b"0\r\n\r\n")
    await writer.drain()


async def echo_frames(reader, writer, key):
    """Accepts a WebSocket and echoes each short frame."""
    accept = base64.b64encode(hashlib.sha1(key.encode() + WEBSOCKET).digest())
    writer.write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                 b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n")
    await writer.drain()
    while True:
        first, length = await reader.readexactly(2)
        mask = await reader.readexactly(4)
        data = await reader.readexactly(length & 127)
        plain = bytes(byte ^ mask[place % 4] for place, byte in enumerate(data))
        writer.write(bytes([first, len(plain)]) + plain)
        await writer.drain()
        if first & 15 == 8:
            return
