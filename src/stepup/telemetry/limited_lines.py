"""Log lines about events that may repeat without end during an incident."""

import time
from collections import Counter
from typing import Final

SECONDS_BETWEEN_LINES: Final = 60.0


class LimitedLines:
    """Says when a line about a kind of event is due: at once, and then at intervals with a count.

    Args:
        seconds: the shortest time between two lines about the same kind.
    """

    def __init__(self, seconds: float = SECONDS_BETWEEN_LINES) -> None:
        self._seconds = seconds
        self._unlogged: Counter[str] = Counter()
        self._last_line: dict[str, float] = {}

    def count(self, kind: str, events: int = 1) -> int:
        """Count events of a kind, such as the text of a problem.

        Returns:
            The events of this kind since its last line, if the caller must write a line now; else
            0.
        """
        self._unlogged[kind] += events
        now = time.monotonic()
        if now - self._last_line.get(kind, float("-inf")) < self._seconds:
            return 0
        # An older line delays no other: texts that differ each time fill no memory.
        recent = {name: at for name, at in self._last_line.items() if now - at < self._seconds}
        self._last_line = recent | {kind: now}
        return self._unlogged.pop(kind)
