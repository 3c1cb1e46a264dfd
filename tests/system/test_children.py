"""A child ends with its parent, however the parent ends."""

import os
import select
import signal
import subprocess
import sys

from stepup.system import children
from stepup.system.children import ending_with_this_process

END_SECONDS = 20
PARENT = """
import signal, subprocess, sys
from stepup.system.children import ending_with_this_process
by, *command = sys.argv[1:]
child = subprocess.Popen(ending_with_this_process(command, signal.Signals(int(by))))
print(child.pid, flush=True)
child.wait()
"""


def killed_with_parent(command, by=signal.SIGKILL, ready="ready"):
    """Kill the parent of a child that has written `ready`; returns whether the child has ended."""
    arguments = [sys.executable, "-c", PARENT, str(int(by)), *command]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as parent:
        child = os.pidfd_open(int(parent.stdout.readline()))
        try:
            assert parent.stdout.readline().strip() == ready
            os.kill(parent.pid, signal.SIGKILL)
            return bool(select.select([child], [], [], END_SECONDS)[0])
        finally:
            os.close(child)


def test_a_killed_parent_takes_its_child_along():
    deaf = "trap '' TERM HUP INT; echo ready; while :; do sleep 0.05; done"
    assert killed_with_parent(["/bin/bash", "-c", deaf])


def test_the_child_gets_the_signal_of_its_parents_choice(tmp_path):
    tidy = f"trap 'touch {tmp_path}/tidy; exit' USR1; echo ready; while :; do sleep 0.05; done"
    assert killed_with_parent(["/bin/bash", "-c", tidy], signal.SIGUSR1)
    assert (tmp_path / "tidy").exists()


def test_a_child_does_not_begin_after_the_end_of_its_parent(tmp_path, monkeypatch):
    monkeypatch.setattr(children.os, "getpid", lambda: 2**22 - 1)
    command = ending_with_this_process(["/bin/touch", str(tmp_path / "begun")])
    done = subprocess.run(command, capture_output=True, check=False, text=True)
    assert (done.returncode, done.stderr) == (1, "the parent of the process has ended\n")
    assert not (tmp_path / "begun").exists()


def test_the_child_keeps_its_process_id_descriptors_and_signal_mask():
    reading, writing = os.pipe()
    script = f"echo $$ >&{writing}; grep SigBlk /proc/$$/status >&{writing}; exit 7"
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    try:
        child = subprocess.Popen(
            ending_with_this_process(["/bin/bash", "-c", script]), pass_fds=(writing,)
        )
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        os.close(writing)
    with os.fdopen(reading) as written:
        pid, mask = written.read().splitlines()
    assert child.wait() == 7
    assert int(pid) == child.pid
    assert int(mask.split()[1], 16) & 1 << signal.SIGHUP - 1
