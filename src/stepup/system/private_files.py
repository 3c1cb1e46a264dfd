"""Files that only their owner may read, and that are written whole or not at all."""

import fcntl
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_OTHERS = 0o077
_GROUP_READS = 0o040


class NotPrivateError(Exception):
    """Other users than the permitted ones may use the file."""


def read(path: Path, *, group_readable: bool = False) -> bytes:
    """Read a file, which its group may read only if `group_readable`.

    Kubernetes mounts secrets so for an unprivileged user, with `fsGroup` and mode 0440.

    Raises:
        OSError: the file is missing, or cannot be read.
        NotPrivateError: other users may use the file.
    """
    refused = _OTHERS & ~_GROUP_READS if group_readable else _OTHERS
    with path.open("rb") as file:
        if os.fstat(file.fileno()).st_mode & refused:
            raise NotPrivateError(
                "others than its owner and group may read it; set its mode to 0640 or 0440"
                if group_readable
                else "others than its owner may read it; set its mode to 0600"
            )
        return file.read()


def create(path: Path, octets: bytes) -> None:
    """Create a file of mode 0600 with its content, durably and at once.

    Raises:
        FileExistsError: the file exists.
        OSError: it cannot be written.
    """
    draft = _draft_of(path)
    try:
        _write_new(draft, octets, 0o600)
        # Unlike a rename, a link never replaces an existing file.
        os.link(draft, path)
    finally:
        draft.unlink(missing_ok=True)
    _sync_directory(path.parent)


def replace(path: Path, octets: bytes) -> None:
    """Replace the content of a file at once, durably. Its owner, group and mode stay.

    Raises:
        OSError: the file cannot be written, or not for its owner, so a server could not read it.
    """
    path = path.resolve()  # the file, not a link to it, is replaced
    there = path.stat()
    draft = _draft_of(path)
    try:
        _write_new(draft, octets, stat.S_IMODE(there.st_mode), owner=(there.st_uid, there.st_gid))
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    _sync_directory(path.parent)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Lock the directory of a file; other processes that lock it wait until the block ends.

    Raises:
        OSError: the directory does not exist.
    """
    with _directory(path.resolve().parent) as descriptor:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield


def _draft_of(path: Path) -> Path:
    return path.with_name(f".{path.name}.{secrets.token_hex(8)}")


def _write_new(path: Path, octets: bytes, mode: int, owner: tuple[int, int] | None = None) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        if owner is not None:
            os.fchown(descriptor, *owner)
        os.fchmod(descriptor, mode)
        file.write(octets)
        file.flush()
        os.fsync(descriptor)


def _sync_directory(path: Path) -> None:
    with _directory(path) as descriptor:
        os.fsync(descriptor)


@contextmanager
def _directory(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
