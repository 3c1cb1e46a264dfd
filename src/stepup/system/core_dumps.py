"""Keep the memory of the process, with its codes, secrets and keys, off disks (S11)."""

import ctypes
import resource
import sys

_PR_SET_DUMPABLE = 4  # linux/prctl.h


def forbid_core_dumps() -> None:
    """Forbid core dumps of this process and of the processes that it starts, for good.

    The limit prevents core files, and child processes inherit it. Linux may also pipe a core to a
    program, whatever the limit is. So the process is not dumpable either, and other processes of
    the same user cannot read its memory.

    Raises:
        OSError: the kernel refuses.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux" and ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0):
        raise OSError("the kernel does not make the process undumpable")
