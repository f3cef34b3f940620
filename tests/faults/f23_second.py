#!/usr/bin/env python3
"""F-23: a second gateway is started on the store of a running one."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from rig import case
from rig.gateway import Gateway, NotStarted
from rig.probes import Probes

TRIES = 5


def body(run):
    with run.case("a second process on one store", "it ends and says why; the first is not harmed") as result:
        first = Gateway(run.binary, run.fresh("first"))
        first.start()
        first.add_administrator()
        bearer = first.administrator()
        second = Gateway(run.binary, run.fresh("second"))
        second.write_config(second.config.read_text().replace(f"{second.directory}/store", str(first.store)))
        with Probes(first, bearer) as probes:
            for _ in range(TRIES):
                try:
                    second.start(20)
                    result.expect(False, "the second one started")
                    second.kill()
                except NotStarted as error:
                    result.expect(error.code == 1, f"exit {error.code}")
                    result.expect(str(first.store) in error.text, f"it does not name the store: {error.text[-200:]}")
            made = first.caller().post("/auth/apikeys", {"name": "k"}, bearer=bearer)
        result.expect(made.status == 201, f"a write of the first: {made}")
        result.expect(set(probes.allowed) == {200}, f"reads of the first: {dict(probes.allowed)}")
        result.figure(f"{TRIES} starts refused, {probes.allowed[200]} reads and a write of the first went on")
        result.expect(first.stop() == 0 and first.panics() == 0, "the first did not end cleanly")
        result.expect(first.command("store", "check").returncode == 0, "store check finds damage")


case.main("F-23", body, seconds=20)
