"""Text that people chose: what is refused, and nothing beyond (S24)."""

import unicodedata

import pytest

from stepup.domain.errors import InvalidValueError
from stepup.domain.text import HumanText, StatedReason, Title
from stepup.domain.totp import Label


class LongText(HumanText):
    """Holds every character at once."""

    max_characters = 0x110000


UNFIT = {
    *map(chr, range(0x20)),
    *map(chr, range(0x7F, 0xA0)),
    *"\u2028\u2029",
    *"\u202a\u202b\u202c\u202d\u202e",
    *"\u2066\u2067\u2068\u2069",
    *map(chr, range(0xD800, 0xE000)),
}
TEXTS = {
    "a name with an ideographic space": "山田\u3000太郎",
    "a Persian name with a zero-width non-joiner": "\u0639\u0644\u06cc\u200c\u0631\u0636\u0627",
    "a Sinhala name with a zero-width joiner": "ශ්\u200dරී",
    "a no-break space": "Jean\u00a0Dupont",
    "a family in one emoji": "\U0001f468\u200d\U0001f469\u200d\U0001f467",
    "an emoji of Unicode 15": "\U0001fae8",
    "an emoji of Unicode 16": "\U0001fae9",
    "a code point without a character": "x\u0378",
    "a character for private use": "\ue000",
    "the flag of Scotland, of tag characters": (
        "\U0001f3f4\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f"
    ),
    "a soft hyphen": "Donau\u00addampfer",
    "marks of direction": "\u200f\u05e9\u05dc\u05d5\u05dd\u200e",
    "blanks around it": " Ada ",
    "a combining mark": "Zoe\u0308",
}
BLANKS = {
    "spaces": "   ",
    "no-break spaces": "\u00a0\u202f",
    "ideographic spaces": "\u3000\u3000",
    "every width of space": "".join(map(chr, range(0x2000, 0x200B))),
    "zero-width spaces and joiners": "\u200b\u200c\u200d\u2060",
    "a byte-order mark": "\ufeff",
    "a soft hyphen": "\u00ad",
    "Hangul fillers": "\u3164\u115f\u1160\uffa0",
    "an empty Braille cell": "\u2800",
    "variation selectors": "\ufe0f\U000e0100",
    "marks of direction": "\u200e\u200f\u061c",
}


@pytest.mark.parametrize("kind", [Label, StatedReason, Title])
@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_s24_what_people_write_is_kept_as_it_is(kind, text):
    assert kind(text) == text


@pytest.mark.parametrize("kind", [Label, StatedReason, Title])
@pytest.mark.parametrize("text", BLANKS.values(), ids=BLANKS)
def test_s24_blank_text_is_refused(kind, text):
    with pytest.raises(InvalidValueError, match=r"^must not be blank$"):
        kind(text)


@pytest.mark.parametrize("kind", [Label, StatedReason, Title])
def test_s24_no_text_is_missing_text(kind):
    with pytest.raises(InvalidValueError, match=r"^is required$"):
        kind("")


def test_s24_controls_line_separators_and_changes_of_direction_are_refused():
    for character in UNFIT:
        with pytest.raises(InvalidValueError, match=r"^must have no control character,"):
            HumanText(f"a{character}b")


def test_s24_no_other_character_is_refused():
    others = "".join(chr(point) for point in range(0x110000) if chr(point) not in UNFIT)
    assert LongText(others) == others


def test_every_blank_that_this_python_knows_is_blank():
    """The list of blanks is our own. It has whatever Unicode's database here calls a space."""
    for point in range(0x110000):
        character = chr(point)
        if unicodedata.category(character) == "Zs":
            with pytest.raises(InvalidValueError, match=r"^must not be blank$"):
                HumanText(character)


@pytest.mark.parametrize(("kind", "most"), [(StatedReason, 512), (Title, 200)])
def test_a_length_is_counted_in_characters(kind, most):
    text = "\U0001f510" * most
    assert kind(text) == text
    with pytest.raises(InvalidValueError, match=rf"^must be at most {most} characters$"):
        kind(f"{text}x")
