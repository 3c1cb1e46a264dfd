"""The one recovery code of an enrollment: 128 random bits, written for people (S8)."""

import re
import secrets
from base64 import b32decode, b32encode
from dataclasses import dataclass

from stepup.domain.errors import InvalidValueError

RESET_CODE_BYTES = 16
_CHARACTERS = 26  # of base32, for 128 bits
_GROUP = 5


@dataclass(frozen=True, slots=True, repr=False)
class ResetCode:
    """A reset code. It never shows in a repr (S11)."""

    octets: bytes

    @classmethod
    def generate(cls) -> "ResetCode":
        """A fresh code from the system's random numbers."""
        return cls(secrets.token_bytes(RESET_CODE_BYTES))

    @classmethod
    def parse(cls, text: str) -> "ResetCode":
        """Read a code as a person typed it: letter case, spaces and dashes do not matter.

        Raises:
            InvalidValueError: it is not 26 characters of base32.
        """
        characters = re.sub(r"[ -]", "", text)
        # Before upper(), which makes ASCII of some letters that are not.
        if not re.fullmatch(rf"[A-Za-z2-7]{{{_CHARACTERS}}}", characters):
            raise InvalidValueError(f"must be {_CHARACTERS} letters and digits of base32")
        return cls(b32decode(characters.upper() + "======"))

    @property
    def text(self) -> str:
        """The code as it is shown: groups of five, `ABCDE-...`."""
        characters = b32encode(self.octets).decode().rstrip("=")
        return "-".join(
            characters[start : start + _GROUP] for start in range(0, len(characters), _GROUP)
        )
