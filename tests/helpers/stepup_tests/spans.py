"""A span of a call that keeps what is part of it."""

import time


class CallSpan:
    """Stands in for `stepup.telemetry.spans.CallSpan`: parts by name, and whether they failed."""

    def __init__(self):
        self.parts = []

    def add(self, name, began, *, failed):
        assert began <= time.time_ns()
        self.parts.append((name, failed))
