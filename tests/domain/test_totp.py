"""A code is right in its own 30 seconds only (S1); the secret (S6) and its key URI (S12)."""

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, unquote, urlsplit

import mintotp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepup.domain.errors import InvalidValueError
from stepup.domain.totp import (
    Label,
    OtpCode,
    StepMatch,
    TotpSecret,
    code_at,
    key_uri,
    match,
    next_code_after,
    time_step,
)

RFC_SECRET = TotpSecret(b"12345678901234567890")
RFC_4226_APPENDIX_D = [
    "755224",
    "287082",
    "359152",
    "969429",
    "338314",
    "254676",
    "287922",
    "162583",
    "399871",
    "520489",
]
RFC_6238_APPENDIX_B = [
    (59, "94287082"),
    (1111111109, "07081804"),
    (1111111111, "14050471"),
    (1234567890, "89005924"),
    (2000000000, "69279037"),
    (20000000000, "65353130"),
]
MICROSECOND = timedelta(microseconds=1)
SECRETS = st.binary(min_size=20, max_size=20).map(TotpSecret)
INSTANTS = st.datetimes(
    datetime(2000, 1, 1),  # noqa: DTZ001 - hypothesis wants its bounds without a zone
    datetime(2100, 1, 1),  # noqa: DTZ001
    timezones=st.just(UTC),
)


def at(step, offset=timedelta()):
    return datetime.fromtimestamp(step * 30, UTC) + offset


def rfc_match(digits, step, back_steps=0):
    return match(RFC_SECRET, OtpCode(digits), at(step), back_steps)


@pytest.mark.parametrize(("counter", "digits"), list(enumerate(RFC_4226_APPENDIX_D)))
def test_the_codes_are_those_of_rfc_4226_appendix_d(counter, digits):
    assert code_at(RFC_SECRET, counter) == OtpCode(digits)


