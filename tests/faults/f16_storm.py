#!/usr/bin/env python3
"""F-16: two hundred callers log in continuously, half of them with wrong passwords."""

import os
import random
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from rig import case
from rig.gateway import Gateway
from rig.http import Unanswered
from rig.ledger import network
from rig.probes import Probes

PEOPLE = 20
PASSWORD = "Corr3ct-horse"
HASH_KIB = 19 * 1024


def storm(gateway, run, callers, ends, answers):
    """Callers that log in until the time is over; status, code and duration of each answer are recorded."""
    def log_in(chance):
        while time.monotonic() < ends:
            is_right, began = chance.random() < 0.5, time.monotonic()
            name = f"s{chance.randrange(PEOPLE)}" if is_right or chance.random() < 0.5 else f"nobody{chance.randrange(10**6)}"
            try:
                answer = gateway.caller(network(chance)).post(
                    "/auth/login", {"username": name, "password": PASSWORD if is_right else "wrong-Pw-1"}, timeout=30)
                answers.append((f"{answer.status}", time.monotonic() - began))
            except Unanswered as error:
                answers.append((str(error), time.monotonic() - began))
            # Moderate callers: 200 of them send some hundred requests per second.
            time.sleep(chance.uniform(0.1, 0.6))

    threads = [threading.Thread(target=log_in, args=(random.Random(f"{run.seed}-{it}"),), daemon=True) for it in range(callers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def body(run):
    callers = 60 if run.is_short else 200
    with run.case(f"{callers} callers log in at once", "what does not fit is refused soon, all other requests go on") as result:
        gateway = Gateway(run.binary, run.fresh("gateway"))
        gateway.start()
        gateway.add_administrator()
        for number in range(PEOPLE):
            gateway.command("account", "add", f"s{number}", "--identity", f"s{number}@example.org", "--name", "S",
                            "--password-stdin", stdin=PASSWORD + "\n")
        bearer, memory, answers = gateway.administrator(), gateway.memory_kib(), []
        with Probes(gateway, bearer) as before:
            time.sleep(3)
        with Probes(gateway, bearer) as during:
            storm(gateway, run, callers, time.monotonic() + run.seconds, answers)
        grown = gateway.memory_kib() - memory
        by_status = {}
        for status, seconds in answers:
            by_status.setdefault(status, []).append(seconds)
        for status, times in sorted(by_status.items()):
            result.figure(f"{status}: {len(times)}, at most {max(times):.1f} s")
        result.figure(f"probe p99 {before.share_ms(0.99):.1f} ms before, {during.share_ms(0.99):.1f} ms in the storm")
        result.figure(f"{grown / 1024:.0f} MiB more")
        result.expect(set(by_status) <= {"200", "401", "429", "503"}, f"answers: {sorted(by_status)}")
        result.expect("200" in by_status, "no right password got in")
        result.expect(set(during.allowed) == {200}, f"probe: {dict(during.allowed)}")
        # One hashing thread less than processors, but at least one; the rest is for connections and the allocator.
        permits = max(1, len(os.sched_getaffinity(0)) - 1)
        result.expect(grown <= permits * HASH_KIB + 64 * 1024, f"{grown} KiB more")
        result.expect(gateway.stop() == 0 and gateway.panics() == 0, "it did not end cleanly")


case.main("F-16", body, seconds=60, seconds_in_gate=15)
