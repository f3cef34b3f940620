#!/usr/bin/env python3
"""The training load of a profile-guided build: scripts/release-build sends it to an instrumented gateway.

Two gateways in turn, one with the access log and two workers, one without it and with one worker, receive a mix of
everything that callers do: tokens of foreign issuers, logins, API keys, roles, cookies, public routes, refusals,
forward-auth, bodies of all sizes, HTTP/2, WebSockets and new connections. The mix has a fixed number of requests and
checks every answer. It runs against any binary: training.py --binary target/debug/doorward --requests 2000
"""

import argparse
import pathlib
import random
import re
import socket
import sys
import tempfile
import threading
import time
from collections import Counter

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import ConnectionTerminated, DataReceived, ResponseReceived, StreamEnded, StreamReset

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

from rig.case import end_by_exit
from rig.gateway import Gateway, NotStarted, ROUTES
from rig.http import Unanswered
from rig.ledger import Ledger, network
from rig.mail import MailDirectory
from rig.sockets import WebSocket
from rig.tokens import Issuer
from rig.upstream import KeyServer, Upstream, echo_frames, read_body
from rig.writers import Writer

CALLERS = 8
PEOPLE = 6
ES256_TOKENS, RS256_TOKENS = 400, 50
# A password takes a thousand times the processor time of a request, and too many of them would make all else look cold.
WRITES = 60
# A file system in memory: a disk that is busy would delay writes until requests fail.
MEMORY = pathlib.Path("/dev/shm")
SECRET = "a-secret-of-the-training-load"

# Shares of the kinds of requests. What is frequent in production is frequent here, because the compiler trades the
# size of code for speed where the counts are high.
SHARES = {"hot": 22, "rotation": 10, "session": 10, "key": 8, "role": 8, "cookie": 3, "public": 14, "verify": 10,
          "refusal": 8, "forged": 2, "upload": 4, "download": 5, "own": 2, "connection": 3, "navigation": 1}
# Rare kinds, in a thousand.
RARE = {"websocket": 3, "metrics": 3}

SETTINGS = f"""
[forward_auth]
secret = "{SECRET}"
[[issuer]]
name = "corp"
issuer = "https://id.example.com"
audience = ["api"]
jwks_url = "{{es256}}"
subject_prefix = "corp:"
roles_claim = "groups"
[[issuer]]
name = "old"
subject_prefix = "old:"
issuer = "https://old.example.com"
audience = ["api"]
jwks_url = "{{rs256}}"
"""

MORE_ROUTES = """
[[route]]
path = "/optional/**"
upstream = "main"
require = "optional"
[[route]]
path = "/signed/**"
upstream = "main"
require = "authenticated"
assertion = true
[[route]]
path = "/methods/**"
methods = ["GET", "HEAD"]
upstream = "main"
require = "public"
"""


class Unexpected(Exception):
    """An answer that a sound gateway does not give: the profile would record the wrong paths."""


class Service(Upstream):
    """An upstream that answers `/…/bytes/N` with N bytes, `/…/chunks/N` with them in chunks, and else with 100 bytes.

    One in 200 answers announces that it closes its connection.
    """

    async def _exchange(self, reader, writer):
        head = await reader.readuntil(b"\r\n\r\n")
        line, *fields = head.decode("latin-1").split("\r\n")
        fields = {name.lower(): value.strip() for name, _, value in (it.partition(":") for it in fields) if name}
        if "upgrade" in fields:
            await echo_frames(reader, writer, fields["sec-websocket-key"])
            return False
        await read_body(reader, fields)
        self.requests += 1
        method, path = line.split()[:2]
        size = re.search(r"/(bytes|chunks)/(\d+)", path)
        if size and size[1] == "chunks":
            framing, body = "Transfer-Encoding: chunked", chunked(int(size[2]), 8192)
        else:
            body = b"x" * int(size[2] if size else 100)
            framing = f"Content-Length: {len(body)}"
        # Announced, because a POST that is on its way already when a connection closes must not be sent twice.
        closes = self.requests % 200 == 0
        more = "Connection: close\r\n" if closes else ""
        writer.write(f"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n{more}{framing}\r\n\r\n".encode())
        if method != "HEAD":
            writer.write(body)
        await writer.drain()
        return not closes


