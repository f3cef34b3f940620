#!/usr/bin/env python3
"""F-13: endless bodies, to the gateway's own endpoints and to an upstream, with a length and in chunks."""

import socket
import sys
import threading
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from rig import case
from rig.gateway import Gateway
from rig.http import Unanswered
from rig.sockets import head_status
from rig.upstream import Upstream

MEMORY_MAX_KIB = 16 * 1024
UNBOUNDED = "[limits]\nbody_bytes_max = 0\n"
PIECE = b"x" * 65_536
CHUNK = b"10000\r\n" + PIECE + b"\r\n"


def send(gateway, path, framing, pieces):
    """Sends a head and pieces until an answer arrives or all are sent; returns the status and the bytes sent."""
    with socket.create_connection(("127.0.0.1", gateway.port), 20) as connection:
        connection.sendall(f"POST {path} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n{framing}\r\n\r\n".encode())
        sent = 0
        try:
            for piece in pieces:
                connection.sendall(piece)
                sent += len(piece)
        except OSError:
            pass
        try:
            return head_status(connection), sent
        except Unanswered:
            return None, sent


def body(run):
    upstream = Upstream()
    whole = 64 if run.is_short else 1024
    with run.case(f"a body of {whole} MiB", "refused at its limit or streamed, with 16 MiB of memory at most") as result:
        gateway = Gateway(run.binary, run.fresh("gateway"), upstream=upstream.address)
        gateway.start()
        memory = gateway.memory_kib()
        for path, framing, piece in (
                ("/auth/login", f"Content-Length: {whole << 20}", PIECE), ("/auth/login", "Transfer-Encoding: chunked", CHUNK),
                ("/public/sum", f"Content-Length: {whole << 20}", PIECE), ("/public/sum", "Transfer-Encoding: chunked", CHUNK)):
            status, sent = send(gateway, path, framing, (piece for _ in range(whole * 16)))
            # A caller that keeps sending after a refusal may find the connection reset before it has read the answer.
            result.expect(status in (413, None) and sent < 24 << 20, f"{path} {framing}: {status} after {sent} bytes")
            result.figure(f"{path} {framing.split(':')[0]}: {status or 'closed'} after {sent / 1048576:.1f} MiB")
        grown = gateway.memory_kib() - memory
        result.expect(grown <= MEMORY_MAX_KIB, f"{grown} KiB more")
        result.figure(f"{max(0, grown) / 1024:.1f} MiB more")
        gateway.stop()
    with run.case(f"{whole} MiB streamed without a limit", "it passes with 16 MiB of memory at most") as result:
        gateway = Gateway(run.binary, run.fresh("unbounded"), upstream="builtin:echo", more=UNBOUNDED)
        gateway.start()
        send(gateway, "/public/sum", "Content-Length: 1048576", (PIECE for _ in range(16)))
        memory, sent = gateway.memory_kib(), 0
        sink = Sink()
        gateway.upstream = sink.address
        gateway.configure()
        gateway.command("reload")
        status, sent = send(gateway, "/public/sum", f"Content-Length: {whole << 20}", (PIECE for _ in range(whole * 16)))
        grown = gateway.memory_kib() - memory
        result.expect(status == 200 and sent == whole << 20, f"{status} after {sent} bytes")
        result.expect(grown <= MEMORY_MAX_KIB, f"{grown} KiB more")
        result.figure(f"{status} after {sent >> 20} MiB, {max(0, grown) / 1024:.1f} MiB more")
        gateway.stop()


class Sink:
    """An upstream that reads a body of a known length, discards it, and answers."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        while True:
            connection, _ = self.listener.accept()
            head = b""
            while b"\r\n\r\n" not in head:
                head += connection.recv(65_536)
            head, rest = head.split(b"\r\n\r\n", 1)
            length = next(int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length"))
            left = length - len(rest)
            while 0 < left:
                left -= len(connection.recv(1 << 20))
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            connection.close()


case.main("F-13", body, seconds=60)
