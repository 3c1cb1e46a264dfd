"""Lines of a file or a pipe that other processes may write to, too."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from select import PIPE_BUF


def portions(lines: Iterable[bytes]) -> Iterator[bytes]:
    """Join lines into as few portions as possible that a pipe takes in one piece.

    POSIX promises not to interleave a write of up to PIPE_BUF bytes with other writes (`write()`).
    So lines stay whole. A longer line is a portion of its own.
    """
    portion: list[bytes] = []
    size = 0
    for line in lines:
        if portion and size + len(line) > PIPE_BUF:
            yield b"".join(portion)
            portion, size = [], 0
        portion.append(line)
        size += len(line)
    if portion:
        yield b"".join(portion)


def ends_within_line(path: Path) -> bool:
    """Whether the last line of a file lacks its newline: a process stopped while it wrote.

    False for an empty file, and where there is no file.

    Raises:
        OSError: the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(size - 1, 0))
            return file.read(1) not in (b"", b"\n")
    except FileNotFoundError:
        return False
