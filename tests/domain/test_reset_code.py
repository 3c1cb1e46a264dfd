"""The reset code: 128 bits, written for people (S8)."""

import random
import re
import unicodedata
from contextlib import suppress
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepup.domain.errors import InvalidValueError
from stepup.domain.reset_code import ResetCode

ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
OCTETS = bytes(range(16))
CODE = ResetCode(OCTETS)
SHOWN = "AAAQ-EAYE-AUDA-OCAJ-BIFQ-YDIO-B4RX"
OF_AN_EARLIER_RELEASE = "AAAQE-AYEAU-DAOCA-JBIFQ-YDIOB-4"
"""The same code without check characters."""

# ZIII-OBOB-... has an I, an O and a B.
READABLE = ResetCode(bytes.fromhex("ca108705c1705c1705c1705c1705c170"))


def characters_of(code):
    return code.text.replace("-", "")


def codes(number):
    """Codes of a fixed seed, each with other characters."""
    source = random.Random(28)  # noqa: S311  # no secret depends on it
    return [characters_of(ResetCode(source.randbytes(16))) for _ in range(number)]


def exchanged(text, first, second):
    characters = list(text)
    characters[first], characters[second] = characters[second], characters[first]
    return "".join(characters)


def test_a_code_is_shown_in_seven_groups_of_four():
    assert CODE.text == SHOWN


@given(st.binary(min_size=16, max_size=16))
def test_a_code_is_read_as_it_is_shown(octets):
    assert ResetCode.parse(ResetCode(octets).text) == ResetCode(octets)


@given(st.binary(min_size=16, max_size=16))
def test_a_code_is_shown_in_letters_and_digits_that_are_hard_to_confuse(octets):
    assert re.fullmatch(r"([A-Z2-7]{4}-){6}[A-Z2-7]{4}", ResetCode(octets).text)


def test_a_code_of_an_earlier_release_stays_valid():
    assert ResetCode.parse(OF_AN_EARLIER_RELEASE) == CODE


@pytest.mark.parametrize("shown", [SHOWN, OF_AN_EARLIER_RELEASE])
@pytest.mark.parametrize(
    "typed",
    [
        pytest.param(str.lower, id="lower case"),
        pytest.param(lambda text: text.replace("-", ""), id="no dashes"),
        pytest.param(lambda text: text.replace("-", " "), id="spaces"),
        pytest.param(lambda text: f"  {text}-", id="more than the code"),
        pytest.param(lambda text: f"\ufeff{text}\r\n", id="a line of a file"),
        pytest.param(lambda text: text.replace("-", "\u00a0\u2013\u3000"), id="a word processor"),
        pytest.param(lambda text: text.replace("-", "\u30fc"), id="a Japanese keyboard"),
        pytest.param(lambda text: text.replace("-", "\u00ad\u200b"), id="soft hyphens"),
        pytest.param(lambda text: f"\u202a{text}\u202c\u200e", id="changes of direction"),
    ],
)
def test_letter_case_white_space_and_dashes_do_not_matter(typed, shown):
    assert ResetCode.parse(typed(shown)) == CODE


@pytest.mark.parametrize(("typed", "meant"), ["0O", "1I", "8B"])
def test_a_digit_that_base32_does_not_have_counts_as_the_letter_that_it_looks_like(typed, meant):
    shown = READABLE.text
    assert meant in shown
    assert ResetCode.parse(shown.replace(meant, typed)) == READABLE
    assert ResetCode.parse(shown[:32].replace("-", "").replace(meant, typed)[:26]) == READABLE


def test_every_kind_of_white_space_and_dash_is_ignored():
    """The lists are our own. They have whatever Python's database of Unicode knows of the kind."""
    ignored = [
        chr(point)
        for point in range(0x110000)
        if chr(point).isspace() or unicodedata.category(chr(point)) == "Pd"
    ]
    assert len(ignored) > 50
    for character in ignored:
        assert ResetCode.parse(SHOWN.replace("-", character)) == CODE, ascii(character)


@pytest.mark.parametrize(
    "malformed",
    [
        pytest.param("", id="nothing"),
        pytest.param(SHOWN[:-1], id="a character less"),
        pytest.param(SHOWN + "A", id="a character more"),
        pytest.param(OF_AN_EARLIER_RELEASE[:-1], id="a character less than before"),
        pytest.param(SHOWN.replace("Q", "9"), id="a digit that looks like no letter"),
        pytest.param(SHOWN.replace("-", "_"), id="another separator"),
        pytest.param(SHOWN.replace("-", "\0"), id="a control character"),
        pytest.param(SHOWN.replace("I", "\u0131"), id="a letter that is I in upper case only"),
        pytest.param(SHOWN.replace("E", "\uff25"), id="full-width letters"),
        pytest.param("\u00df" + SHOWN[2:], id="one letter that is two in upper case"),
    ],
)
def test_other_text_is_no_code(malformed):
    with pytest.raises(InvalidValueError, match=r"^must be 28 letters and digits of base32, or 26"):
        ResetCode.parse(malformed)


@given(st.text())
def test_whatever_is_typed_is_a_code_or_refused(typed):
    with suppress(InvalidValueError):
        code = ResetCode.parse(typed)
        assert code is None or len(code.octets) == 16


def test_every_single_wrong_character_is_a_typing_error():
    for text in codes(20):
        for place, right in enumerate(text):
            for wrong in ALPHABET.replace(right, ""):
                assert ResetCode.parse(text[:place] + wrong + text[place + 1 :]) is None


def test_every_two_wrong_characters_are_a_typing_error():
    """The check is linear: one code stands for all. Each error of two characters, by sampling."""
    source = random.Random(32)  # noqa: S311  # as above
    [text] = codes(1)
    for first, second in combinations(range(28), 2):
        for _ in range(10):
            characters = list(text)
            for place in (first, second):
                characters[place] = source.choice(ALPHABET.replace(text[place], ""))
            assert ResetCode.parse("".join(characters)) is None


def test_every_exchange_of_neighbours_is_a_typing_error():
    """Each pair of characters of the alphabet, in each place of the 25 that hold any character."""
    for place in range(24):
        for first, second in combinations(ALPHABET, 2):
            data = "A" * place + first + second + "A" * (24 - place)
            code = ResetCode.parse(data)
            text = characters_of(code)
            assert text.startswith(data[:25])
            assert ResetCode.parse(exchanged(text, place, place + 1)) is None


def test_every_exchange_of_two_characters_is_a_typing_error():
    """Also across the check characters, and also of characters that are no neighbours."""
    exchanges = 0
    for text in codes(50):
        for first, second in combinations(range(28), 2):
            if text[first] != text[second]:
                exchanges += 1
                assert ResetCode.parse(exchanged(text, first, second)) is None
    assert exchanges > 10_000


def test_random_text_hardly_ever_has_fitting_check_characters():
    source = random.Random(1024)  # noqa: S311  # as above
    texts = ["".join(source.choices(ALPHABET, k=28)) for _ in range(20_000)]
    fitting = sum(ResetCode.parse(text) is not None for text in texts)
    # Two characters fit by chance, and two bits of the 26th are zero, in one text of 4096.
    assert 0 < fitting < 20


def test_a_fresh_code_has_128_bits():
    assert len(ResetCode.generate().octets) == 16
