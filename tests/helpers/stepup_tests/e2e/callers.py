"""Callers of a server, each in a thread of its own, that call as long as a block lasts."""

import threading
from collections import Counter, defaultdict
from itertools import chain

import grpc
from stepup_tests.e2e.processes import eventually


class Callers:
    """`ends` counts by caller how its calls ended.

    Args:
        calls: by the name of a caller, what it does again and again: it returns how that ended. An
            error of gRPC is an end by its code.
        pause: of each caller between two calls, in seconds.
    """

    def __init__(self, calls, pause=0.01):
        self.ends = defaultdict(Counter)
        self.stopped = threading.Event()
        self._pause = pause
        self._threads = [
            threading.Thread(target=self._call, args=(name, call)) for name, call in calls.items()
        ]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.end()

    def end(self):
        """Let the callers end."""
        self.stopped.set()
        for thread in self._threads:
            thread.join()

    @property
    def outcomes(self):
        """How the calls of all of them ended."""
        return Counter(chain.from_iterable(each.elements() for each in list(self.ends.values())))

    def wait_for(self, number, *ends, of=None):
        """Wait until so many more calls have ended in one of some ways, from now on.

        Args:
            of: the caller that makes them; else each call counts.
        """

        def counted():
            outcomes = self.outcomes if of is None else self.ends[of].copy()
            return sum(outcomes[end] for end in ends)

        enough = counted() + number
        eventually(lambda: counted() >= enough, f"{number} calls end with {' or '.join(ends)}")

    def _call(self, name, call):
        while not self.stopped.wait(self._pause):
            try:
                end = call()
            except grpc.RpcError as error:
                end = error.code().name
            self.ends[name][end] += 1
