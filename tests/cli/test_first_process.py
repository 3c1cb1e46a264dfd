"""A command that is the first process of a container: SIGTERM ends it all the same."""

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

ENDED = 128 + signal.SIGTERM
IN_CONTAINER = ["unshare", "--pid", "--fork", "--kill-child"]


def handles_sigterm(pid):
    """Whether a process has a handler, by what the kernel says."""
    with suppress(OSError):
        status = Path(f"/proc/{pid}/status").read_text()
        [caught] = [line.split()[1] for line in status.splitlines() if line.startswith("SigCgt")]
        return bool(int(caught, 16) >> (signal.SIGTERM - 1) & 1)
    return False


def child_of(process):
    """The process that `unshare` has forked, once there is one."""
    while process.poll() is None:
        with suppress(OSError):
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
            if children:
                return int(children)
    raise AssertionError(process.communicate()[1])


@pytest.mark.skipif(
    subprocess.run([*IN_CONTAINER, "true"], capture_output=True, check=False).returncode != 0,
    reason="this machine gives no namespace of processes",
)
@pytest.mark.parametrize("command", ["serve", "migrate"])
def test_sigterm_ends_it_while_it_is_imported(tmp_path, command):
    arguments = [sys.executable, "-m", "stepup", command, "--data-dir", tmp_path]
    with subprocess.Popen(
        [*IN_CONTAINER, *arguments], stderr=subprocess.PIPE, text=True
    ) as process:
        pid = child_of(process)
        # From here to the handler of the server, or to the end of the command, it takes a second.
        while process.poll() is None and not handles_sigterm(pid):
            pass
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
        assert process.wait(20) == ENDED


TERMINATED_WHEN_IT_IMPORTS = """
import os, signal, sys
pid, os.getpid = os.getpid(), lambda: {pid}

class Terminates:
    def find_spec(self, name, path, target=None):
        if name == "stepup.cli":
            os.kill(pid, signal.SIGTERM)

sys.meta_path.insert(0, Terminates())
sys.argv[1:] = ["serve"]
from stepup.__main__ import main
main()
"""


@pytest.mark.parametrize(("pid", "ends"), [(1, ENDED), (2, -signal.SIGTERM)])
def test_only_the_first_process_has_a_handler_of_its_own(pid, ends):
    code = TERMINATED_WHEN_IT_IMPORTS.format(pid=pid)
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == ends
