"""Descriptor 2 while the log of grpcio's core is read: in a process of its own, which has one."""

import subprocess
import sys

import pytest

PROGRAM = """
import asyncio, os, sys
from stepup.system.core_log import choose_core_log, core_log_read

choose_core_log()
real = os.dup(2)

async def main():
    read = []
    with core_log_read(HANDLE):
        os.write(2, b"of the core\\n")
        await asyncio.sleep(0.1)
        try:
            for _ in range(100):  # far more than a pipe holds, and the loop reads nothing
                os.write(2, bytes(65536))
        except BlockingIOError:
            os.write(real, b"not blocked\\n")
    os.write(2, b"afterwards\\n")
    os.write(real, b"".join(read)[:12])
    os.write(real, str(os.environ.get("GRPC_TRACE")).encode())

asyncio.run(main())
"""


def errors_of(handle, **environment):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.replace("HANDLE", handle)],
        env={"PATH": "/usr/bin", **environment},
        capture_output=True,
        check=True,
        timeout=30,
    )
    return done.stderr.replace(b"\0", b"").decode()


def test_s18_the_log_is_read_and_its_writer_never_waits():
    assert errors_of("read.append") == "not blocked\nof the core\nNone"


def test_without_a_reader_the_log_is_dropped():
    assert errors_of("None") == "None"


@pytest.mark.parametrize("name", ["GRPC_VERBOSITY", "GRPC_TRACE"])
def test_the_log_that_an_operator_has_chosen_stays_on_standard_error(name):
    found = errors_of("read.append", **{name: "tcp"})
    assert found.startswith("of the core\nafterwards\n")
