#!/usr/bin/env python3
"""F-20: a thousand connections with a limit of 256 descriptors."""

import resource
import socket
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from rig import case
from rig.gateway import Gateway
from rig.http import Unanswered

DESCRIPTORS = 256


def body(run):
    with run.case(f"1,000 connections and {DESCRIPTORS} descriptors", "no spinning; store, probes and commands go on; soon well again") as result:
        gateway = Gateway(run.binary, run.fresh("gateway"),
                          before=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (DESCRIPTORS, DESCRIPTORS)))
        gateway.start()
        gateway.add_administrator()
        bearer, kept, held = gateway.administrator(), gateway.caller("10.9.9.9"), []
        kept.get("/protected/x", bearer=bearer)
        for _ in range(1000):
            try:
                connection = socket.create_connection(("127.0.0.1", gateway.port), 0.3)
                connection.sendall(b"GET /public/x HTTP/1.1\r\nHost: a\r\n\r\n")
                held.append(connection)
            except OSError:
                pass
        time.sleep(1)
        processor = gateway.processor_s()
        time.sleep(4)
        spent = (gateway.processor_s() - processor) / 4
        result.expect(spent <= 0.2, f"{spent:.2f} of a processor while nobody asks")
        result.expect(gateway.admin_status("/healthz") == 200, "the admin listener does not answer")
        result.expect(gateway.command("account", "list", timeout=20).returncode == 0, "a command gets no answer")
        made = 0
        for _ in range(5):
            try:
                made += kept.post("/auth/apikeys", {"name": "k"}, bearer=bearer).status == 201
            except Unanswered:
                pass
        for connection in held:
            connection.close()
        began, status = time.monotonic(), None
        while status != 200 and time.monotonic() - began < 10:
            try:
                status = gateway.caller().get("/protected/x", bearer=bearer, timeout=2).status
            except Unanswered:
                time.sleep(0.02)
        relief = time.monotonic() - began
        result.figure(f"{len(held)} connected, {gateway.descriptors()} descriptors after, {spent:.2f} of a processor meanwhile")
        result.figure(f"{made} of 5 writes meanwhile, first answer {relief:.2f} s after relief")
        result.expect(relief <= 1, f"{relief:.1f} s until the first answer")
        result.expect(gateway.stop() == 0 and gateway.panics() == 0, "it did not end cleanly")
        result.expect(gateway.command("store", "check").returncode == 0, "store check finds damage")


case.main("F-20", body, seconds=30)
