#!/usr/bin/env python3
"""F-10: ten thousand connections that are idle after their answer."""

import resource
import socket
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from rig import case
from rig.case import Skip
from rig.gateway import Gateway
from rig.probes import Probes

CONNECTIONS = 10_000
MEMORY_MAX_KIB = 160 * 1024
MORE = "[limits]\nconnections_max = 10500\n"


def allow(descriptors):
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, max(descriptors, resource.getrlimit(resource.RLIMIT_NOFILE)[1])))
    except (ValueError, OSError) as error:
        raise Skip(f"{descriptors} descriptors need root or a higher limit (ulimit -n)") from error


def body(run):
    with run.case("10,000 idle connections", "all are held, others are served as before, 16 KiB each") as result:
        allow(CONNECTIONS + 1000)
        gateway = Gateway(run.binary, run.fresh("gateway"), more=MORE, before=lambda: allow(20_000))
        gateway.start()
        gateway.add_administrator()
        bearer = gateway.administrator()
        with Probes(gateway, bearer) as before:
            time.sleep(4)
        memory, held = gateway.memory_kib(), []
        for _ in range(CONNECTIONS):
            connection = socket.create_connection(("127.0.0.1", gateway.port), 10)
            connection.sendall(b"GET /public/x HTTP/1.1\r\nHost: a\r\n\r\n")
            held.append(connection)
        answered = sum(connection.recv(4096).startswith(b"HTTP/1.1 200") for connection in held)
        with Probes(gateway, bearer) as during:
            processor = gateway.processor_s()
            time.sleep(6)
            processor = (gateway.processor_s() - processor) / 6
        grown = gateway.memory_kib() - memory
        result.figure(f"{answered} held, {grown / answered:.1f} KiB each, {processor:.3f} of a processor with two probes")
        result.figure(f"probe p99 {before.share_ms(0.99):.1f} ms before, {during.share_ms(0.99):.1f} ms with them")
        result.expect(answered == CONNECTIONS, "not all were answered")
        result.expect(grown <= MEMORY_MAX_KIB, f"{grown} KiB for them")
        result.expect(set(during.allowed) == {200}, f"probe: {dict(during.allowed)}")
        result.expect(during.share_ms(0.99) <= max(20, 2 * before.share_ms(0.99)), "the probe is slower than twice")
        for connection in held:
            connection.close()
        result.expect(gateway.stop() == 0 and gateway.panics() == 0, "it did not end cleanly")


case.main("F-10", body, seconds=30)