class Load:
    """One gateway, everything that its callers need, and the counts of what they sent."""

    def __init__(self, options, directory, workers, access):
        self.options, self.upstream = options, Service()
        self.issuer, self.old = Issuer("https://id.example.com"), Issuer("https://old.example.com", algorithm="RS256")
        keys = {"es256": KeyServer(self.issuer.key_set()).url, "rs256": KeyServer(self.old.key_set()).url}
        self.gateway = Gateway(
            options.binary, directory, upstream=self.upstream.address, more=SETTINGS.format(**keys),
            routes=ROUTES + MORE_ROUTES,
            environment={"DOORWARD__LISTEN__WORKERS": str(workers), "DOORWARD__LOG__ACCESS": str(access).lower()})
        self.counts, self.failures, self.lock = Counter(), [], threading.Lock()

    def run(self):
        """Starts the gateway, sends all of the load, and stops it. Raises `Unexpected`."""
        self.gateway.start(wait_s=120)
        self.gateway.add_administrator()
        self.prepare()
        callers = [Reader(self, number, self.options.requests // CALLERS) for number in range(CALLERS)]
        others = [threading.Thread(target=self.guard, args=(act,), daemon=True) for act in (self.write, self.multiplex)]
        threads = callers + others
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if self.gateway.command("reload").returncode:
            raise Unexpected("the configuration could not be reloaded")
        Reader(self, "last", 200).run()
        if self.failures:
            raise Unexpected(self.failures[0])
        if (code := self.gateway.stop()) != 0 or self.gateway.panics():
            raise Unexpected(f"the gateway ended with {code}, {self.gateway.panics()} panics in its log")

    def guard(self, act):
        """Calls `act` and records why it fails."""
        try:
            act()
        except Exception as failure:  # Anything that ends a caller early leaves the profile incomplete.
            self.failures.append(repr(failure))

    def writer(self, number):
        """Returns a caller that registers people and changes what they own."""
        return Writer(self.gateway, Ledger(), self.mails, random.Random(f"{self.options.seed}-writer-{number}"), number)

    def prepare(self):
        """Registers people with a login, a key and a membership each, and makes the tokens of the foreign issuers."""
        self.mails = MailDirectory(self.gateway.mail_directory)
        writer = self.writer(0)
        for _ in range(PEOPLE):
            writer.register(None)
            person = writer.people[-1]
            for act in (writer.log_in, writer.create_key, writer.create_key, writer.rotate_key, writer.set_member):
                act(person)
            if not (person.live_sessions() and len(person.live_keys()) == 2):
                raise Unexpected(f"{person.name} could not be prepared: {dict(writer.ledger.answers)}")
        self.people = writer.people
        token = self.gateway.administrator()
        for person in self.people:
            self.expect(self.gateway.caller().put(
                f"/auth/members/list/7/{person.uid}", {"level": "member"}, bearer=token), 200, 201, 204)
        self.cookies = [self.cookie(person) for person in self.people[:2]]
        self.hot = [self.issuer.token("ext-hot")] * 4 + [self.old.token("ext-hot")]
        self.tokens = [self.issuer.token(f"ext-{number}", 3600) for number in range(ES256_TOKENS)]
        self.tokens += [self.old.token(f"ext-{number}", 3600) for number in range(RS256_TOKENS)]
        self.refusals = self.refused()

    def expect(self, answer, *statuses):
        """Raises `Unexpected` for an answer of another status."""
        if answer.status not in statuses:
            raise Unexpected(f"{answer} in place of {' or '.join(map(str, statuses))}")
        return answer

    def cookie(self, person):
        """Logs in as a browser does and returns the cookie."""
        [password] = person.password.may_be
        answer = self.gateway.caller(network(random)).post(
            "/auth/login", form={"username": person.name, "password": password},
            headers={"Origin": f"http://127.0.0.1:{self.gateway.port}"})
        return self.expect(answer, 303).headers["set-cookie"].split(";")[0]

    def refused(self):
        """Returns requests that are refused: status, path, and arguments of `Caller.send`."""
        stranger, person = Issuer("https://id.example.com"), self.people[0]
        key, bearer = person.live_keys()[0], person.live_sessions()[0].bearer
        unknown = "dwk_AAAAAAAA." + key.secret.split(".")[1]
        bad = [
            stranger.token("ext-1"), self.issuer.token("ext-1", -3600), Issuer("https://elsewhere.example").token("ext-1"),
            self.tokens[0][:-20], "no-token-at-all",
        ]
        found = [(401, "/protected/x", {"bearer": it}) for it in [bad[0]] * 6 + bad]
        found += [(401, "/protected/x", {"key": it}) for it in (unknown, key.before[0], "dwk_short")]
        found += [(401, "/protected/x", {})] * 6 + [(404, "/nowhere/at/all", {})] * 4
        found += [(403, "/lists/99/x", {"bearer": it}) for it in (bearer, self.tokens[1])] * 2
        found += [(400, f"/public/{it}", {}) for it in ("../protected/x", "%2e%2e/x", "a%2fb%2f..", "%00", "%zz", "a//../b")]
        found += [(400, "/protected/x", {"bearer": bearer, "key": key.secret})]
        found += [(401, "/lists/7/x", {"headers": {"Cookie": "doorward_session=unknown"}})]
        return found

    def write(self):
        """Registers, logs in, refreshes, rotates keys and so on, at random."""
        writer = self.writer(1)
        for _ in range(WRITES):
            writer.act()
            self.count("write")
        if broken := [it for it in writer.ledger.answers if re.search(r": (5\d\d|[^\d])", it)]:
            raise Unexpected(f"writes were answered with {broken}")
        # A wrong password.
        person, caller = self.people[0], self.gateway.caller(network(writer.chance))
        self.expect(caller.post("/auth/login", {"username": person.name, "password": "Wr0ng-horse-x"}), 401)

    def multiplex(self):
        """Sends a tenth of the load over HTTP/2, 16 requests at once on a connection."""
        bearer = [("authorization", f"Bearer {self.hot[0]}")]
        kinds = [("200", "/protected/x", bearer, b""), ("200", "/public/x", [], b""), ("401", "/protected/x", [], b""),
                 ("200", "/public/bytes/16384", [], b""), ("200", "/protected/x", bearer, b"y" * 2048)]
        for _ in range(2):
            caller = Multiplexer(self.gateway.port)
            for status, path, fields, body in kinds * max(5, self.options.requests // 10 // len(kinds) // 16 // 2):
                answers = caller.send(16, path, fields, body)
                if answers != {status: 16}:
                    raise Unexpected(f"HTTP/2 {path}: {dict(answers)} in place of {status}")
                self.count("http2", answers.total())
            caller.close()

    def count(self, kind, number=1):
        """Counts requests that were answered as expected."""
        with self.lock:
            self.counts[kind] += number


class Reader(threading.Thread):
    """A caller that sends a fixed number of requests of random kinds."""

    def __init__(self, load, number, requests):
        super().__init__(daemon=True)
        self.load, self.requests, self.chance = load, requests, random.Random(f"{load.options.seed}-{number}")
        self.caller = load.gateway.caller(network(self.chance))

    def run(self):
        self.load.guard(self.send_all)

    def send_all(self):
        """Sends all requests; ends early if another caller has failed."""
        kinds, shares = list(SHARES), list(SHARES.values())
        rare = {kind: share / 1000 for kind, share in RARE.items()}
        for _ in range(self.requests):
            if self.load.failures:
                return
            [kind] = self.chance.choices(kinds, shares)
            for other, share in rare.items():
                kind = other if self.chance.random() < share else kind
            getattr(self, "do_" + kind)()
            self.load.count(kind)

    def ask(self, status, path, method="GET", body=None, **more):
        """Sends a request whose answer must have this status."""
        answer = self.caller.send(method, path, body, timeout=60, **more)
        if answer.status != status:
            raise Unexpected(f"{method} {path}: {answer} in place of {status}")
        return answer

    def person(self):
        """Returns one of the prepared people."""
        return self.chance.choice(self.load.people)

    def bearer(self):
        """Returns an access token of a person."""
        return self.person().sessions[0].bearer

    def do_hot(self):
        """Sends the same foreign token each time."""
        self.ask(200, "/protected/x?page=2", bearer=self.chance.choice(self.load.hot))

    def do_rotation(self):
        """Sends one of many foreign tokens."""
        self.ask(200, "/protected/orders/17", bearer=self.chance.choice(self.load.tokens))

    def do_session(self):
        """Sends an access token of the gateway, sometimes to a route with an assertion."""
        self.ask(200, self.chance.choice(["/protected/x"] * 4 + ["/optional/x", "/signed/x"]), bearer=self.bearer())

    def do_key(self):
        """Sends an API key."""
        self.ask(200, "/protected/x", key=self.chance.choice(self.person().live_keys()).secret)

    def do_role(self):
        """Asks for a resource that requires a role."""
        person = self.person()
        credential = self.chance.choice([{"bearer": person.sessions[0].bearer}, {"key": person.live_keys()[0].secret}])
        self.ask(200, "/lists/7/items", **credential)

    def do_cookie(self):
        """Sends the cookie of a browser."""
        self.ask(200, "/protected/page", headers={"Cookie": "theme=dark; " + self.chance.choice(self.load.cookies)})

    def do_public(self):
        """Asks for a public route."""
        self.ask(200, self.chance.choice(["/public/x"] * 6 + ["/public/a%20b/c.html?q=1&r=%C3%A9", "/optional/x"]),
                 self.chance.choice(["GET"] * 9 + ["HEAD"]))

    def do_verify(self):
        """Asks about a request as nginx, Traefik and Envoy do."""
        status, credential = self.chance.choice([(200, {"bearer": self.load.hot[0]})] * 3 + [
            (200, {"bearer": self.bearer()}), (200, {"key": self.person().live_keys()[0].secret}), (401, {})])
        host, target = f"127.0.0.1:{self.load.gateway.port}", "/protected/x?a=b"
        path, fields = self.chance.choice([
            ("/auth/verify", {"X-Original-Method": "GET", "X-Original-URL": f"http://{host}{target}"}),
            ("/auth/verify", {"X-Forwarded-Method": "GET", "X-Forwarded-Proto": "http", "X-Forwarded-Host": host,
                              "X-Forwarded-Uri": target}),
            (f"/auth/verify{target}", {"X-Forwarded-Proto": "http"})])
        self.ask(status, path, headers=fields | {"X-Doorward-Secret": SECRET}, **credential)

    def do_refusal(self):
        """Sends a request that is refused."""
        status, path, more = self.chance.choice(self.load.refusals)
        self.ask(status, path, **more)

    def do_forged(self):
        """Sends identity headers, which are removed."""
        self.ask(200, "/public/x", headers={"X-Auth-Uid": "u-00000001", "X-Auth-Roles": "admin", "Connection": "X-Auth-Uid"})

    def do_upload(self):
        """Sends a body, with a length or in chunks."""
        size = self.chance.choice([1 << 10] * 8 + [1 << 16] * 3 + [1 << 20])
        if self.chance.random() < 0.3:
            fields, body = {"Transfer-Encoding": "chunked"}, chunked(size, 8192)
        else:
            fields, body = {}, b"y" * size
        self.ask(200, "/protected/upload", "POST", body, bearer=self.load.hot[0], headers=fields)

    def do_download(self):
        """Reads a body, with a length or in chunks."""
        size = self.chance.choice([0] + [1 << 10] * 6 + [1 << 16] * 4 + [1 << 20])
        path = f"{self.chance.choice(['bytes', 'bytes', 'chunks'])}/{size}"
        if self.chance.random() < 0.5:
            self.ask(200, f"/public/{path}")
        else:
            self.ask(200, f"/protected/{path}", bearer=self.load.hot[0])

    def do_own(self):
        """Asks the gateway's own endpoints."""
        self.ask(200, self.chance.choice(["/auth/me", "/auth/sessions", "/auth/apikeys"]), bearer=self.bearer())

    def do_connection(self):
        """Opens a new connection for its request."""
        self.caller.close()
        self.do_hot()

    def do_navigation(self):
        """Opens a page in a browser without a login, and its login page."""
        self.ask(302, "/protected/page", headers={"Accept": "text/html,*/*;q=0.8", "Sec-Fetch-Mode": "navigate"})
        self.ask(200, "/auth/login", headers={"Accept": "text/html,*/*;q=0.8"})

    def do_websocket(self):
        """Opens a WebSocket that echoes some texts."""
        echoing = WebSocket(self.load.gateway.port, "/protected/socket", self.load.hot[0])
        if echoing.status != 101 or not all(echoing.echo(f"text {number}") for number in range(10)):
            raise Unexpected(f"a WebSocket that does not echo: {echoing.status}")
        echoing.close()

    def do_metrics(self):
        """Reads metrics and readiness."""
        if not self.load.gateway.metrics() or self.load.gateway.readiness() != 200:
            raise Unexpected("no metrics, or not ready")


class Multiplexer:
    """A connection with HTTP/2 from its first byte."""

    def __init__(self, port):
        self.port, self.socket = port, socket.create_connection(("127.0.0.1", port), 60)
        self.state = H2Connection(H2Configuration(header_encoding="utf-8"))
        self.state.initiate_connection()

    def send(self, count, path, fields, body):
        """Sends a request so many times at once; returns the number of answers by status. Raises `Unanswered`."""
        for _ in range(count):
            stream = self.state.get_next_available_stream_id()
            head = [(":method", "POST" if body else "GET"), (":path", path), (":scheme", "http"),
                    (":authority", f"127.0.0.1:{self.port}"), *fields]
            self.state.send_headers(stream, head, end_stream=not body)
            if body:
                self.state.send_data(stream, body, end_stream=True)
        statuses = Counter()
        while 0 < count:
            self.socket.sendall(self.state.data_to_send())
            received = self.socket.recv(1 << 16)
            if not received:
                raise Unanswered("HTTP/2: closed before all answers")
            for event in self.state.receive_data(received):
                match event:
                    case ResponseReceived():
                        statuses[dict(event.headers)[":status"]] += 1
                    case DataReceived():
                        self.state.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                    case StreamEnded():
                        count -= 1
                    case StreamReset() | ConnectionTerminated():
                        raise Unanswered(f"HTTP/2: {event}")
        return statuses

    def close(self):
        """Closes the connection."""
        self.state.close_connection()
        self.socket.sendall(self.state.data_to_send())
        self.socket.close()


def chunked(size, piece):
    """Returns a body of this size in chunks."""
    whole, rest = divmod(size, piece)
    chunks = [b"%x\r\n%s\r\n" % (length, b"z" * length) for length in [piece] * whole + [rest] * (rest != 0)]
    return b"".join(chunks) + b"0\r\n\r\n"


def main():
    end_by_exit()
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--binary", type=pathlib.Path, default="target/release/doorward")
    options.add_argument("--requests", type=int, default=40_000, help="to each of the two gateways (%(default)s)")
    options.add_argument("--seed", type=int, default=1)
    options = options.parse_args()
    if not options.binary.is_file():
        sys.exit(f"training: {options.binary} does not exist: cargo build --release --locked builds it")
    for workers, access in ((2, True), (1, False)):
        began = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="doorward-training-", dir=MEMORY if MEMORY.is_dir() else None) as directory:
            load = Load(options, pathlib.Path(directory) / "gateway", workers, access)
            try:
                load.run()
            except (Unexpected, Unanswered, NotStarted) as failure:
                # `NotStarted` contains the log.
                log = "" if isinstance(failure, NotStarted) else f"\nthe end of the gateway's log:\n{load.gateway.log()[-2000:]}"
                sys.exit(f"training: {failure}{log}")
            finally:
                load.gateway.stop()
        print(f"{workers} workers, access log {'on' if access else 'off'}, {time.monotonic() - began:.0f} s: "
              + ", ".join(f"{kind} {count}" for kind, count in sorted(load.counts.items())), flush=True)


if __name__ == "__main__":
    main()
