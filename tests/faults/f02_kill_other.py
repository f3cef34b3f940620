#!/usr/bin/env python3
"""F-02: the gateway is killed by SIGKILL while it starts, and while it makes a backup under load.

After each kill a complete start must find everything acknowledged, and every backup under its final name must be
complete.
"""

import random
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from rig import case
from rig.gateway import Gateway
from rig.ledger import Checker, Ledger
from rig.mail import MailDirectory
from rig.writers import Writer, write_until_it_is_gone

WRITERS = 4


def look(result, ledger, gateway, moment):
    for found in ledger.lost + ledger.wrong + ledger.undead:
        result.expect(False, found)
    result.expect(gateway.panics() == 0, f"a panic {moment}")


def check_all(gateway, ledger, run):
    checker = Checker(ledger, gateway, gateway.caller(), run.chance)
    for person in ledger.people:
        checker.check(person)


def while_it_starts(run, gateway, ledger, result):
    """Kills it from 1 ms after its launch up to slightly more than a complete start takes."""
    whole, kills = [gateway.start()], 0
    gateway.kill()
    began = time.monotonic()
    while time.monotonic() - began < run.seconds / 2:
        gateway.launch()
        time.sleep(run.chance.uniform(0.001, 1.2 * whole[-1]))
        gateway.kill()
        kills += 1
        if kills % 10 == 0:
            whole.append(gateway.start())
            check_all(gateway, ledger, run)
            gateway.kill()
    whole.append(gateway.start())
    check_all(gateway, ledger, run)
    result.figure(f"{kills} kills, {len(ledger.people)} people looked at after every tenth, "
                  f"a whole start at most {max(whole):.2f} s")
    look(result, ledger, gateway, "at a start")


def while_it_backs_up(run, gateway, ledger, writers, result):
    """Requests backups by command while callers write, and kills the gateway at a random moment."""
    kills, began, backups = 0, time.monotonic(), gateway.store / "backup"
    while time.monotonic() - began < run.seconds / 2:
        asking = threading.Thread(target=gateway.command, args=("store", "backup"), daemon=True)
        asking.start()
        write_until_it_is_gone(writers, run.chance.uniform(0.02, 0.6), gateway.kill)
        asking.join(30)
        gateway.start()
        kills += 1
        check_all(gateway, ledger, run)
        for writer in writers:
            writer.caller.close()
    named = sorted(backups.glob("doorward-*.backup")) if backups.is_dir() else []
    for file in named:
        done = gateway.command("store", "check", "--backup", str(file))
        result.expect(done.returncode == 0, f"{file.name} is damaged: {done.stderr}")
    result.figure(f"{kills} kills, {len(named)} backups with a name, all of them whole" if not result.faults else "")
    look(result, ledger, gateway, "in a backup")


def body(run):
    gateway, ledger = Gateway(run.binary, run.fresh("gateway")), Ledger()
    gateway.start()
    gateway.add_administrator()
    tokens = MailDirectory(gateway.mail_directory)
    writers = [Writer(gateway, ledger, tokens, random.Random(f"{run.seed}-{it}"), it) for it in range(WRITERS)]
    write_until_it_is_gone(writers, 4, gateway.kill)
    for writer in writers:
        writer.caller.close()
    with run.case("kill -9 while it starts", "the next start finds all that was acknowledged") as result:
        while_it_starts(run, gateway, ledger, result)
    with run.case("kill -9 while it makes a backup", "nothing is lost, and a backup with a name is whole") as result:
        while_it_backs_up(run, gateway, ledger, writers, result)
    gateway.stop()


case.main("F-02", body, seconds=120, seconds_in_gate=24)
