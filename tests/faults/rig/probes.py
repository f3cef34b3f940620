"""Two callers that send requests all the time: one that is allowed, one that must be refused."""

import threading
import time
from collections import Counter

from rig.http import Unanswered


class Probes(threading.Thread):
    """Sends a request with a token and one without every 50 ms; used in a `with` block.

    `allowed` counts the answers to the first by status, `refused` those to the second, `times` contains the durations
    of the first in seconds.
    """

    def __init__(self, gateway, bearer, path="/protected/probe"):
        super().__init__(daemon=True)
        self.gateway, self.bearer, self.path = gateway, bearer, path
        self.allowed, self.refused, self.times, self.is_over = Counter(), Counter(), [], False

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.is_over = True
        self.join(30)

    def run(self):
        callers = [self.gateway.caller(), self.gateway.caller()]
        while not self.is_over:
            began = time.monotonic()
            self.allowed[self._status(callers[0], self.bearer)] += 1
            self.times.append(time.monotonic() - began)
            self.refused[self._status(callers[1], None)] += 1
            time.sleep(0.05)

    def _status(self, caller, bearer):
        try:
            return caller.get(self.path, bearer=bearer).status
        except Unanswered:
            return "none"

    def share_ms(self, share):
        """Returns the given quantile of the durations of the allowed requests, in milliseconds."""
        ordered = sorted(self.times)
        return ordered[min(len(ordered) - 1, int(len(ordered) * share))] * 1000 if ordered else 0.0
