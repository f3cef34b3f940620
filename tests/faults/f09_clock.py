#!/usr/bin/env python3
"""F-09: the wall clock jumps by an hour, by ten years, and back.

A preloaded library shifts the wall clock of the gateway's process; the monotonic clock is not changed.
"""

import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from rig import case
from rig.disk import Disk
from rig.gateway import Gateway

HOUR_S, TEN_YEARS_S = 3600, 10 * 365 * 86_400
PASSWORD = "Corr3ct-horse"
MORE = """
[tokens]
access_ttl_s = 7200
absolute_ttl_s = 31622400
refresh_ttl_s = 31622400
"""


def add(gateway, name):
    done = gateway.command("account", "add", name, "--identity", f"{name}@example.org", "--name", name,
                           "--password-stdin", stdin=PASSWORD + "\n")
    if done.returncode:
        raise RuntimeError(done.stderr)


def log_in(gateway, name, password=PASSWORD, network="10.1.1.1"):
    return gateway.caller(network).post("/auth/login", {"username": name, "password": password})


def opens(gateway, bearer):
    return gateway.caller().get("/protected/x", bearer=bearer).status


def body(run):
    clock = Disk(run.fresh("clock"), "/store/")
    gateway = Gateway(run.binary, run.fresh("gateway"), more=MORE, environment=clock.environment)
    with run.case("clock jumps", "tokens are judged by the new time, an answer comes to everything, nothing panics") as result:
        gateway.start()
        add(gateway, "anna")
        bearer = log_in(gateway, "anna").json["jwt_token"]
        # Before its own `iat` a token may be refused; one that was verified before is in the cache.
        for name, seconds, old_token in (("+1 h", HOUR_S, {200}), ("-1 h", -HOUR_S, {200, 401}),
                                         ("+10 years", TEN_YEARS_S, {401}), ("back", 0, {200})):
            clock.move_clock(seconds)
            time.sleep(0.3)
            seen = opens(gateway, bearer)
            fresh = log_in(gateway, "anna")
            result.expect(seen in old_token, f"{name}: a token of before is answered with {seen}")
            result.expect(fresh.status == 200, f"{name}: a login is answered with {fresh}")
            if fresh.status == 200:
                result.expect(opens(gateway, fresh.json["jwt_token"]) == 200, f"{name}: a fresh token opens nothing")
            result.figure(f"{name}: {seen} for a token of before, {fresh} for a login")
            # Sessions that expired in those ten years stay ended, so the user logs in again afterwards.
            if seconds == TEN_YEARS_S:
                clock.move_clock(0)
                time.sleep(0.3)
                bearer = log_in(gateway, "anna").json["jwt_token"]
        result.expect(gateway.panics() == 0, "a panic")
    with run.case("clock jumps and guesses", "a lock-out lasts as long as it is set to, whatever the clock does") as result:
        add(gateway, "ben")
        for _ in range(5):
            log_in(gateway, "ben", "wrong-Pw-1")
        locked = log_in(gateway, "ben")
        result.expect(locked.status == 429, f"five wrong passwords: {locked}")
        for seconds in (TEN_YEARS_S, -TEN_YEARS_S):
            clock.move_clock(seconds)
            time.sleep(0.3)
            again = log_in(gateway, "ben")
            wait = int(again.headers.get("retry-after", 0))
            result.expect(again.status == 429, f"the lock-out is gone: {again}")
            result.expect(wait <= 600, f"the lock-out has grown to {wait} s")
            result.figure(f"{seconds:+} s: {again}, Retry-After {wait}")
        clock.move_clock(0)
        result.expect(gateway.stop() == 0, "it did not end cleanly")
        result.expect(gateway.panics() == 0, "a panic")


case.main("F-09", body, seconds=30)
