"""Files that other programs replace or rewrite while this process uses them."""

from pathlib import Path
from typing import NamedTuple, TypeAlias


class _FileVersion(NamedTuple):
    device: int
    inode: int
    mode: int
    size: int
    mtime_ns: int
    ctime_ns: int


FileVersions: TypeAlias = tuple[_FileVersion | None, ...]
"""How files looked at one time, in their order; None for a file that could not be looked at."""


class FileWatch:
    """Says whether files have changed since they were last looked at.

    A file has changed when any of these differs:

    - the file that its path leads to: another file was renamed to the path, or a symbolic link on
      the way was replaced (Kubernetes replaces the directory of a mounted secret so)
    - its size, or the time of its last write in nanoseconds
    - its mode, or the time of its last change of status: a new owner can make the file readable
    - whether it can be looked at: the file appeared, vanished, or its directory was closed to us

    A rewrite that keeps the size goes unnoticed when it follows the look within one tick of the
    file system's clock (4 ms on most Linux systems). Writers avoid that by renaming a new file to
    the path. To learn whether a path still leads to a file that is open, use `os.path.samestat`.
    Without any file, nothing ever changes.
    """

    def __init__(self, *paths: Path) -> None:
        self._paths = paths
        self.versions = self._current()

    def look(self) -> bool:
        """Look at the files, with one `stat` each, and remember their `versions`.

        Returns:
            Whether a file has changed since the look before.
        """
        before, self.versions = self.versions, self._current()
        return self.versions != before

    def _current(self) -> FileVersions:
        return tuple(map(_version, self._paths))


def _version(path: Path) -> _FileVersion | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return _FileVersion(
        status.st_dev,
        status.st_ino,
        status.st_mode,
        status.st_size,
        status.st_mtime_ns,
        status.st_ctime_ns,
    )
