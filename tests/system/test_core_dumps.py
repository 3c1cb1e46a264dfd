"""S11: a process that knows secrets leaves no core behind."""

import os
import subprocess
import sys

import pytest

_PR_GET_DUMPABLE = 3
_ALLOW = """
import os, resource, sys
from stepup.system.core_dumps import forbid_core_dumps
hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))
"""


def aborted(directory, program):
    """How a program ended that aborts at its end, as the kernel says it."""
    arguments = [sys.executable, "-c", f"{_ALLOW}os.chdir(sys.argv[1])\n{program}os.abort()"]
    pid = os.posix_spawn(sys.executable, [*arguments, str(directory)], dict(os.environ))
    return os.waitpid(pid, 0)[1]


def output(program):
    done = subprocess.run(
        [sys.executable, "-c", f"{_ALLOW}forbid_core_dumps()\n{program}"],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


@pytest.fixture
def leaves_cores(tmp_path):
    """This machine lets a process that aborts leave a core."""
    if not os.WCOREDUMP(aborted(tmp_path, "")):
        pytest.skip("this machine dumps no cores anyway")


@pytest.mark.usefixtures("leaves_cores")
def test_s11_a_process_that_aborts_leaves_no_core(tmp_path):
    status = aborted(tmp_path, "forbid_core_dumps()\n")
    assert os.WIFSIGNALED(status)
    assert not os.WCOREDUMP(status)


def test_s11_the_programs_that_it_starts_leave_none_either():
    tell = "import resource; print(resource.getrlimit(resource.RLIMIT_CORE))"
    started = f"import subprocess; subprocess.run([sys.executable, '-c', {tell!r}], check=True)"
    assert output(started) == str((0, 0))


@pytest.mark.skipif(sys.platform != "linux", reason="a setting of Linux")
def test_s11_it_is_not_dumpable_where_cores_are_piped_to_a_program():
    asked = f"import ctypes; print(ctypes.CDLL(None).prctl({_PR_GET_DUMPABLE}, 0, 0, 0, 0))"
    assert output(asked) == "0"
