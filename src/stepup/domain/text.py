"""Text that people chose: names, issuers, reasons, titles (S24).

The rules name their characters one by one. They take nothing from Python's Unicode database: what
one version of Python calls printable, another does not, and a new emoji is a name like any other.
"""

import re
from typing import ClassVar, Final, Self

from stepup.domain.errors import InvalidValueError

_UNFIT: Final = re.compile(
    "["
    "\u0000-\u001f\u007f-\u009f"  # control characters
    "\u2028\u2029"  # line and paragraph separator
    "\u202a-\u202e"  # bidirectional embeddings and overrides, UAX #9 §2.1 and §2.2
    "\u2066-\u2069"  # bidirectional isolates, UAX #9 §2.4
    "\ud800-\udfff"  # halves of surrogate pairs, which UTF-8 cannot hold
    "]"
)

BLANKS: Final = (
    # White_Space of the Unicode Character Database.
    "\u0020\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000"
    # Default_Ignorable_Code_Point: a screen shows nothing for them.
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2060-\u206f"
    "\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufff8"
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
    # A Braille cell without dots.
    "\u2800"
)
"""The invisible characters, as the inside of a character class of a regular expression."""

_BLANK: Final = re.compile(f"[{BLANKS}]*")


def has_unfit_character(value: str) -> bool:
    """Whether text has a control character, a line separator or a change of direction (S24)."""
    return _UNFIT.search(value) is not None


class HumanText(str):
    """Text that a person chose, kept as it is: 1 to `max_characters` Unicode code points (S24)."""

    __slots__ = ()
    max_characters: ClassVar[int] = 500

    def __new__(cls, value: str) -> Self:
        """Check the text.

        Raises:
            InvalidValueError: it is blank or too long, or has a control character, a line
                separator, or a bidirectional embedding, override or isolate.
        """
        if not value:
            raise InvalidValueError("is required")
        if len(value) > cls.max_characters:
            raise InvalidValueError(f"must be at most {cls.max_characters} characters")
        if has_unfit_character(value):
            raise InvalidValueError(
                "must have no control character, no line separator, and no bidirectional"
                " embedding, override or isolate"
            )
        if _BLANK.fullmatch(value):
            raise InvalidValueError("must not be blank")
        return super().__new__(cls, value)


class StatedReason(HumanText):
    """Why a person did what an audit event records."""

    __slots__ = ()
    max_characters = 512


class OperatorName(HumanText):
    """The name of an operator of the platform, as their own tools know them."""

    __slots__ = ()
    max_characters = 128


class OperatorReason(HumanText):
    """Why an operator of the platform acts."""

    __slots__ = ()
    max_characters = 500


class UserAgent(HumanText):
    """The User-Agent header of a person's device."""

    __slots__ = ()
    max_characters = 512


class Title(HumanText):
    """What a policy panel shows for a category or an operation."""

    __slots__ = ()
    max_characters = 200
