#!/usr/bin/env python3
"""F-21: 256 MiB for everything, and callers that hold unfinished heads.

Needs root and a writable memory controller of cgroups (version 1 or 2).
"""

import os
import socket
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from rig import case
from rig.case import Skip
from rig.gateway import Gateway

MEMORY_MIB = 256
HALF_HEAD = b"GET /public/x HTTP/1.1\r\nHost: a\r\nX-A: " + b"a" * 7000 + b"\r\nX-B: " + b"b" * 7000 + b"\r\n"


def control_group():
    """Returns the directory of a new control group, and its files for the limit and the peak."""
    for root, limit, peak in (("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.max_usage_in_bytes"),
                              ("/sys/fs/cgroup", "memory.max", "memory.peak")):
        group = Path(root) / f"doorward-{os.getpid()}"
        try:
            group.mkdir()
            if (group / limit).exists():
                (group / limit).write_text(str(MEMORY_MIB << 20))
                return group, group / peak
            group.rmdir()
        except OSError:
            continue
    raise Skip("no memory controller of cgroups that may be written (root is needed)")


def body(run):
    with run.case(f"{MEMORY_MIB} MiB and unfinished heads", "new work is refused before the system kills it") as result:
        group, peak = control_group()
        gateway = Gateway(run.binary, run.fresh("gateway"),
                          before=lambda: (group / "cgroup.procs").write_text(str(os.getpid())))
        try:
            gateway.start()
            held = []
            for _ in range(9000):
                if not gateway.is_running():
                    break
                try:
                    connection = socket.create_connection(("127.0.0.1", gateway.port), 2)
                    connection.sendall(HALF_HEAD)
                    held.append(connection)
                except OSError:
                    break
            time.sleep(1)
            alive = gateway.is_running()
            used = int(peak.read_text()) >> 20 if peak.exists() else 0
            result.figure(f"{len(held)} connections, at most {used} MiB")
            result.expect(alive, "the system killed it")
            result.expect(not alive or gateway.admin_status("/healthz") == 200, "the admin listener does not answer")
            for connection in held:
                connection.close()
            gateway.stop() if alive else None
        finally:
            gateway.kill()
            time.sleep(0.2)
            group.rmdir()


case.main("F-21", body, seconds=30)
