#!/usr/bin/env python3
"""F-19: SIGTERM under load, with requests, a WebSocket and an event stream open, and with a request that never ends."""

import random
import signal
import socket
import sys
import threading
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from rig import case
from rig.gateway import Gateway
from rig.http import Unanswered
from rig.ledger import Checker, Ledger
from rig.mail import MailDirectory
from rig.sockets import WebSocket
from rig.upstream import Upstream
from rig.writers import Writer, write_until_it_is_gone

DRAIN_MS = 5000


def call(gateway, bearer, seen, since):
    """Sends requests until nothing listens any more; counts the outcomes of requests begun before and after SIGTERM."""
    caller = gateway.caller()
    while True:
        is_new, began = caller.connection is None, time.monotonic()
        try:
            status = caller.send("POST", "/protected/x", b"{}", bearer=bearer, timeout=20).status
        except Unanswered as error:
            status = str(error)
        is_late = bool(since) and since[0] <= began
        seen["after" if is_late else "before", status] += 1
        if is_late and status != 200 and is_new:
            return


def readiness_after(gateway):
    """Returns the status of /readyz within half a second of the signal, which the gateway does not handle at once."""
    until = time.monotonic() + 0.5
    while (status := gateway.readiness()) == 200 and time.monotonic() < until:
        time.sleep(0.01)
    return status


def under_load(run, result):
    upstream = Upstream()
    upstream.habit = "slow"
    gateway = Gateway(run.binary, run.fresh("load"), upstream=upstream.address)
    gateway.start()
    gateway.add_administrator()
    bearer, seen, since = gateway.administrator(), Counter(), []
    threads = [threading.Thread(target=call, args=(gateway, bearer, seen, since), daemon=True) for _ in range(16)]
    for thread in threads:
        thread.start()
    time.sleep(2.2)
    since.append(time.monotonic())
    gateway.signal(signal.SIGTERM)
    ready = readiness_after(gateway)
    code = gateway.process.wait(60)
    took = time.monotonic() - since[0]
    for thread in threads:
        thread.join(30)
    before = Counter({status: count for (moment, status), count in seen.items() if moment == "before"})
    result.figure(f"{before[200]} requests begun before, {before.total() - before[200]} of them failed; exit {code} after {took:.1f} s")
    result.expect(set(before) == {200}, f"in flight: {dict(before)}")
    result.expect(code == 0, f"exit {code}")
    result.expect(took < 4, f"{took:.1f} s for requests of 1.5 s")
    result.expect(ready in (503, None), f"ready {ready} after SIGTERM")


def with_streams(run, result):
    upstream = Upstream()
    gateway = Gateway(run.binary, run.fresh("streams"), upstream=upstream.address, more=f"[limits]\ndrain_timeout_ms = {DRAIN_MS}\n")
    gateway.start()
    gateway.add_administrator()
    bearer = gateway.administrator()
    held = WebSocket(gateway.port, "/protected/socket", bearer)
    result.expect(held.status == 101 and held.echo("hello"), "no WebSocket")
    began = time.monotonic()
    gateway.signal(signal.SIGTERM)
    try:
        gateway.process.wait(DRAIN_MS / 1000 + 10)
    except Exception:
        gateway.kill()
    took = time.monotonic() - began
    result.figure(f"a WebSocket open: over after {took:.1f} s of a drain of {DRAIN_MS / 1000:.0f} s")
    result.expect(took < DRAIN_MS / 1000 + 1, f"{took:.1f} s")
    held.close()


def twice(run, result):
    upstream = Upstream()
    upstream.habit = "hang"
    for second in (signal.SIGTERM, signal.SIGINT):
        gateway = Gateway(run.binary, run.fresh(f"twice-{second}"), upstream=upstream.address)
        gateway.start()
        with socket.create_connection(("127.0.0.1", gateway.port)) as held:
            held.sendall(b"GET /public/x HTTP/1.1\r\nHost: a\r\n\r\n")
            time.sleep(0.5)
            gateway.signal(signal.SIGTERM)
            time.sleep(0.5)
            began = time.monotonic()
            gateway.signal(second)
            gateway.process.wait(20)
            took = time.monotonic() - began
            result.figure(f"{second.name} after SIGTERM: over after {took:.2f} s")
            result.expect(took < 2, f"{second.name}: {took:.1f} s")


def with_writes(run, result):
    gateway, ledger = Gateway(run.binary, run.fresh("writes")), Ledger()
    gateway.start()
    gateway.add_administrator()
    tokens = MailDirectory(gateway.mail_directory)
    writers = [Writer(gateway, ledger, tokens, random.Random(f"{run.seed}-{it}"), it) for it in range(4)]
    codes = []
    for _ in range(2 if run.is_short else 10):
        write_until_it_is_gone(writers, 2, lambda: codes.append(gateway.stop()))
        gateway.start()
        checker = Checker(ledger, gateway, gateway.caller(), run.chance)
        for person in ledger.people:
            checker.check(person)
        for writer in writers:
            writer.caller.close()
    for found in ledger.lost + ledger.wrong + ledger.undead:
        result.expect(False, found)
    result.expect(set(codes) == {0}, f"exits {codes}")
    result.figure(f"{len(codes)} stops, {ledger.writes()} writes acknowledged, {len(ledger.lost) + len(ledger.wrong)} lost or undone")
    gateway.stop()


def body(run):
    with run.case("SIGTERM under load", "requests in flight end with their answer, readiness goes, exit 0 at once after") as result:
        under_load(run, result)
    with run.case("SIGTERM with a WebSocket open", "over within the drain's time") as result:
        with_streams(run, result)
    with run.case("a second signal", "it ends at once") as result:
        twice(run, result)
    with run.case("SIGTERM while it writes", "exit 0, and what was acknowledged is there") as result:
        with_writes(run, result)


case.main("F-19", body, seconds=60)
