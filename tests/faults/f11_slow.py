#!/usr/bin/env python3
"""F-11: a thousand concurrent callers that send heads and bodies byte by byte, or read their answers that slowly."""

import asyncio
import socket
import sys
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from rig import case
from rig.gateway import Gateway
from rig.probes import Probes
from rig.upstream import Upstream

BYTE_EVERY_S = 2
# Ten seconds, and some more for a busy machine.
HEAD_MAX_S = 15
# A body has 10 s before its rate counts.
BODY_MAX_S = ANSWER_MAX_S = 25
HEAD = b"GET /public/x HTTP/1.1\r\nHost: a\r\n"
OWN_BODY = (b"POST /auth/login HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 500\r\n\r\n{")
PROXIED_BODY = b"POST /public/x HTTP/1.1\r\nHost: a\r\nContent-Length: 500\r\n\r\n{"
UNREAD = b"GET /public/much HTTP/1.1\r\nHost: a\r\n\r\n"


async def drip(port, first, longest_s):
    """Sends something, then a byte now and then; returns the seconds until the connection ended, `None` if it stayed
    open.
    """
    began = time.monotonic()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(first)
        while time.monotonic() - began < longest_s:
            writer.write(b" ")
            await writer.drain()
            try:
                await asyncio.wait_for(reader.read(4096), BYTE_EVERY_S)
                return time.monotonic() - began
            except asyncio.TimeoutError:
                continue
        return None
    except OSError:
        return time.monotonic() - began
    finally:
        writer.close()


async def read_little(port, longest_s):
    """Requests a long answer and reads a byte now and then.

    This side cannot see that the connection was closed, because the end comes after all buffered bytes; the upstream
    can.
    """
    loop, connection, began = asyncio.get_running_loop(), socket.socket(), time.monotonic()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    connection.setblocking(False)
    try:
        await loop.sock_connect(connection, ("127.0.0.1", port))
        await loop.sock_sendall(connection, UNREAD)
        while time.monotonic() - began < longest_s:
            await asyncio.sleep(BYTE_EVERY_S)
            try:
                connection.recv(1)
            except BlockingIOError:
                continue
    except OSError:
        pass
    finally:
        connection.close()


async def all_at_once(port, many):
    groups = {
        "head": [drip(port, HEAD, HEAD_MAX_S + 10) for _ in range(5 * many)],
        "body to the gateway": [drip(port, OWN_BODY, BODY_MAX_S + 10) for _ in range(2 * many)],
        "body to an upstream": [drip(port, PROXIED_BODY, BODY_MAX_S + 10) for _ in range(2 * many)],
        "answer": [read_little(port, ANSWER_MAX_S + 10) for _ in range(many)],
    }
    names = [name for name, tasks in groups.items() for _ in tasks]
    ends = await asyncio.gather(*(task for tasks in groups.values() for task in tasks), return_exceptions=True)
    return list(zip(names, ends))


def body(run):
    many = 20 if run.is_short else 100
    with run.case(f"{10 * many} slow callers", "each is given up in time, others are served as before") as result:
        upstream = Upstream()
        gateway = Gateway(run.binary, run.fresh("gateway"), upstream=upstream.address)
        gateway.start()
        gateway.add_administrator()
        bearer = gateway.administrator()
        with Probes(gateway, bearer) as before:
            time.sleep(3)
        memory = gateway.memory_kib()
        with Probes(gateway, bearer) as during:
            ends = asyncio.run(all_at_once(gateway.port, many))
        ends = [(name, it) for name, it in ends if name != "answer"] + [("answer", it) for it in upstream.cut]
        result.expect(len(upstream.cut) == many, f"{len(upstream.cut)} of {many} answers were cut off")
        for name, bound in (("head", HEAD_MAX_S), ("body to the gateway", BODY_MAX_S), ("body to an upstream", BODY_MAX_S),
                            ("answer", ANSWER_MAX_S)):
            times = [it for group, it in ends if group == name and isinstance(it, float)]
            rest = Counter(str(it) for group, it in ends if group == name and not isinstance(it, float))
            result.figure(f"{name}: {len(times)} ended after at most {max(times, default=0):.1f} s")
            result.expect(not rest, f"{name}: {dict(rest)}")
            result.expect(max(times, default=0) <= bound, f"{name}: {max(times, default=0):.1f} s")
        result.figure(f"probe p99 {before.share_ms(0.99):.1f} ms before, {during.share_ms(0.99):.1f} ms with them")
        result.figure(f"{max(0, gateway.memory_kib() - memory) / 1024:.0f} MiB more")
        result.expect(set(during.allowed) == {200}, f"probe: {dict(during.allowed)}")
        result.expect(gateway.stop() == 0 and gateway.panics() == 0, "it did not end cleanly")


case.main("F-11", body, seconds=70)
