"""Time-based one-time codes (RFC 6238): one code, one time step."""

import re
import secrets
from base64 import b32decode, b32encode
from dataclasses import dataclass
from datetime import UTC, datetime
from hmac import compare_digest
from typing import Self

from pyotp import TOTP

from stepup.domain.errors import InvalidValueError
from stepup.domain.text import HumanText

STEP_SECONDS = 30
SECRET_BYTES = 20
"""160 bits, with SHA-1 and six digits: what every authenticator app supports (S6, RFC 4226 R6)."""

MAX_LABEL_BYTES = 128

# [0-9], not \d: full-width and other digits of Unicode are no code.
_CODE = re.compile(r"[0-9]{6}")


@dataclass(frozen=True, slots=True, repr=False)
class OtpCode:
    """A code as the person typed it: exactly six ASCII digits. It never shows in a repr (S11).

    Raises:
        InvalidValueError: it is anything else; nothing is trimmed.
    """

    digits: str

    def __post_init__(self) -> None:
        if not _CODE.fullmatch(self.digits):
            raise InvalidValueError("must be exactly six ASCII digits")


@dataclass(frozen=True, slots=True, repr=False)
class TotpSecret:
    """The shared secret of one authenticator: 160 bits. It never shows in a repr (S11)."""

    octets: bytes

    def __post_init__(self) -> None:
        if len(self.octets) != SECRET_BYTES:
            raise InvalidValueError(f"must be {SECRET_BYTES} bytes")

    @classmethod
    def generate(cls) -> "TotpSecret":
        """A fresh secret from the system's random numbers."""
        return cls(secrets.token_bytes(SECRET_BYTES))

    @classmethod
    def from_base32(cls, text: str) -> "TotpSecret":
        """The secret as an authenticator app reads it."""
        return cls(b32decode(text))

    @property
    def base32(self) -> str:
        """The secret for typing: 32 characters."""
        return b32encode(self.octets).decode()


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


@dataclass(frozen=True, slots=True)
class StepMatch:
    """Where a code fits.

    `step` is the time step that it is accepted for, None when it is wrong. `near_miss` is how many
    steps it lies off when it would fit the step just before (-1) or after (+1): for a metric that
    tells clock trouble from guessing, never for acceptance.
    """

    step: int | None
    near_miss: int = 0


def time_step(now: datetime) -> int:
    """The number of the 30-second step that an instant lies in (RFC 6238 §4.2)."""
    return int(now.timestamp()) // STEP_SECONDS


def end_of_step(step: int) -> datetime:
    """The first instant after a step."""
    return datetime.fromtimestamp((step + 1) * STEP_SECONDS, UTC)


def code_at(secret: TotpSecret, step: int) -> OtpCode:
    """The code that an authenticator app shows in a time step."""
    return OtpCode(TOTP(secret.base32, interval=STEP_SECONDS).generate_otp(step))


def match(secret: TotpSecret, code: OtpCode, now: datetime, back_steps: int = 0) -> StepMatch:
    """Find the time step that a code belongs to.

    Args:
        secret: the authenticator's secret.
        code: what the person typed.
        now: when it was received, by the server's clock, read once per call (S1).
        back_steps: how many past steps are accepted as well: 0, or 1 where a deployment says so.
    """
    current = time_step(now)
    # All candidates are always compared, in constant time each (RFC 6238 §5.2).
    offsets = [
        offset
        for offset in (-1, 0, 1)
        if compare_digest(code_at(secret, current + offset).digits, code.digits)
    ]
    accepted = [offset for offset in offsets if -back_steps <= offset <= 0]
    if accepted:
        return StepMatch(current + max(accepted))
    return StepMatch(None, offsets[0] if offsets else 0)


def key_uri(secret: TotpSecret, issuer: Label, account_name: Label) -> str:
    """The `otpauth://` URI of the Key URI format, percent-encoded (S12)."""
    return TOTP(secret.base32).provisioning_uri(name=account_name, issuer_name=issuer)
