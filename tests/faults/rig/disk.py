"""A disk that fails and a clock that jumps, for one process: a preloaded library (disk.c) and its switches."""

import mmap
import pathlib
import shutil
import struct
import subprocess

from rig.case import Skip

SYNC_EIO, WRITE_EIO, SYNC_SLOW, WRITE_ENOSPC, WRITE_SHORT, OPEN_EROFS = 1, 2, 4, 8, 16, 32
CONTROL_BYTES = 4096


class Disk:
    """Switches of the preloaded library; `environment` is for the gateway's process."""

    def __init__(self, directory, path_piece):
        if not shutil.which("cc"):
            raise Skip("there is no C compiler")
        directory.mkdir(parents=True, exist_ok=True)
        library, control = directory / "disk.so", directory / "disk.control"
        source = pathlib.Path(__file__).with_name("disk.c")
        subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True)
        control.write_bytes(bytes(CONTROL_BYTES))
        with open(control, "r+b") as file:
            self.control = mmap.mmap(file.fileno(), CONTROL_BYTES)
        self.environment = {"LD_PRELOAD": str(library), "RIG_CONTROL": str(control), "RIG_PATH": path_piece}

    def fail(self, mode, *, delay_ms=0, count=0):
        """Makes operations fail or wait from now on; `count` of them, or all."""
        self.control[4:16] = struct.pack("iii", delay_ms, count, 0)
        self.control[0:4] = struct.pack("i", mode)

    def heal(self):
        """Ends the fault, and returns how many operations had failed or waited."""
        self.control[0:4] = struct.pack("i", 0)
        return struct.unpack("i", self.control[12:16])[0]

    def move_clock(self, seconds):
        """Sets the process's wall clock this many seconds off the machine's."""
        self.control[16:24] = struct.pack("l", seconds)
