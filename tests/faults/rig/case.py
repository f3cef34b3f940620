"""The frame of a script: its arguments, a directory of its own, one line for each case, and the exit status.

A line reads `F-01 FAULT | PROMISE | FIGURES | ok`, or ends in `NOT OK: why`. Exit status: 0 all promises kept, 1 at
least one broken, 77 skipped (the last line says why).
"""

import argparse
import pathlib
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback

SKIPPED = 77


class Skip(Exception):
    """This machine cannot produce the case; the text says what is missing."""


class Case:
    """One fault, one promise, the measured figures, and the violations."""

    def __init__(self, fault, promise):
        self.fault, self.promise = fault, promise
        self.figures, self.faults = [], []

    def figure(self, text):
        """Adds a figure to the line."""
        self.figures.append(text)

    def expect(self, holds, otherwise):
        """Records a violation."""
        if not holds:
            self.faults.append(str(otherwise))
        return holds


class Run:
    """The inputs of a script: the binary, a fresh directory, a seeded random generator, and its time limit."""

    def __init__(self, name, options, directory):
        self.name, self.binary, self.directory = name, options.binary, directory
        self.seed, self.seconds, self.is_short = options.seed, options.seconds, options.gate
        self.chance = random.Random(options.seed)
        self.began, self.has_failed = time.monotonic(), False

    def is_over(self):
        """Whether the time for rounds is over."""
        return self.seconds < time.monotonic() - self.began

    def fresh(self, name):
        """Returns a directory that does not exist yet."""
        return self.directory / name

    def case(self, fault, promise):
        """Begins a case; used in a `with` block, at the end of which its line is printed."""
        return _Shown(self, Case(fault, promise))


class _Shown:
    def __init__(self, run, case):
        self.run, self.case = run, case

    def __enter__(self):
        return self.case

    def __exit__(self, kind, error, trace):
        case = self.case
        if kind is Skip:
            print(f"{self.run.name} {case.fault} | {case.promise} | skipped: {error}", flush=True)
            return True
        if error is not None and not isinstance(error, KeyboardInterrupt):
            case.faults.append(f"{kind.__name__}: {error}")
            traceback.print_exception(error, file=sys.stderr)
        verdict = "NOT OK: " + "; ".join(case.faults[:5]) if case.faults else "ok"
        if 5 < len(case.faults):
            verdict += f"; and {len(case.faults) - 5} more"
        self.run.has_failed |= bool(case.faults)
        print(" | ".join([f"{self.run.name} {case.fault}", case.promise, ", ".join(case.figures), verdict]), flush=True)
        return not isinstance(error, KeyboardInterrupt)


def end_by_exit():
    """Makes SIGTERM end the script like `sys.exit`, so that it leaves no process behind."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))


def main(name, body, seconds, seconds_in_gate=None):
    """Runs a script: reads its arguments, calls `body` with a `Run`, and ends the process.

    `seconds` bounds its rounds; in the release gate it is `seconds_in_gate`.
    """
    end_by_exit()
    options = argparse.ArgumentParser(description=sys.modules["__main__"].__doc__,
                                      formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--binary", default="target/release/doorward", type=pathlib.Path)
    options.add_argument("--seconds", type=float, help=f"time for rounds (default: {seconds})")
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--gate", action="store_true", help="short rounds, as in scripts/test")
    options.add_argument("--keep", action="store_true", help="keep the directory")
    options = options.parse_args()
    if options.seconds is None:
        options.seconds = seconds_in_gate if options.gate and seconds_in_gate else seconds
    directory = pathlib.Path(tempfile.mkdtemp(prefix=f"doorward-{name.lower()}-"))
    run = Run(name, options, directory)
    try:
        body(run)
    except Skip as reason:
        print(f"{name} skipped: {reason}", flush=True)
        sys.exit(SKIPPED)
    finally:
        if options.keep:
            print(f"kept: {directory}", file=sys.stderr)
        else:
            shutil.rmtree(directory, ignore_errors=True)
    sys.exit(1 if run.has_failed else 0)
