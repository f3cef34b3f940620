"""Destinations of the gateway's mails: a directory of files, or a mail server that can be down."""

import asyncio
import email
import email.policy
import re
import socket
import threading
import time

TOKEN = re.compile(r"token=([A-Za-z0-9_.~-]{16,})")


class Tokens:
    """One-time tokens by address, oldest first; each is returned once."""

    def __init__(self):
        self.changed = threading.Condition()
        self.waiting, self.seen, self.mails = {}, set(), 0
        # Addresses that have received a token, returned or not.
        self.addresses = set()

    def add(self, raw):
        """Stores a received mail."""
        mail = email.message_from_bytes(raw, policy=email.policy.default)
        body = mail.get_body(("plain",)) or mail.get_body(("html",))
        found = TOKEN.search(body.get_content() if body else "")
        with self.changed:
            self.mails += 1
            # A mail may arrive twice, after a crash between its delivery and the record of it.
            if found and found[1] not in self.seen:
                self.seen.add(found[1])
                address = str(mail["To"]).strip().lower()
                self.addresses.add(address)
                self.waiting.setdefault(address, []).append(found[1])
            self.changed.notify_all()

    def look(self):
        """Reads mails that are not pushed."""

    def take(self, address, wait_s=10, give_up=lambda: False):
        """Returns the oldest token for an address that was not returned yet; `None` if none arrives."""
        end = time.monotonic() + wait_s
        while True:
            self.look()
            with self.changed:
                tokens = self.waiting.get(address.lower())
                if tokens:
                    return tokens.pop(0)
                if end < time.monotonic() or give_up():
                    return None
                self.changed.wait(0.03)


class MailDirectory(Tokens):
    """The directory into which the transport `file` writes; mails are removed once read."""

    def __init__(self, path):
        super().__init__()
        self.path, self.looking = path, threading.Lock()

    def look(self):
        """Reads all new mails."""
        with self.looking:
            if not self.path.is_dir():
                return
            for file in sorted(self.path.glob("*.eml"), key=lambda it: it.stat().st_mtime_ns):
                self.add(file.read_bytes())
                file.unlink()


class MailServer(Tokens):
    """A mail server without TLS on loopback, in a thread of its own.

    While `is_away` nothing listens; while `is_hanging` connections are accepted but never answered.
    """

    def __init__(self):
        super().__init__()
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            self.port = found.getsockname()[1]
        self.is_hanging, self.server = False, None
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self.loop.run_forever, daemon=True).start()
        self.come_back()

    def go_away(self):
        """Stops listening."""
        async def close():
            self.server.close()
        asyncio.run_coroutine_threadsafe(close(), self.loop).result(5)

    def come_back(self):
        """Listens, and receives mails."""
        async def listen():
            self.server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        asyncio.run_coroutine_threadsafe(listen(), self.loop).result(5)
        self.is_hanging = False

    async def _serve(self, reader, writer):
        try:
            if self.is_hanging:
                await asyncio.sleep(60)
                return
            await self._talk(reader, writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        finally:
            writer.close()

    async def _talk(self, reader, writer):
        async def say(text):
            writer.write(text.encode() + b"\r\n")
            await writer.drain()

        await say("220 mail.test")
        while line := await reader.readline():
            word = line.split()[0].upper() if line.split() else b""
            if word == b"DATA":
                await say("354 go on")
                raw = await reader.readuntil(b"\r\n.\r\n")
                self.add(raw[:-5].replace(b"\r\n..", b"\r\n."))
                await say("250 taken")
            elif word == b"QUIT":
                await say("221 bye")
                return
            else:
                await say("250 mail.test")
