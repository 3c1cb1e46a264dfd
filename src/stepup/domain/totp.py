"""Time-based one-time codes (RFC 6238): one code, one time step."""

import hmac
import re
import secrets
from base64 import b32decode, b32encode
from datetime import UTC, datetime, timedelta
from typing import Self

from pyotp import TOTP

from stepup.domain.errors import InvalidValueError
from stepup.domain.text import HumanText
from stepup.domain.values import secret_value, value

STEP_SECONDS = 30
SECRET_BYTES = 20
"""160 bits of a new secret, with SHA-1 and six digits: what every authenticator app supports (S6,
RFC 4226 R6)."""
MIN_SECRET_BYTES, MAX_SECRET_BYTES = 16, 64
"""Imported secrets have 128 bits at least (RFC 4226 R6), and at most one block of SHA-1."""

MAX_LABEL_BYTES = 128

# [0-9], not \d: full-width and other digits of Unicode are refused.
_CODE = re.compile(r"[0-9]{6}")


@secret_value
class OtpCode:
    """A code as the person typed it: exactly six ASCII digits. It never shows in a repr (S11).

    Raises:
        InvalidValueError: it is anything else; nothing is trimmed.
    """

    digits: str

    def __post_init__(self) -> None:
        if not _CODE.fullmatch(self.digits):
            raise InvalidValueError("must be exactly six ASCII digits")


@secret_value
class TotpSecret:
    """The shared secret of one authenticator: 16 to 64 bytes. It never shows in a repr (S11).

    Raises:
        InvalidValueError: it is shorter or longer.
    """

    octets: bytes

    def __post_init__(self) -> None:
        if not MIN_SECRET_BYTES <= len(self.octets) <= MAX_SECRET_BYTES:
            raise InvalidValueError(f"must be {MIN_SECRET_BYTES} to {MAX_SECRET_BYTES} bytes")

    @classmethod
    def generate(cls) -> "TotpSecret":
        """A fresh secret of 160 bits from the system's random numbers."""
        return cls(secrets.token_bytes(SECRET_BYTES))

    @classmethod
    def from_base32(cls, text: str) -> "TotpSecret":
        """The secret as an authenticator app reads it.

        Raises:
            InvalidValueError: the text is not base32, or the secret is too short or too long.
        """
        return cls(octets_of_base32(text))

    @property
    def base32(self) -> str:
        """The secret for typing, without padding: 32 characters of a new secret."""
        return b32encode(self.octets).decode().rstrip("=")


def octets_of_base32(text: str) -> bytes:
    """Decode base32 in either case, with all of its padding or none (RFC 4648 §6).

    Raises:
        InvalidValueError: the text is anything else; the error does not contain it (S11).
    """
    data = text.rstrip("=")
    padded = data + "=" * (-len(data) % 8)
    try:
        if text in (data, padded):
            return b32decode(padded, casefold=True)
    except ValueError:
        pass
    raise InvalidValueError("must be base32")


class Label(HumanText):
    """What an authenticator app shows, an issuer or an account: at most 128 bytes of UTF-8.

    The limit counts bytes, because a QR code has to hold two labels.
    """

    __slots__ = ()

    def __new__(cls, value: str) -> Self:
        """Check the label.

        Raises:
            InvalidValueError: it is too long, has a colon (S12), or is not fit as `HumanText`.
        """
        if len(value.encode(errors="surrogatepass")) > MAX_LABEL_BYTES:
            raise InvalidValueError(f"must be at most {MAX_LABEL_BYTES} bytes of UTF-8")
        if ":" in value:
            raise InvalidValueError("must have no colon")
        return super().__new__(cls, value)


@value
class StepMatch:
    """Where a code fits.

    `step` is the time step that it is accepted for, None when it is refused. `near_miss` is -1 for
    the code of the step just before those that are accepted (a late code), 1 for the code of the
    step just after them (an early one), else 0. `is_repeated` says that it is the code that the
    session last used. The last two are never a reason to accept a code.
    """

    step: int | None
    near_miss: int = 0
    is_repeated: bool = False


def time_step(now: datetime) -> int:
    """The number of the 30-second step of an instant (RFC 6238 §4.2)."""
    return int(now.timestamp()) // STEP_SECONDS


def end_of_step(step: int) -> datetime:
    """The first instant after a step."""
    return datetime.fromtimestamp((step + 1) * STEP_SECONDS, UTC)


def next_code_after(now: datetime) -> timedelta:
    """How long it takes until the next step begins, and with it the next code."""
    return end_of_step(time_step(now)) - now


def code_at(secret: TotpSecret, step: int) -> OtpCode:
    """The code that an authenticator app shows in a time step."""
    return OtpCode(_digits_at(secret, step))


def match(
    secret: TotpSecret,
    code: OtpCode,
    now: datetime,
    back_steps: int = 0,
    used_step: int | None = None,
) -> StepMatch:
    """Find the time step that a code belongs to.

    A repeated or a late code is refused even if the present step happens to have the same code, as
    one in a million does. So a code that costs no attempt is never one that could be accepted: a
    guesser who repeats a dead code does not guess for free (S22).

    Args:
        secret: the authenticator's secret.
        code: what the person typed.
        now: when it was received, by the server's clock, read once per call (S1).
        back_steps: how many past steps are accepted as well: 0, or 1 where a deployment says so.
        used_step: the step whose code the session last used, if any.
    """
    current, late = time_step(now), -back_steps - 1
    # All candidates are always compared, in constant time each (RFC 6238 §5.2).
    is_repeated = used_step is not None and _is_code_of(secret, code, used_step)
    offsets = [offset for offset in range(late, 2) if _is_code_of(secret, code, current + offset)]
    if is_repeated:
        return StepMatch(None, is_repeated=True)
    if late in offsets:
        return StepMatch(None, near_miss=-1)
    accepted = [offset for offset in offsets if offset <= 0]
    if accepted:
        return StepMatch(current + max(accepted))
    return StepMatch(None, near_miss=1 if offsets else 0)


def _is_code_of(secret: TotpSecret, code: OtpCode, step: int) -> bool:
    return hmac.compare_digest(_digits_at(secret, step), code.digits)


def _digits_at(secret: TotpSecret, step: int) -> str:
    """The six digits of a step (RFC 4226 §5.3); pyotp takes ten times as long to make them."""
    mac = hmac.digest(secret.octets, step.to_bytes(8, "big"), "sha1")
    offset = mac[-1] & 0xF
    truncated = int.from_bytes(mac[offset : offset + 4], "big") & 0x7FFFFFFF
    return f"{truncated % 1_000_000:06d}"


def key_uri(secret: TotpSecret, issuer: Label, account_name: Label) -> str:
    """The `otpauth://` URI of the Key URI format, percent-encoded (S12)."""
    return TOTP(secret.base32).provisioning_uri(name=account_name, issuer_name=issuer)
