"""Child processes that end with their parent, however the parent ends (Linux).

Such a child begins as this file, run as a program: it asks the kernel to send the child a signal at
the parent's end (PR_SET_PDEATHSIG, prctl(2)), and becomes the command. The request survives exec.
To ask in `preexec_fn` could deadlock: other threads' locks stay held between fork and exec.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def ending_with_this_process(command: list[str], by: signal.Signals = signal.SIGKILL) -> list[str]:
    """Return the command of a child that ends when this process ends, even by SIGKILL.

    The kernel takes the end of the *thread* that starts the child for the end of the parent: start
    the child on a thread that lives as long as the child. A child that starts after the end of its
    parent exits with status 1. The child keeps the descriptors, the signal mask and the process id.

    Args:
        command: an absolute path and the arguments.
        by: the signal that ends the child.
    """
    return [sys.executable, "-I", "-S", __file__, str(os.getpid()), str(int(by)), *command]


def _become(parent: str, number: str, *command: str) -> None:
    linux = sys.platform == "linux"
    if linux and ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(number), 0, 0, 0):
        sys.exit("the kernel does not bind the process to its parent")
    if os.getppid() != int(parent):
        sys.exit("the parent of the process has ended")
    os.execv(command[0], command)  # noqa: S606  # the command of our own parent


if __name__ == "__main__":
    _become(*sys.argv[1:])
