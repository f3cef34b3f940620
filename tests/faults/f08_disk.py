#!/usr/bin/env python3
"""F-08: the disk of the store is full, fails on writes or on sync, is read-only, or takes 2 s to sync.

A preloaded library (rig/disk.c) makes the operations fail, so neither a mount nor a privilege is needed. During the
fault one caller writes, one reads with a token, one sends requests without any; refused writes must not be in force,
now or later.
"""

import random
import sys
import threading
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from rig import case, disk
from rig.gateway import Gateway
from rig.http import Unanswered
from rig.ledger import Checker, Ledger, is_done, is_unknown
from rig.mail import MailDirectory
from rig.probes import Probes
from rig.writers import Writer, write_until_it_is_gone

FAULTS = {
    "full (ENOSPC on write)": disk.WRITE_ENOSPC,
    "EIO on write": disk.WRITE_EIO,
    "EIO on sync": disk.SYNC_EIO,
    "half of each write": disk.WRITE_SHORT,
}
HEAL_MAX_S = 10
START_MAX_S = 30
KINDS = ["create_key", "create_key", "rotate_key", "revoke_key", "set_member", "set_member", "end_member", "log_out", "refresh",
         "log_in", "register", "change_password"]


class Bench:
    """A gateway on a faulty disk, with users and writers."""

    def __init__(self, run, name):
        self.run, self.disk = run, disk.Disk(run.fresh(f"{name}-disk"), "/store/")
        self.gateway, self.ledger = Gateway(run.binary, run.fresh(name), environment=self.disk.environment), Ledger()
        self.gateway.start()
        self.gateway.add_administrator()
        tokens = MailDirectory(self.gateway.mail_directory)
        self.writers = [Writer(self.gateway, self.ledger, tokens, random.Random(f"{run.seed}-{it}"), it, KINDS)
                        for it in range(3)]
        write_until_it_is_gone(self.writers, 3, lambda: None)
        self.bearer = self.gateway.administrator()
        self.checker = Checker(self.ledger, self.gateway, self.gateway.caller(), run.chance)

    def write_for(self, seconds):
        """Runs the writers, which continue after failed answers; returns the answers by status and code."""
        before, acknowledged, ends = self.ledger.answers.copy(), self.ledger.writes(), time.monotonic() + seconds

        def write(writer):
            while time.monotonic() < ends:
                try:
                    writer.act()
                except Unanswered:
                    writer.caller.close()
                # Requests that fail immediately are not repeated a thousand times per second.
                time.sleep(0.02)

        threads = [threading.Thread(target=write, args=(it,), daemon=True) for it in self.writers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(seconds + 60)
        failed = Counter()
        for text, count in (self.ledger.answers - before).items():
            failed[text.split(": ", 1)[1]] += count
        return self.ledger.writes() - acknowledged, failed

    def heal(self):
        """Ends the fault; returns the seconds until a write is acknowledged, `None` if that takes too long."""
        self.disk.heal()
        began = time.monotonic()
        caller, person = self.gateway.caller(), self.ledger.people[0]
        while time.monotonic() - began < 2 * HEAL_MAX_S:
            try:
                level = self.run.chance.choice(["invitee", "member"])
                answer = caller.put(f"/auth/members/list/heal/{person.uid}", {"level": level}, bearer=self.bearer)
                if is_done(answer):
                    return time.monotonic() - began
            except Unanswered:
                pass
            time.sleep(0.05)
        return None

    def check_all(self):
        """Compares every user with the ledger."""
        for person in self.ledger.people:
            self.checker.check(person)

    def look(self, result):
        """Records everything that differs from the acknowledgements."""
        for found in self.ledger.lost + self.ledger.wrong + self.ledger.undead:
            result.expect(False, found)
        result.expect(self.gateway.panics() == 0, "a panic")


def failing(run, name, mode, result):
    """A disk that fails for some seconds, heals, and keeps its contents after a kill."""
    bench = Bench(run, name)
    with Probes(bench.gateway, bench.bearer) as probes:
        bench.disk.fail(mode)
        done, failed = bench.write_for(3 if run.is_short else 8)
        hits = bench.disk.heal()
        healed = bench.heal()
        bench.check_all()
    result.expect(hits, "no operation failed, so nothing was shown")
    result.figure(f"{done} writes acknowledged and {failed.total()} refused meanwhile")
    result.expect(healed is not None and healed <= HEAL_MAX_S, f"no write was taken {2 * HEAL_MAX_S} s after it healed")
    result.figure(f"healed after {healed:.1f} s" if healed is not None else "not healed")
    unclean = {text: count for text, count in failed.items() if not text.startswith(("503", "429"))}
    # A later write may miss what a refused one did not do (an ended session, a missing key).
    unclean = {text: count for text, count in unclean.items() if text.startswith("5")}
    result.expect(not unclean, f"not a clean refusal: {unclean}")
    reads = probes.allowed
    result.figure(f"{reads[200]} of {reads.total()} reads answered")
    result.expect(set(reads) <= {200, 503} and 0.9 * reads.total() <= reads[200], f"reads: {dict(reads)}")
    result.expect(set(probes.refused) <= {401, 503}, f"without a token: {dict(probes.refused)}")
    bench.gateway.kill()
    bench.gateway.start()
    bench.checker.caller.close()
    bench.check_all()
    bench.look(result)
    bench.gateway.stop()
    result.expect(bench.gateway.command("store", "check").returncode == 0, "store check finds damage")


def slow_sync(run, result):
    """A sync of 2 s: reads must not wait for it."""
    bench = Bench(run, "slow")
    with Probes(bench.gateway, bench.bearer) as probes:
        bench.disk.fail(disk.SYNC_SLOW, delay_ms=2000)
        done, failed = bench.write_for(6 if run.is_short else 12)
        bench.disk.heal()
    bench.heal()
    bench.check_all()
    bench.look(result)
    result.figure(f"{done} writes acknowledged, {failed.total()} refused, reads p99 {probes.share_ms(0.99):.0f} ms")
    result.expect(set(probes.allowed) == {200}, f"reads: {dict(probes.allowed)}")
    result.expect(probes.share_ms(0.99) < 500, "reads wait for the disk")
    bench.gateway.stop()


def refused_is_not_in_force(run, result):
    """A grant and a revocation that are refused with 503 change nothing: neither at once, nor after healing, nor after
    a kill.
    """
    seen = Counter()
    for name, mode in FAULTS.items():
        if mode == disk.WRITE_SHORT:
            continue
        bench = Bench(run, f"refused-{mode}")
        writer = bench.writers[0]
        person = next(it for it in writer.people if it.live_sessions() and it.status.is_sure("active"))
        bearer = person.live_sessions()[-1].bearer
        caller = bench.gateway.caller()
        key = caller.post("/auth/apikeys", {"name": "k"}, bearer=bearer).json
        bench.disk.fail(mode)
        granted = caller.put(f"/auth/members/list/77/{person.uid}", {"level": "member"}, bearer=bench.bearer)
        at_once = caller.get("/lists/77/x", bearer=bearer).status
        revoked = caller.send("DELETE", f"/auth/apikeys/{key['id']}", bearer=bearer)
        # A revocation with unknown outcome may be in force; a grant may not, until its outcome is known.
        result.expect(at_once in (403, 503), f"{name}: a grant answered {granted} opens its route with {at_once}")
        bench.heal()
        time.sleep(1)
        if not is_unknown(granted) and not is_done(granted):
            later = caller.get("/lists/77/x", bearer=bearer).status
            result.expect(later == 403, f"{name}: a grant that was refused opens its route after healing ({later})")
        if not is_unknown(revoked) and not is_done(revoked):
            later = caller.get("/protected/x", key=key["apikey"]).status
            result.expect(later == 200, f"{name}: a revocation that was refused counts after healing ({later})")
        first = caller.get("/lists/77/x", bearer=bearer).status
        bench.gateway.kill()
        bench.gateway.start()
        caller.close()
        second = caller.get("/lists/77/x", bearer=bearer).status
        result.expect(first == second, f"{name}: {first} before a kill and {second} after it")
        seen[f"{granted} {revoked}"] += 1
        bench.gateway.stop()
    result.figure("answers to grant and revocation: " + ", ".join(f"{text} ({count})" for text, count in seen.items()))


def starting(run, result):
    """A start on a disk that cannot be written: the gateway answers requests that need no write, or ends with a reason;
    and is ready once it can write.
    """
    for name, mode in (("full", disk.WRITE_ENOSPC), ("read-only", disk.WRITE_EIO | disk.OPEN_EROFS)):
        bench = Bench(run, f"start-{name}")
        gateway = bench.gateway
        gateway.stop()
        bench.disk.fail(mode)
        gateway.launch()
        ends = time.monotonic() + START_MAX_S
        while gateway.is_running() and gateway.readiness() is None and time.monotonic() < ends:
            time.sleep(0.05)
        if not gateway.is_running():
            result.expect(gateway.process.returncode == 1, f"{name}: exit {gateway.process.returncode}")
            result.figure(f"{name}: refuses to start")
            bench.disk.heal()
            gateway.start()
        else:
            read = gateway.caller().get("/protected/x", bearer=bench.bearer)
            write = gateway.caller().post("/auth/apikeys", {"name": "k"}, bearer=bench.bearer)
            result.figure(f"{name}: serves, {read.status} for a read and {write} for a write")
            result.expect(read.status == 200 and write.status == 503, f"{name}: {read} for a read, {write} for a write")
        healed = bench.heal()
        result.expect(healed is not None and healed <= HEAL_MAX_S, f"{name}: no write is taken after it healed")
        bench.checker.caller.close()
        bench.check_all()
        bench.look(result)
        gateway.stop()


def body(run):
    promise = "reads go on, refused writes are clean and not in force, it heals by itself, nothing acknowledged is lost"
    for number, (name, mode) in enumerate(FAULTS.items()):
        with run.case(f"disk: {name}", promise) as result:
            failing(run, f"fault-{number}", mode, result)
    with run.case("disk: a write that was refused", "what was answered with 503 is not in force") as result:
        refused_is_not_in_force(run, result)
    with run.case("disk: a sync takes 2 s", "reads do not wait for it") as result:
        slow_sync(run, result)
    with run.case("disk: full or read-only at the start", "a clear word or a start, and all is there afterwards") as result:
        starting(run, result)


case.main("F-08", body, seconds=120)
