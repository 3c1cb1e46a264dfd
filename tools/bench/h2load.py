"""The load generator: h2load, a C program, which frames gRPC requests itself.

It counts HTTP 200, and ignores gRPC's status; `answers` checks the answers.
"""

import math
import re
import subprocess
from dataclasses import dataclass

IN_FLIGHT = 64
CONNECTIONS = 8
_STREAMS_WHEN_PACED = 100
_TICKS = 10
"""h2load sends what is due of a connection every 10 ms at most. Connections that begin 1 ms after
another, ten or a multiple of ten of them, make that every millisecond."""
_RATE_OF_TEN_CONNECTIONS = 1000
_MOST_CONNECTIONS_WHEN_PACED = 40
"""More of them would cost h2load more than their calls do."""
_PATIENCE_SECONDS = 300


class LoadError(Exception):
    """h2load failed, or has printed what is not understood."""


@dataclass(frozen=True)
class Target:
    """Where to send which request."""

    url: str
    payload: str
    """The file of the framed request."""
    metadata: tuple[tuple[str, str], ...] = ()

    @property
    def arguments(self):
        headers = (("content-type", "application/grpc"), ("te", "trailers"), *self.metadata)
        return (
            *(argument for name, value in headers for argument in ("-H", f"{name}: {value}")),
            *("-d", self.payload),
            self.url,
        )


@dataclass(frozen=True)
class Load:
    """What h2load says of a run."""

    requests: int
    succeeded: int
    """How many were answered with HTTP 200, which says little."""
    rps: float
    data_bytes: int
    """The bytes of all messages, with their frames of five bytes, without headers and trailers."""


def at_full_speed(target, requests):
    """A command: 64 calls in flight until all are answered."""
    shape = ("-c", CONNECTIONS, "-m", IN_FLIGHT // CONNECTIONS, "-n", requests)
    return _command(shape, target)


def paced(target, requests, rate, log):
    """Return the command of an open loop: `rate` calls a second, without waiting for answers.

    Args:
        target: where to.
        requests: how many.
        rate: calls per second.
        log: the file that gets a line per call, for `latencies_ms`.
    """
    wanted = _TICKS * math.ceil(rate / _RATE_OF_TEN_CONNECTIONS)
    connections = min(wanted, _MOST_CONNECTIONS_WHEN_PACED)
    shape = (
        *("-c", connections, "-m", _STREAMS_WHEN_PACED, "-n", max(requests, connections)),
        *("--rps", f"{rate / connections:.3f}", "-r", 1, "--rate-period", "1ms"),
        f"--log-file={log}",
    )
    return _command(shape, target)


def run(command):
    """Run a command of those above to its end.

    Raises:
        LoadError: it failed.
    """
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=_PATIENCE_SECONDS
        )
    except subprocess.TimeoutExpired:
        raise LoadError(f"not answered in {_PATIENCE_SECONDS} s: {' '.join(command)}") from None
    if done.returncode:
        raise LoadError(f"h2load ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return parsed(done.stdout)


def parsed(output):
    """Read what h2load prints.

    Raises:
        LoadError: something is missing in it.
    """
    return Load(
        requests=int(_found(r"requests: (\d+) total", output)),
        succeeded=int(_found(r"status codes: (\d+) 2xx", output)),
        rps=float(_found(r"finished in \S+, ([\d.]+) req/s", output)),
        data_bytes=int(_found(r"traffic: .*\((\d+)\) data", output)),
    )


def latencies_ms(lines):
    """The latencies in a log file.

    Raises:
        LoadError: a call got no answer.
    """
    latencies = []
    for line in lines:
        _start, status, microseconds = line.split()
        if status != "200":
            raise LoadError(f"a call was answered with HTTP {status}")
        latencies.append(int(microseconds) / 1000)
    return latencies


def _command(shape, target):
    return ("h2load", "-t", "1", *map(str, shape), *target.arguments)


def _found(pattern, output):
    found = re.search(pattern, output)
    if found is None:
        raise LoadError(f"h2load did not say {pattern!r}:\n{output}")
    return found[1]
