#!/usr/bin/env python3
"""F-25: the reader of standard output blocks, is slow, or is gone."""

import os
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from rig import case
from rig.gateway import Gateway
from rig.probes import Probes

READER_BYTES_A_SECOND = 20_000
# Their records exceed the output queue and the pipe together.
REQUESTS_MIN = 6000


def flood(gateway, seconds):
    """Sends requests with long paths, so that there is much output; returns their number."""
    caller, count, ends = gateway.caller(), 0, time.monotonic() + seconds
    while count < REQUESTS_MIN or time.monotonic() < ends:
        caller.get("/public/" + "l" * 2000)
        count += 1
    return count


def body(run):
    seconds = 3 if run.is_short else 10
    for fault in ("stands still", "is slow", "is gone"):
        with run.case(f"the reader of the output {fault}", "no request waits or fails; lines that are lost are counted") as result:
            reading, writing = os.pipe()
            gateway = Gateway(run.binary, run.fresh(fault.replace(" ", "-")))
            gateway.stdout = writing
            gateway.start()
            os.close(writing)
            is_over, reader = threading.Event(), None
            if fault == "is slow":
                def read(end=reading):
                    while not is_over.is_set():
                        os.read(end, READER_BYTES_A_SECOND // 10)
                        time.sleep(0.1)
                reader = threading.Thread(target=read, daemon=True)
                reader.start()
            if fault == "is gone":
                os.close(reading)
            gateway.add_administrator()
            with Probes(gateway, gateway.administrator()) as probes:
                count = flood(gateway, seconds)
            lost = sum(float(line.split()[-1]) for line in gateway.metrics().splitlines()
                       if line.startswith("doorward_lines_lost_total"))
            result.figure(f"{count} requests, {lost:.0f} lines lost and counted, probe p99 {probes.share_ms(0.99):.0f} ms")
            result.expect(set(probes.allowed) == {200}, f"probe: {dict(probes.allowed)}")
            result.expect(probes.share_ms(0.99) < 250, "requests wait for the reader")
            result.expect(0 < lost, "no line was counted as lost")
            began = time.monotonic()
            gateway.stop(30)
            result.expect(time.monotonic() - began < 10, "it does not end while the reader stands still")
            result.expect(gateway.panics() == 0, "a panic")
            is_over.set()
            if reader:
                # Its descriptor number may be reused soon.
                reader.join()


case.main("F-25", body, seconds=40)
