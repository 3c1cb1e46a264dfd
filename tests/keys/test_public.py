"""The key ring signs exported heads; auditors check them with the public key alone (S14)."""

from base64 import b64encode

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from stepup.keys.public import PublicKeyError, parse, signature_problem, to_pem
from stepup.keys.ring import KeyRing, KeyRingError

RING = KeyRing("new", {"old": bytes(32), "new": bytes([1]) * 32})
PUBLIC_KEY = RING.head_public_key("new")


def test_s14_what_the_primary_key_signs_its_public_key_knows():
    assert signature_problem(PUBLIC_KEY, RING.sign_head(b"heads"), b"heads") is None


@pytest.mark.parametrize(
    ("public_key", "message"),
    [(PUBLIC_KEY, b"other heads"), (RING.head_public_key("old"), b"heads")],
    ids=["another message", "another key"],
)
def test_s14_a_signature_is_of_one_key_and_one_message(public_key, message):
    assert signature_problem(public_key, RING.sign_head(b"heads"), message)


def test_s14_anything_else_is_no_signature():
    assert signature_problem(PUBLIC_KEY, b"", b"heads")


def test_the_signing_key_serves_nothing_else():
    """It is derived for its purpose: a change here would make files that exist unverifiable."""
    assert PUBLIC_KEY.hex() == ("e1631a80c9e01db854dbeadce1df6ab3372a7ae49a537562700f1a4052865f84")


def test_a_key_that_is_not_in_the_ring_has_no_public_key():
    with pytest.raises(KeyRingError, match="the key ring has no key with this id"):
        RING.head_public_key("gone")


@pytest.mark.parametrize(
    "write",
    [lambda key: to_pem(key).encode(), b64encode, lambda key: b64encode(key) + b"\n"],
    ids=["PEM", "base64", "base64 with a line's end"],
)
def test_a_public_key_is_read_in_either_form(write):
    assert parse(write(PUBLIC_KEY)) == PUBLIC_KEY


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"no key",
        b"\xff",
        b64encode(bytes(31)),
        b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
        generate_private_key(SECP256R1())
        .public_key()
        .public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
    ],
    ids=["nothing", "no base64", "no text", "too short", "broken PEM", "another kind"],
)
def test_what_is_no_public_key_is_refused(text):
    with pytest.raises(PublicKeyError, match="must be an Ed25519 public key"):
        parse(text)
