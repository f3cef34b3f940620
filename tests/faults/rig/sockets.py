"""Raw connections: WebSockets, and streams that are read piece by piece."""

import base64
import os
import socket

from rig.http import Unanswered


class WebSocket:
    """A WebSocket through the gateway, for short texts. Raises `Unanswered` if it does not open."""

    def __init__(self, port, path, bearer, headers=None, timeout=10):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout)
        lines = [f"GET {path} HTTP/1.1", f"Host: 127.0.0.1:{port}", "Upgrade: websocket", "Connection: Upgrade",
                 "Sec-WebSocket-Version: 13", f"Sec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}",
                 f"Authorization: Bearer {bearer}", *(f"{name}: {value}" for name, value in (headers or {}).items())]
        self.socket.sendall("\r\n".join(lines).encode() + b"\r\n\r\n")
        self.status = head_status(self.socket)
        if self.status != 101:
            self.socket.close()

    def echo(self, text):
        """Whether a text is echoed."""
        data, mask = text.encode(), os.urandom(4)
        masked = bytes(byte ^ mask[place % 4] for place, byte in enumerate(data))
        try:
            self.socket.sendall(bytes([0x81, 0x80 | len(data)]) + mask + masked)
            wanted, found = bytes([0x81, len(data)]) + data, b""
            while len(found) < len(wanted):
                piece = self.socket.recv(len(wanted) - len(found))
                if not piece:
                    return False
                found += piece
            return found == wanted
        except OSError:
            return False

    def close(self):
        """Closes the connection."""
        self.socket.close()


def head_status(connection):
    """Reads the head of an answer and returns its status. Raises `Unanswered`."""
    head = b""
    try:
        while b"\r\n\r\n" not in head:
            piece = connection.recv(1)
            if not piece:
                raise Unanswered("closed before the head of an answer")
            head += piece
    except OSError as error:
        raise Unanswered(f"no head of an answer: {type(error).__name__}") from error
    return int(head.split()[1])
