"""Key URIs of other programs: what is read, and what is refused, by name and without the secret."""

from contextlib import suppress
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepup.domain.errors import InvalidValueError
from stepup.domain.key_uri import KeyUri, UnsupportedKeyError, WeakSecretError
from stepup.domain.totp import Label, TotpSecret, key_uri

OCTETS = bytes(range(1, 21))
BASE32 = TotpSecret(OCTETS).base32
WEAK = "AEBAGBAFAYDQQCIKBMGA2DQP"  # 15 bytes


def uri(label="Acme:alice", kind="totp", **parameters):
    """A key URI with a secret, and with further parameters or others."""
    query = "&".join(f"{name}={text}" for name, text in ({"secret": BASE32} | parameters).items())
    return f"otpauth://{kind}/{label}?{query}"


@given(
    st.binary(min_size=16, max_size=64),
    st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1, max_size=40),
)
def test_what_this_service_writes_is_read(octets, account):
    read = KeyUri.parse(key_uri(TotpSecret(octets), Label("Acme"), Label(account)))
    assert (read.secret.octets, read.account, read.issuer) == (octets, account, "Acme")


@pytest.mark.parametrize(
    "secret", [BASE32, BASE32.lower(), TotpSecret(OCTETS + b"\x15").base32, "GE" * 13 + "======"]
)
def test_a_secret_is_base32_in_either_case_with_padding_or_without(secret):
    assert KeyUri.parse(uri(secret=secret)).secret == TotpSecret.from_base32(secret)


@pytest.mark.parametrize(
    "parameters",
    [
        {"algorithm": "SHA1", "digits": "6", "period": "30"},
        {"algorithm": "sha1"},
        {"issuer": "Acme", "image": "https%3A%2F%2Facme.example%2Flogo.png"},
        {"kind": "TOTP"},
    ],
)
def test_defaults_may_be_named(parameters):
    assert KeyUri.parse(uri(**parameters)).secret.octets == OCTETS


@pytest.mark.parametrize(
    ("label", "issuer", "account", "shown_issuer"),
    [
        ("alice", "", "alice", ""),
        ("Acme:alice", "", "alice", "Acme"),
        ("Acme%3A%20alice%40acme.example", "", "alice@acme.example", "Acme"),
        ("Old:alice", "Acme+Ltd", "alice", "Acme Ltd"),
        ("", "", "", ""),
        ("J%C3%B6rg", "", "Jörg", ""),
        ("Acme Ltd:Jörg", "", "Jörg", "Acme Ltd"),
    ],
)
def test_the_label_names_the_account(label, issuer, account, shown_issuer):
    read = KeyUri.parse(uri(label, **({"issuer": issuer} if issuer else {})))
    assert (read.account, read.issuer) == (account, shown_issuer)


REFUSED = {
    "counters": (uri(kind="hotp", counter="0"), UnsupportedKeyError, "hotp"),
    "another type": (uri(kind="steam"), UnsupportedKeyError, "type totp"),
    "SHA-256": (uri(algorithm="SHA256"), UnsupportedKeyError, "algorithm SHA1"),
    "an empty algorithm": (uri(algorithm=""), UnsupportedKeyError, "algorithm SHA1"),
    "eight digits": (uri(digits="8"), UnsupportedKeyError, "digits 6"),
    "digits in another script": (uri(digits="%D9%A6"), UnsupportedKeyError, "digits 6"),
    "a minute": (uri(period="60"), UnsupportedKeyError, "period 30"),
    "an unknown parameter": (uri(encoder="steam"), UnsupportedKeyError, "not known"),
    "a counter": (uri(counter="1"), UnsupportedKeyError, "not known"),
    "65 bytes": (uri(secret="A" * 104), UnsupportedKeyError, "16 to 64 bytes"),
    "15 bytes": (uri(secret=WEAK), WeakSecretError, "128 bits"),
    "no secret": (uri(secret=""), InvalidValueError, "must have a secret"),
    "no parameters": ("otpauth://totp/alice", InvalidValueError, "must have a secret"),
    "no base32": (uri(secret=BASE32[:-1] + "1"), InvalidValueError, "base32"),
    "half of the padding": (uri(secret="GE" * 13 + "==="), InvalidValueError, "base32"),
    "padding inside": (uri(secret="GEZA====" * 4), InvalidValueError, "base32"),
    "a letter that is not ASCII": (
        uri(secret=quote("\u017f" + BASE32[1:])),
        InvalidValueError,
        "base32",
    ),
    "two secrets": (uri() + f"&secret={BASE32}", InvalidValueError, "once"),
    "another scheme": (uri().replace("otpauth", "https"), InvalidValueError, "must be otpauth:"),
    "no URI": (BASE32, InvalidValueError, "must be otpauth:"),
    "nothing": ("", InvalidValueError, "must be otpauth:"),
    "a fragment": (uri("a#b"), InvalidValueError, "must be otpauth:"),
    "an empty fragment": (uri() + "#", InvalidValueError, "must be otpauth:"),
    "no type": (uri(kind=""), InvalidValueError, "must be otpauth:"),
    "a line break": (uri() + "\n", InvalidValueError, "must be otpauth:"),
    "a tab in the secret": (uri(secret="\t" + BASE32), InvalidValueError, "must be otpauth:"),
    "half an address": (uri().replace("totp", "[totp"), InvalidValueError, "must be otpauth:"),
    "an octet that is not UTF-8": (uri("%FF"), InvalidValueError, "must be otpauth:"),
    "such an issuer": (uri(issuer="%FF"), InvalidValueError, "must be otpauth:"),
    "a parameter without a value": (uri() + f"&{BASE32}", InvalidValueError, "must be otpauth:"),
    "2,049 characters": (uri("a" * 2048), InvalidValueError, "2048 characters"),
}


@pytest.mark.parametrize(("text", "error", "named"), REFUSED.values(), ids=REFUSED)
def test_everything_else_is_refused_by_name(text, error, named):
    with pytest.raises(error, match=named) as refused:
        KeyUri.parse(text)
    assert type(refused.value) is error


@pytest.mark.parametrize(("text", "error", "_"), REFUSED.values(), ids=REFUSED)
def test_s11_no_refusal_has_a_part_of_the_secret(text, error, _):
    with pytest.raises(error) as refused:
        KeyUri.parse(text)
    chain, each = [], refused.value
    while each is not None:
        chain.append(repr(each))
        each = each.__cause__ or (None if each.__suppress_context__ else each.__context__)
    assert not any(part in "".join(chain) for part in (BASE32[:8], WEAK[:8], "GEGE"))


@given(
    st.sampled_from(["", "otpauth://", "otpauth://totp/", f"{uri()}&", "otpauth://["]), st.text()
)
def test_s18_no_text_is_more_than_refused(beginning, text):
    with suppress(InvalidValueError):
        KeyUri.parse(beginning + text)


def test_the_shortest_uri_has_the_same_secret():
    read = KeyUri.parse(KeyUri.parse(uri()).shortest)
    assert (read.secret.octets, read.account, read.issuer) == (OCTETS, "", "")


def test_s11_a_key_uri_never_shows_in_a_repr():
    read = KeyUri.parse(uri())
    assert BASE32 not in repr(read)
    assert "alice" not in repr(read)
