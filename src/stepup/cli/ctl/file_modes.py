"""The modes of the files of a connection: the file of profiles, a key, a token."""

import os
import stat
from pathlib import Path


def refuse_if_others_write(file: Path) -> None:
    """Refuse a file with which every user of this machine could make the caller another.

    Raises:
        ValueError: the mode of the file lets everybody write it.
    """
    if _mode(file) & stat.S_IWOTH:
        raise ValueError(f"{file}: every user of this machine may write it: run chmod o-w")


def is_readable_by_others(file: Path) -> bool:
    """Whether the mode of the file lets everybody read it."""
    return bool(_mode(file) & stat.S_IROTH)


def _mode(file: Path) -> int:
    """The mode of a regular file; 0 for a file without one, and for a missing file."""
    try:
        mode = file.stat().st_mode
    except OSError:  # its reader says why
        return 0
    return mode if stat.S_ISREG(mode) and os.name == "posix" else 0
