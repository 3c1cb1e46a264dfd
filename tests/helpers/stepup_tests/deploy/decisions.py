"""Decisions that go through the pipe of the container `decisions`, in real processes."""

import os
import signal
import subprocess
from contextlib import suppress
from pathlib import Path

from stepup_tests.e2e.processes import eventually

DECISIONS = b"".join(b'{"decision_id":"%d"}\n' % number for number in range(5000))
"""More than a pipe holds."""


def read_from_pipe(command, pipe, directory):
    """What the container writes to its standard output, with its directory in place of the real."""
    pipe = Path(pipe)
    own = directory / pipe.name
    command = [word.replace(str(pipe.parent), str(directory)) for word in command]
    with (directory / "stdout").open("wb") as output:
        container = subprocess.Popen(command, stdout=output, start_new_session=True)
    try:
        eventually(own.is_fifo, "the pipe is there")
        # Two servers, one after the other: the reader outlives the first.
        for part in (DECISIONS[:9000], DECISIONS[9000:]):
            with own.open("wb") as server:
                server.write(part)
        eventually(lambda: (directory / "stdout").stat().st_size >= len(DECISIONS), "all is read")
        container.terminate()
        assert container.wait(timeout=10) == 0
    finally:
        with suppress(ProcessLookupError):  # in a container all end with the first
            os.killpg(container.pid, signal.SIGKILL)
    return (directory / "stdout").read_bytes()
