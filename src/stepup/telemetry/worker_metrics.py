"""The metrics of several workers together, those of ended workers included.

Each worker writes files of its own, which prometheus_client leaves behind. What ended workers have
counted is summed up in one file for each kind, so that the number of files, and the time of a
scrape, do not grow with the workers that were replaced.
"""

import struct
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import Any, Final

from prometheus_client import CollectorRegistry
from prometheus_client.mmap_dict import MmapedDict
from prometheus_client.multiprocess import MultiProcessCollector

METRICS_DIRECTORY: Final = "PROMETHEUS_MULTIPROC_DIR"
"""The environment variable that prometheus_client reads when it is imported."""
_ENDED: Final = 0
"""In place of a process id: no worker has it."""
_ATTEMPTS: Final = 20
_ATTEMPT_SECONDS: Final = 0.01


class WorkerMetrics(MultiProcessCollector):
    """The metrics of all processes that were started with a directory in `METRICS_DIRECTORY`.

    Counters and histograms are those of all together, of processes that have ended as well; gauges
    are those of processes that live.

    Args:
        registry: is given these metrics.
        directory: belongs to this process, and is removed with it.
    """

    def __init__(self, registry: CollectorRegistry, directory: Path) -> None:
        super().__init__(registry, str(directory))  # type: ignore[no-untyped-call]
        self._directory = directory
        self._changing = Lock()

    def collect(self) -> Any:
        """Read the files of all workers; one that is made just now is empty for an instant."""
        for _ in range(_ATTEMPTS - 1):
            with suppress(struct.error), self._changing:
                return super().collect()  # type: ignore[no-untyped-call]
            time.sleep(_ATTEMPT_SECONDS)
        with self._changing:
            return super().collect()  # type: ignore[no-untyped-call]

    def take_over(self, pid: int) -> None:
        """Add what an ended process has counted to that of the others, and remove its files.

        Raises:
            OSError: a file cannot be written or removed.
        """
        with self._changing:
            for file in self._directory.glob(f"*_{pid}.db"):
                kind = file.name.partition("_")[0]
                if kind != "gauge":
                    self._add_to_ended(kind, file)
                file.unlink()

    def _add_to_ended(self, kind: str, file: Path) -> None:
        ended = self._directory / f"{kind}_{_ENDED}.db"
        sums = _values(ended) if ended.exists() else {}
        for key, value in _values(file).items():
            sums[key] = sums.get(key, 0.0) + value
        # Not in place: a scrape or a failure half-way must find either the old or the new sums.
        written = ended.with_suffix(".new")
        written.write_bytes(_as_file(sums))
        written.replace(ended)


def _values(file: Path) -> dict[str, float]:
    """What a process has written; nothing where it ended while it made the file."""
    with suppress(struct.error):
        entries = MmapedDict.read_all_values_from_file(str(file))  # type: ignore[no-untyped-call]
        return {key: value for key, value, _, _ in entries}
    return {}


def _as_file(values: Mapping[str, float]) -> bytes:
    """Values as prometheus_client reads them: see its `MmapedDict`."""
    entries = b"".join(_entry(key.encode(), value) for key, value in values.items())
    return struct.pack("ii", 8 + len(entries), 0) + entries


def _entry(key: bytes, value: float) -> bytes:
    padding = b" " * (8 - (len(key) + 4) % 8)
    return struct.pack("i", len(key)) + key + padding + struct.pack("dd", value, 0.0)
