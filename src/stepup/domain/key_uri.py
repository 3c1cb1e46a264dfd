"""Reads key URIs, `otpauth://`, which other programs wrote: the authenticators of imports.

The Key URI format says what the parameters mean. A parameter that is not known is refused, because
it may change the codes. No error has a part of the URI: any part may be the secret (S11).
"""

from dataclasses import field
from typing import Final, NoReturn
from urllib.parse import parse_qsl, unquote, urlsplit

from stepup.domain.errors import InvalidValueError
from stepup.domain.totp import MIN_SECRET_BYTES, STEP_SECONDS, TotpSecret, octets_of_base32
from stepup.domain.values import secret_value

MAX_KEY_URI_CHARACTERS: Final = 2048
_SUPPORTED: Final = {"algorithm": "SHA1", "digits": "6", "period": str(STEP_SECONDS)}
"""The only value of each parameter that changes codes, which is also its default."""
_SHOWN: Final = {"issuer", "image"}
"""Parameters that apps show, and that change no code."""


class UnsupportedKeyError(InvalidValueError):
    """An authenticator gives codes of another kind than the service verifies."""


class WeakSecretError(InvalidValueError):
    """A secret has fewer than 128 bits."""


@secret_value
class KeyUri:
    """An existing authenticator. It never shows in a repr (S11).

    `account` and `issuer` are what apps show, as the URI has them; each may be empty.
    """

    secret: TotpSecret
    account: str = field(default="")
    issuer: str = field(default="")

    @classmethod
    def parse(cls, text: str) -> "KeyUri":
        """Read a key URI.

        Raises:
            UnsupportedKeyError: the type, algorithm, number of digits, period or length of the
                secret is another, or a parameter is not known.
            WeakSecretError: the secret has fewer than 128 bits.
            InvalidValueError: the text is not a key URI.
        """
        if len(text) > MAX_KEY_URI_CHARACTERS:
            raise InvalidValueError(f"must be at most {MAX_KEY_URI_CHARACTERS} characters")
        kind, label, query = _parts(text)
        if kind != "totp":
            _refuse_kind(kind)
        parameters = _parameters(query)
        for name, supported in _SUPPORTED.items():
            if parameters.pop(name, supported).upper() != supported:
                raise UnsupportedKeyError(f"must have {name} {supported}")
        secret = _secret(parameters.pop("secret", ""))
        if not parameters.keys() <= _SHOWN:
            raise UnsupportedKeyError("has a parameter that is not known: it may change the codes")
        return cls.labelled(secret, label, parameters.get("issuer", ""))

    @classmethod
    def labelled(cls, secret: TotpSecret, label: str, issuer: str) -> "KeyUri":
        """A secret with a label, `ISSUER:ACCOUNT` or `ACCOUNT`, and an issuer or an empty text."""
        before, colon, after = label.partition(":")
        of_label, account = (before, after) if colon else ("", before)
        return cls(secret, account.strip(), issuer or of_label.strip())

    @property
    def shortest(self) -> str:
        """The key URI of the same secret without its labels."""
        return f"otpauth://totp/?secret={self.secret.base32}"


def secret_of(octets: bytes) -> TotpSecret:
    """The secret of an existing authenticator.

    Raises:
        WeakSecretError: it has fewer than 128 bits.
        UnsupportedKeyError: it has more than 512 bits.
    """
    if len(octets) < MIN_SECRET_BYTES:
        raise WeakSecretError(f"must have a secret of at least {MIN_SECRET_BYTES * 8} bits")
    try:
        return TotpSecret(octets)
    except InvalidValueError as error:
        raise UnsupportedKeyError(f"has a secret that {error}") from error


def _parts(text: str) -> tuple[str, str, str]:
    """The type, the label and the query."""
    # urlsplit() leaves out line breaks and tabs, and would read another secret than an app.
    has_controls = any(character < " " or character == "\x7f" for character in text)
    try:
        parts = urlsplit(text)
        label = unquote(parts.path.removeprefix("/"), errors="strict")
    except ValueError:  # `from None`: the error of the library has the text
        raise _malformed() from None
    if has_controls or "#" in text or parts.scheme != "otpauth" or not parts.netloc:
        raise _malformed()
    return parts.netloc.lower(), label, parts.query


def _parameters(query: str) -> dict[str, str]:
    if not query:  # Python versions differ
        return {}
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=True, errors="strict")
    except ValueError:  # as above
        raise _malformed() from None
    parameters = dict(pairs)
    if len(parameters) < len(pairs):
        raise InvalidValueError("must have each parameter once")
    return parameters


def _secret(base32: str) -> TotpSecret:
    if not base32:
        raise InvalidValueError("must have a secret")
    try:
        octets = octets_of_base32(base32)
    except InvalidValueError:
        raise InvalidValueError("must have a secret in base32") from None
    return secret_of(octets)


def _refuse_kind(kind: str) -> NoReturn:
    if kind == "hotp":
        raise UnsupportedKeyError("must have the type totp, not hotp: its codes have no time")
    raise UnsupportedKeyError("must have the type totp")


def _malformed() -> InvalidValueError:
    return InvalidValueError("must be otpauth://totp/LABEL?secret=BASE32")
