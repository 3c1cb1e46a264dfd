"""One-time codes of RFC 6238, worked out apart from the code under test."""

import hmac
from base64 import b32decode
from datetime import datetime
from itertools import count


def code_at(secret: bytes | str, now: datetime, *, steps: int = 0) -> str:
    """The code that an authenticator app shows `steps` time steps from now.

    Args:
        secret: the shared secret, or its base32.
        now: an instant within the time step.
        steps: how many steps later (or, negative, earlier) than that.
    """
    key = b32decode(secret) if isinstance(secret, str) else secret
    counter = int(now.timestamp()) // 30 + steps
    digest = hmac.digest(key, counter.to_bytes(8, "big"), "sha1")
    start = digest[-1] & 0x0F
    number = int.from_bytes(digest[start : start + 4], "big") & 0x7FFFFFFF
    return f"{number % 1_000_000:06}"


def wrong_code_at(secret: bytes | str, now: datetime) -> str:
    """A code that fits neither this time step nor one near it."""
    near = {code_at(secret, now, steps=steps) for steps in range(-3, 4)}
    return next(code for code in (f"{number:06}" for number in count()) if code not in near)
