#!/usr/bin/env python3
"""F-17: a hundred reloads under load, every tenth of a broken file.

Two configurations route one path to two upstreams, each with its own name for the header of the uid: a request that
mixed them would reach one upstream with the other's header.
"""

import signal
import sys
import threading
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from rig import case
from rig.gateway import ROUTES, Gateway
from rig.http import Unanswered
from rig.upstream import Upstream

RELOADS = 100
MIXED = """
[[upstream]]
name = "other"
addresses = ["{address}"]
[[route]]
path = "/mixed/**"
upstream = "other"
require = "authenticated"
[route.identity_headers]
uid = "X-Auth-{name}"
"""


def ask(gateway, bearer, seen, is_over):
    caller = gateway.caller()
    while not is_over.is_set():
        try:
            answer = caller.get("/mixed/x", bearer=bearer)
            names = sorted(name for name in answer.json.get("seen", {}) if name in ("x-auth-a", "x-auth-b"))
            seen[(answer.status, answer.json.get("at"), *names)] += 1
            seen[caller.get("/mixed/x").status] += 1
        except Unanswered as error:
            seen[str(error)] += 1


def body(run):
    upstreams = {name: Upstream(name) for name in "AB"}
    texts = {name: ROUTES + MIXED.replace("{address}", it.address).replace("{name}", name) for name, it in upstreams.items()}
    with run.case(f"{RELOADS} reloads under load", "no request fails or sees two configurations, a broken file changes nothing") as result:
        gateway = Gateway(run.binary, run.fresh("gateway"), routes=texts["A"])
        gateway.start()
        gateway.add_administrator()
        bearer, seen, is_over = gateway.administrator(), Counter(), threading.Event()
        threads = [threading.Thread(target=ask, args=(gateway, bearer, seen, is_over), daemon=True) for _ in range(3)]
        for thread in threads:
            thread.start()
        time.sleep(1)
        memory, descriptors, broken = [], gateway.descriptors(), 0
        for number in range(RELOADS):
            mark = gateway.log_size()
            if number % 10 == 3:
                gateway.write_config("[listen\n")
                broken += 1
            else:
                gateway.configure(routes=texts["AB"[number % 2]])
            gateway.signal(signal.SIGHUP)
            wait_for_line(gateway, mark)
            memory.append(gateway.memory_kib())
        is_over.set()
        for thread in threads:
            thread.join()
        fits = {(200, "A", "x-auth-a"), (200, "B", "x-auth-b"), 401}
        result.expect(set(seen) <= fits, f"answers: {dict(seen)}")
        result.expect(fits <= set(seen), f"not every answer was seen: {dict(seen)}")
        log = gateway.log()
        result.expect(log.count("configuration not reloaded") == broken, "a broken file was not refused")
        result.expect(log.count("configuration reloaded") == RELOADS - broken, "a good file was not read")
        result.figure(f"{sum(seen.values())} requests, {RELOADS - broken} reloads, {broken} refused")
        result.figure(f"memory {memory[9] / 1024:.1f} to {memory[-1] / 1024:.1f} MiB, "
                      f"descriptors {descriptors} to {gateway.descriptors()}")
        result.expect(memory[-1] <= memory[9] * 1.1 + 4096, "memory grows")
        result.expect(gateway.stop() == 0 and gateway.panics() == 0, "it did not end cleanly")


def wait_for_line(gateway, mark):
    end = time.monotonic() + 20
    while "reloaded" not in gateway.log(mark) and time.monotonic() < end:
        time.sleep(0.01)


case.main("F-17", body, seconds=60)
