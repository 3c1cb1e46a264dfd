"""No image of our memory on a disk: it holds codes, secrets and keys (S11)."""

import ctypes
import resource
import sys

_PR_SET_DUMPABLE = 4  # linux/prctl.h


def forbid_core_dumps() -> None:
    """Have the kernel write no core of this process, for good, nor of the processes it starts.

    The limit does it for core files, and the programs that a process starts inherit it. On Linux a
    core may also be piped to a program, whatever the limit is: therefore the process is not
    dumpable either, which keeps others of the same user from reading its memory, too.

    Raises:
        OSError: the kernel refuses.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux" and ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0):
        raise OSError("the process cannot be made undumpable")