@pytest.mark.parametrize(("seconds", "eight_digits"), RFC_6238_APPENDIX_B)
def test_the_codes_of_rfc_6238_appendix_b_fit_at_their_times(seconds, eight_digits):
    now = datetime.fromtimestamp(seconds, UTC)

    assert match(RFC_SECRET, OtpCode(eight_digits[-6:]), now) == StepMatch(seconds // 30)


@given(SECRETS, INSTANTS)
def test_an_independent_authenticator_gives_codes_that_fit(secret, now):
    step = int(now.timestamp()) // 30

    found = match(secret, OtpCode(mintotp.hotp(secret.base32, step)), now)

    assert found == StepMatch(step)


@pytest.mark.parametrize("digits", ["123456", "000000", "999999", "000001"])
def test_a_code_is_six_ascii_digits_kept_as_typed(digits):
    assert OtpCode(digits).digits == digits


@pytest.mark.parametrize(
    "malformed",
    [
        pytest.param("", id="nothing"),
        pytest.param("12345", id="five digits"),
        pytest.param("1234567", id="seven digits"),
        pytest.param("123456\n", id="newline after"),
        pytest.param(" 123456", id="space before"),
        pytest.param("123456 ", id="space after"),
        pytest.param("12345a", id="letter"),
        pytest.param("-12345", id="sign"),
        pytest.param("\uff11\uff12\uff13\uff14\uff15\uff16", id="full-width digits"),
        pytest.param("12345\u0666", id="one Arabic-Indic digit"),
        pytest.param("123456\0", id="NUL"),
    ],
)
def test_anything_else_is_no_code(malformed):
    with pytest.raises(InvalidValueError, match=r"^must be exactly six ASCII digits$"):
        OtpCode(malformed)


@pytest.mark.parametrize(
    ("now", "step"),
    [
        (at(5, -MICROSECOND), 4),
        (at(5), 5),
        (at(5, timedelta(seconds=30) - MICROSECOND), 5),
        (at(5, timedelta(seconds=30)), 6),
    ],
)
def test_a_step_has_30_seconds_and_begins_on_the_half_minute(now, step):
    assert time_step(now) == step


def test_a_step_does_not_depend_on_the_time_zone():
    elsewhere = at(5).astimezone(datetime.fromisoformat("2026-03-01T12:00-05:45").tzinfo)

    assert time_step(elsewhere) == 5


@pytest.mark.parametrize(
    ("now", "found"),
    [
        (at(5, -MICROSECOND), StepMatch(None, near_miss=1)),
        (at(5), StepMatch(5)),
        (at(6, -MICROSECOND), StepMatch(5)),
        (at(6), StepMatch(None, near_miss=-1)),
    ],
)
def test_a_code_fits_its_own_step_to_the_microsecond(now, found):
    assert match(RFC_SECRET, OtpCode(RFC_4226_APPENDIX_D[5]), now) == found


@pytest.mark.parametrize(
    ("code_of", "found"),
    [
        (3, StepMatch(None)),
        (4, StepMatch(None, near_miss=-1)),
        (5, StepMatch(5)),
        (6, StepMatch(None, near_miss=1)),
        (7, StepMatch(None)),
    ],
)
def test_without_back_steps_a_neighbour_is_a_near_miss_and_refused(code_of, found):
    assert rfc_match(RFC_4226_APPENDIX_D[code_of], step=5) == found


@pytest.mark.parametrize(
    ("code_of", "found"),
    [
        (2, StepMatch(None)),
        (3, StepMatch(None, near_miss=-1)),
        (4, StepMatch(4)),
        (5, StepMatch(5)),
        (6, StepMatch(None, near_miss=1)),
    ],
)
def test_with_one_back_step_the_code_of_the_step_before_is_accepted_for_that_step(code_of, found):
    assert rfc_match(RFC_4226_APPENDIX_D[code_of], step=5, back_steps=1) == found


# The RFC's secret has the code 617002 both for step 56188870 and for step 56188871.
def test_a_code_that_fits_two_accepted_steps_is_accepted_for_the_later_one():
    assert rfc_match("617002", 56188871, back_steps=1) == StepMatch(56188871)


def test_s22_a_late_code_is_refused_though_the_present_step_has_the_same():
    """It costs no attempt, so that it must not be one that could be accepted."""
    assert rfc_match("617002", 56188871) == StepMatch(None, near_miss=-1)


def test_a_code_that_fits_this_step_and_the_next_is_no_near_miss():
    assert rfc_match("617002", 56188870) == StepMatch(56188870, near_miss=0)


@pytest.mark.parametrize("now", [at(5), at(6), at(7), at(5000)])
@pytest.mark.parametrize("back_steps", [0, 1])
def test_s22_the_code_that_the_session_last_used_is_repeated_whenever_it_comes(now, back_steps):
    code = OtpCode(RFC_4226_APPENDIX_D[5])
    found = match(RFC_SECRET, code, now, back_steps, used_step=5)
    assert found == StepMatch(None, is_repeated=True)


def test_s22_another_code_than_the_used_one_is_not_repeated():
    code = OtpCode(RFC_4226_APPENDIX_D[6])
    assert match(RFC_SECRET, code, at(6), used_step=5) == StepMatch(6)


def test_s22_a_repeated_code_is_refused_though_the_present_step_has_the_same():
    found = match(RFC_SECRET, OtpCode("617002"), at(56188871), 1, used_step=56188870)
    assert found == StepMatch(None, is_repeated=True)


@pytest.mark.parametrize(
    ("now", "wait"),
    [
        (at(5), timedelta(seconds=30)),
        (at(5, MICROSECOND), timedelta(seconds=30) - MICROSECOND),
        (at(6, -MICROSECOND), MICROSECOND),
    ],
)
def test_s22_the_next_code_begins_with_the_next_step(now, wait):
    assert next_code_after(now) == wait


def test_a_secret_is_typed_as_32_characters_of_base32():
    assert RFC_SECRET.base32 == "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"


@given(SECRETS)
def test_a_secret_is_read_as_it_is_typed(secret):
    assert TotpSecret.from_base32(secret.base32) == secret


@pytest.mark.parametrize("size", [16, 20, 64])
def test_a_secret_of_another_program_has_128_to_512_bits(size):
    secret = TotpSecret(b"x" * size)
    assert TotpSecret.from_base32(secret.base32) == secret
    assert "=" not in secret.base32


@pytest.mark.parametrize("size", [0, 15, 65])
def test_a_shorter_or_longer_secret_is_refused(size):
    with pytest.raises(InvalidValueError, match=r"^must be 16 to 64 bytes$"):
        TotpSecret(b"x" * size)


@pytest.mark.parametrize("text", ["1" * 32, "A" * 33, "A" * 26 + "=", "\u00e9" * 32])
def test_s11_what_is_not_base32_is_refused_without_the_text(text):
    with pytest.raises(InvalidValueError, match=r"^must be base32$"):
        TotpSecret.from_base32(text)


def test_a_fresh_secret_has_160_bits():
    assert len(TotpSecret.generate().octets) == 20


def test_every_fresh_secret_is_another_one():
    assert len({TotpSecret.generate() for _ in range(100)}) == 100


@pytest.mark.parametrize(
    "text", ["ada@acme.example", "A", "x" * 128, "\u00e9" * 64, "R&D / caf\u00e9 100%"]
)
def test_a_label_is_kept_as_it_is(text):
    assert Label(text) == text


@pytest.mark.parametrize("size", ["x" * 129, "\u00e9" * 65, "\ud800" * 43])
def test_a_label_has_at_most_128_bytes_of_utf_8(size):
    with pytest.raises(InvalidValueError, match=r"^must be at most 128 bytes of UTF-8$"):
        Label(size)


@pytest.mark.parametrize("character", [":", "\n", "\0", "\x1f", "\x7f", "\u0085", "\u202e"])
def test_a_colon_or_a_control_character_in_a_label_is_refused(character):
    with pytest.raises(InvalidValueError, match=r"^must have no (colon$|control character)"):
        Label(f"ada{character}lovelace")


def test_a_key_uri_is_what_authenticator_apps_read():
    assert key_uri(RFC_SECRET, Label("Acme Security"), Label("ada@acme.example")) == (
        "otpauth://totp/Acme%20Security:ada%40acme.example"
        "?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ&issuer=Acme%20Security"
    )


def is_label(text):
    with suppress(InvalidValueError):
        return bool(Label(text))
    return False


@given(
    *[
        st.text(st.characters(codec="utf-8", exclude_characters=":"), min_size=1, max_size=20)
        .filter(is_label)
        .map(Label)
    ]
    * 2
)
def test_no_label_breaks_out_of_its_place_in_a_key_uri(issuer, account_name):
    uri = urlsplit(key_uri(RFC_SECRET, issuer, account_name))

    assert (uri.scheme, uri.netloc, uri.fragment) == ("otpauth", "totp", "")
    assert unquote(uri.path) == f"/{issuer}:{account_name}"
    assert parse_qs(uri.query, strict_parsing=True) == {
        "secret": [RFC_SECRET.base32],
        "issuer": [issuer],
    }
