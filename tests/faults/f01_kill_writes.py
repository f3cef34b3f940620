#!/usr/bin/env python3
"""F-01: the gateway is killed by SIGKILL at any moment while six callers write.

After each start everything that they wrote is compared with the acknowledgements: passwords, sessions, refresh tokens,
API keys, memberships, statuses, one-time tokens.
"""

import random
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from rig import case
from rig.gateway import Gateway
from rig.ledger import Checker, Ledger
from rig.mail import MailDirectory
from rig.writers import Writer, write_until_it_is_gone

WRITERS = 6
START_MAX_S = 5
# Enough users for one writer: the others are checked on the way and at the end.
PEOPLE_A_WRITER = 6


def body(run):
    with run.case("kill -9 while it writes", "no acknowledged write is lost, nothing revoked or spent comes back") as result:
        gateway, ledger = Gateway(run.binary, run.fresh("gateway")), Ledger()
        starts = [gateway.start()]
        gateway.add_administrator()
        tokens = MailDirectory(gateway.mail_directory)
        writers = [Writer(gateway, ledger, tokens, random.Random(f"{run.seed}-{it}"), it) for it in range(WRITERS)]
        checker = Checker(ledger, gateway, gateway.caller(), run.chance)
        rounds = 0
        while not run.is_over():
            # The first round creates users to work with.
            pause = 4 if rounds == 0 else run.chance.uniform(0.1, 2)
            write_until_it_is_gone(writers, pause, gateway.kill)
            starts.append(gateway.start())
            checker.caller.close()
            for person in [it for it in ledger.people if it.is_touched]:
                checker.check(person)
            for writer in writers:
                writer.caller.close()
                writer.people = writer.people[-PEOPLE_A_WRITER:]
            rounds += 1
        for person in ledger.people:
            checker.check(person, is_thorough=True)
        gateway.stop()
        result.figure(f"{rounds} kills, {ledger.writes()} writes acknowledged, {len(ledger.people)} people")
        result.figure(f"{len(ledger.lost)} lost, {len(ledger.wrong)} undone, start at most {max(starts):.2f} s")
        for found in ledger.lost + ledger.wrong + ledger.undead:
            result.expect(False, found)
        result.expect(max(starts) < START_MAX_S, "a start took too long")
        result.expect(gateway.command("store", "check").returncode == 0, "store check finds damage")
        result.expect(gateway.panics() == 0, "a panic")


case.main("F-01", body, seconds=300, seconds_in_gate=40)
