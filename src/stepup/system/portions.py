"""Lines for a file or a pipe that other processes may write to, too."""

from collections.abc import Iterable, Iterator
from select import PIPE_BUF


def portions(lines: Iterable[bytes]) -> Iterator[bytes]:
    """Lines, put together into as few portions as go into a pipe in one piece each.

    POSIX promises that of up to PIPE_BUF bytes (`write()`): nobody else's come in between. So lines
    stay whole; one that is longer is a portion of its own.
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
