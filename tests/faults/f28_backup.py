#!/usr/bin/env python3
"""F-28: backups are made while callers write, and restored into another place.

A restored copy must contain everything that was acknowledged before its backup began: every password, membership and
status. Its sessions and one-time tokens have ended, and its API keys are suspended; docs/store.md says why.
"""

import random
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from rig import case
from rig.gateway import Gateway
from rig.ledger import Ledger, network
from rig.mail import MailDirectory
from rig.probes import Probes
from rig.writers import Writer

WRITERS = 4
LEVELS = ("manager", "member", "invitee")


def facts(ledger):
    """Returns every fact that is certain at this moment, with its number of writes, by user and kind."""
    cells = {(it.name, it.uid, what): cell for it in list(ledger.people)
             for what, cell in [("password", it.password), ("status", it.status), *list(it.members.items())]}
    return {name: (next(iter(cell.may_be)), cell.writes) for name, cell in cells.items() if not cell.is_in_doubt()}


def look(restored, before, after, chance, result):
    """Compares the restored store with the facts that were unchanged during the backup; returns their number."""
    caller, root = restored.caller(), restored.administrator()
    steady = {name: value for name, (value, writes) in before.items() if after.get(name) == (value, writes)}
    roles = {uid: set(caller.get(f"/auth/roles?uid={uid}", bearer=root).json.get("roles", []))
             for uid in {uid for _, uid, _ in steady} if uid}
    looks = 0
    for (name, uid, what), value in steady.items():
        # A disabled account has no roles and cannot log in.
        if uid is None or what == "status" or steady.get((name, uid, "status")) != "active":
            continue
        looks += 1
        if what != "password":
            level = next((it for it in LEVELS if f"list-{what}-{it}" in roles[uid]), None)
            result.expect(level == value, f"membership {what} of {name}: {level} in place of {value}")
        else:
            caller.network = network(chance)
            answer = caller.post("/auth/login", {"username": name, "password": value})
            result.expect(answer.status == 200, f"the password of {name}: {answer}")
    return looks


def body(run):
    with run.case("backup and restore while it serves", "a restored copy holds all that was acknowledged before its backup") as result:
        gateway, ledger = Gateway(run.binary, run.fresh("gateway")), Ledger()
        gateway.start()
        gateway.add_administrator()
        tokens = MailDirectory(gateway.mail_directory)
        writers = [Writer(gateway, ledger, tokens, random.Random(f"{run.seed}-{it}"), it) for it in range(WRITERS)]
        is_over = threading.Event()

        def write(writer):
            while not is_over.is_set():
                writer.act()

        threads = [threading.Thread(target=write, args=(it,), daemon=True) for it in writers]
        for thread in threads:
            thread.start()
        time.sleep(4)
        backups = looks = 0
        bearer = gateway.administrator()
        with Probes(gateway, bearer) as probes:
            while backups == 0 or not run.is_over():
                file, before = run.directory / f"backup-{backups}", facts(ledger)
                done = gateway.command("store", "backup", "--to", str(file))
                after = facts(ledger)
                if not result.expect(done.returncode == 0, done.stderr):
                    break
                result.expect(gateway.command("store", "check", "--backup", str(file)).returncode == 0, "the backup is not whole")
                restored = Gateway(run.binary, run.fresh(f"restored-{backups}"))
                done = restored.command("store", "restore", str(file))
                result.expect(done.returncode == 0, f"restore: {done.stderr}")
                restored.start()
                looks += look(restored, before, after, run.chance, result)
                restored.stop()
                result.expect(restored.command("store", "check").returncode == 0, "the restored store is not whole")
                backups += 1
        is_over.set()
        for thread in threads:
            thread.join(30)
        result.figure(f"{backups} backups of up to {len(ledger.people)} people under load, {looks} facts looked at")
        result.figure(f"probe p99 {probes.share_ms(0.99):.0f} ms")
        result.expect(set(probes.allowed) == {200}, f"probe: {dict(probes.allowed)}")
        result.expect(gateway.stop() == 0 and gateway.panics() == 0, "it did not end cleanly")


case.main("F-28", body, seconds=60, seconds_in_gate=10)
