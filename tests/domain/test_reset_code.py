"""The reset code: 128 bits, written for people (S8)."""

import re
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepup.domain.errors import InvalidValueError
from stepup.domain.reset_code import ResetCode

OCTETS = bytes(range(16))
CODE = ResetCode(OCTETS)
SHOWN = "AAAQE-AYEAU-DAOCA-JBIFQ-YDIOB-4"


def test_a_code_is_shown_in_groups_of_five():
    assert CODE.text == SHOWN


@given(st.binary(min_size=16, max_size=16))
def test_a_code_is_read_as_it_is_shown(octets):
    assert ResetCode.parse(ResetCode(octets).text) == ResetCode(octets)


@given(st.binary(min_size=16, max_size=16))
def test_a_code_is_shown_in_letters_and_digits_that_are_hard_to_confuse(octets):
    assert re.fullmatch(r"([A-Z2-7]{5}-){5}[A-Z2-7]", ResetCode(octets).text)


@pytest.mark.parametrize(
    "typed",
    [
        SHOWN.lower(),
        SHOWN.replace("-", ""),
        SHOWN.replace("-", " "),
        SHOWN.replace("-", " - "),
        f"  {SHOWN}-",
        "aaaq EAYEAU-daocajbifqYDIOB4",
    ],
)
def test_letter_case_spaces_and_dashes_do_not_matter(typed):
    assert ResetCode.parse(typed) == CODE


@pytest.mark.parametrize(
    "malformed",
    [
        pytest.param("", id="nothing"),
        pytest.param(SHOWN[:-1], id="a character less"),
        pytest.param(SHOWN + "A", id="a character more"),
        pytest.param(SHOWN + "======", id="padding"),
        pytest.param(SHOWN + "\n", id="a newline"),
        pytest.param(SHOWN.replace("-", "\t"), id="tabs"),
        pytest.param(SHOWN.replace("-", "\u2013"), id="en dashes"),
        pytest.param(SHOWN.replace("-", "\u00a0"), id="no-break spaces"),
        pytest.param(SHOWN.replace("I", "1"), id="a digit that base32 does not have"),
        pytest.param(SHOWN.replace("I", "\u0131"), id="a letter that is I in upper case only"),
        pytest.param(SHOWN.replace("E", "\uff25"), id="full-width letters"),
        pytest.param("\u00df" + SHOWN[2:], id="one letter that is two in upper case"),
    ],
)
def test_other_text_is_no_code(malformed):
    with pytest.raises(InvalidValueError, match=r"^must be 26 letters and digits of base32$"):
        ResetCode.parse(malformed)


@given(st.text())
def test_whatever_is_typed_is_a_code_or_refused(typed):
    with suppress(InvalidValueError):
        assert len(ResetCode.parse(typed).octets) == 16


def test_a_fresh_code_has_128_bits():
    assert len(ResetCode.generate().octets) == 16


def test_every_fresh_code_is_another_one():
    assert len({ResetCode.generate() for _ in range(100)}) == 100
