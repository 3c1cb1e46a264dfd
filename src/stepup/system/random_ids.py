"""Random ids without a system call for each."""

import os
from typing import Final
from uuid import UUID

_UUID_BYTES: Final = 16
_DRAWN_AT_ONCE: Final = 256
_RANDOM_BITS: Final = (1 << 128) - 1 - (0xF << 76) - (0x3 << 62)
_VERSION_AND_VARIANT: Final = (0x4 << 76) + (0x2 << 62)

_unused: list[bytes] = []
# A forked process would otherwise return the ids that its parent returns.
os.register_at_fork(after_in_child=_unused.clear)


def random_id() -> UUID:
    """Return a random UUID of version 4 (RFC 9562 §5.4), on any thread and after a fork.

    The bits come from the kernel, some thousand at a time, and wait in memory. That is good enough
    for a name. It is not for a secret: take those from `secrets`.
    """
    try:
        octets = _unused.pop()
    except IndexError:
        drawn = os.urandom(_UUID_BYTES * _DRAWN_AT_ONCE)
        octets, *others = (
            drawn[start : start + _UUID_BYTES] for start in range(0, len(drawn), _UUID_BYTES)
        )
        _unused.extend(others)
    return UUID(int=int.from_bytes(octets) & _RANDOM_BITS | _VERSION_AND_VARIANT)
