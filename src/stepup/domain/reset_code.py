"""The one recovery code of an enrollment: 128 random bits, written for people (S8)."""

import re
import secrets
from base64 import b32decode, b32encode
from typing import Final

from stepup.domain.errors import InvalidValueError
from stepup.domain.text import BLANKS
from stepup.domain.values import secret_value

RESET_CODE_BYTES = 16
_DATA_CHARACTERS: Final = 26  # of base32, for 128 bits
_CHARACTERS: Final = 28
_GROUP: Final = 4

_ALPHABET: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
_VALUES: Final = {character: value for value, character in enumerate(_ALPHABET)}
_CODE: Final = re.compile(rf"[A-Z2-7]{{{_DATA_CHARACTERS}}}(?:[A-Z2-7]{{2}})?")

# Letters of either case, and the digits that look like a letter and that base32 does not have
# (RFC 4648 §6). A table, because upper() makes ASCII letters of some that are not.
_READ_AS: Final = str.maketrans("abcdefghijklmnopqrstuvwxyz018", "ABCDEFGHIJKLMNOPQRSTUVWXYZOIB")

_IGNORED: Final = re.compile(
    f"[{BLANKS}"
    "\t-\r\u001c-\u001f\u0085\u2028-\u202e"  # further white space, and changes of direction
    # What has the property Dash or Hyphen in the Unicode Character Database.
    "\u002d\u058a\u05be\u1400\u1806\u2010-\u2015\u2053\u207b\u208b\u2212\u2e17\u2e1a\u2e3a\u2e3b"
    "\u2e40\u2e5d\u301c\u3030\u30a0\u30fb\ufe31\ufe32\ufe58\ufe63\uff0d\uff65"
    "\U00010d6e\U00010ead"
    "\u30fc\uff70\u2043\u2500"  # what keyboards and word processors put for a dash
    "]"
)


@secret_value
class ResetCode:
    """A reset code. It never shows in a repr (S11)."""

    octets: bytes

    @classmethod
    def generate(cls) -> "ResetCode":
        """A fresh code from the system's random numbers."""
        return cls(secrets.token_bytes(RESET_CODE_BYTES))

    @classmethod
    def parse(cls, text: str) -> "ResetCode | None":
        """Read a code as a person typed or pasted it; None if it is mistyped.

        Letter case, white space, dashes and invisible characters do not matter; 0, 1 and 8 count as
        O, I and B. A code is mistyped when its check characters do not fit. That follows from the
        text alone, so that it helps nobody to guess. A code of an earlier release has 26 characters
        and no check characters.

        Raises:
            InvalidValueError: it has neither 28 nor 26 characters of base32.
        """
        characters = _IGNORED.sub("", text).translate(_READ_AS)
        if not _CODE.fullmatch(characters):
            raise InvalidValueError(
                f"must be {_CHARACTERS} letters and digits of base32, or {_DATA_CHARACTERS} if an"
                " earlier release issued it"
            )
        code = cls(b32decode(characters[:_DATA_CHARACTERS] + "======"))
        is_checked = len(characters) == _CHARACTERS
        return None if is_checked and characters != code._characters else code

    @property
    def text(self) -> str:
        """The code as it is shown: seven groups of four, `ABCD-...`."""
        return "-".join(
            self._characters[start : start + _GROUP] for start in range(0, _CHARACTERS, _GROUP)
        )

    @property
    def _characters(self) -> str:
        data = b32encode(self.octets).decode().rstrip("=")
        return data + _check_characters(data)


def _check_characters(data: str) -> str:
    """Two check characters: a Reed-Solomon code over GF(32), of distance 3.

    The characters are the coefficients of a polynomial over GF(2)[x] / (x^5 + x^2 + 1). With the
    check characters it is divisible by (X - 1)(X - x) = X^2 + (x + 1) X + x. Up to 31 characters,
    every change of one or two of them breaks that (the BCH bound), also an exchange of two.
    """
    high = low = 0
    for character in data:
        carried = _VALUES[character] ^ high
        times_x = carried << 1 ^ (0b100101 if carried & 0b10000 else 0)
        high, low = low ^ times_x ^ carried, times_x
    return _ALPHABET[high] + _ALPHABET[low]
