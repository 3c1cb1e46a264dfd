"""Reads the keys of an issuer from a JWKS, in a file or on a web server (RFC 7517)."""

import http.client
import json
import ssl
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit

from cryptography.exceptions import UnsupportedAlgorithm
from joserfc.errors import JoseError
from joserfc.jwk import JWKRegistry, Key, KeySet
from joserfc.util import base64_to_int

from stepup.rpc.identity.timed_http import opener_until
from stepup.system import pem
from stepup.system.daemon_threads import await_within
from stepup.system.loopback import is_loopback

FETCH_SECONDS = 5.0
"""The longest time of a fetch, from the DNS query to the last byte of the document."""
MAX_DOCUMENT_BYTES = 256 * 1024
_CHUNK_BYTES = 16 * 1024
_MIN_RSA_BITS = 2048  # RFC 7518 §3.3
_ASYMMETRIC = ("RSA", "EC", "OKP")


class JwksError(Exception):
    """A source has no keys. The message completes "<source> ..." and quotes no content (S11)."""


class JwksSource(Protocol):
    """A place with the JWKS of an issuer. Its `str()` names it in logs, metrics and messages."""

    @property
    def refresh_seconds(self) -> float:
        """The age at which keys are fetched again, in seconds."""
        ...

    async def fetch(self) -> bytes:
        """Fetch the document, in bounded time and space.

        It MUST NOT block the event loop, MUST stop when it is cancelled, and MUST NOT delay the end
        of the process.

        Raises:
            JwksError: the document cannot be fetched.
        """
        ...


class JwksFile:
    """A JWKS in a file. To rotate keys, replace the file."""

    refresh_seconds = 5.0

    def __init__(self, path: Path) -> None:
        self._path = path

    def __str__(self) -> str:
        return str(self._path)

    async def fetch(self) -> bytes:
        return await _in_time(self._document)

    def check(self) -> None:
        """Check that the file has keys now.

        Raises:
            JwksError: the file cannot be read or has no usable key.
        """
        if not usable_keys(self._document()):
            raise JwksError("has no public key for signatures")

    def _document(self) -> bytes:
        return _limited(_read(self._path, "cannot be read"))


class JwksUrl:
    """A JWKS on a web server: an identity provider, or a Kubernetes API server.

    Args:
        url: an `https` URL. `http` is allowed on this machine only, because an attacker who changes
            the answer can sign tokens.
        ca_file: the PEM file of the authorities that certify the server; None trusts those of the
            system.
        bearer_token_file: the file of the token for the server; None sends no token. Each fetch
            reads this file and `ca_file`, because Kubernetes rotates both.

    Raises:
        ValueError: the URL has another scheme or no host, or contains a user.
    """

    refresh_seconds = 300.0

    def __init__(
        self, url: str, *, ca_file: Path | None = None, bearer_token_file: Path | None = None
    ) -> None:
        parts = urlsplit(url)
        if not parts.hostname or parts.username is not None:
            raise ValueError("must be a URL with a host, and without a user")
        if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback(parts.hostname)):
            raise ValueError("must be an https URL, or an http one on this machine")
        self._url = url
        # Without the query, which may contain an API key.
        self._name = f"{parts.scheme}://{parts.netloc}{parts.path}"
        self._ca_file = ca_file
        self._bearer_token_file = bearer_token_file

    def __str__(self) -> str:
        return self._name

    async def fetch(self) -> bytes:
        return await _in_time(self._ask)

    def _ask(self) -> bytes:
        request = urllib.request.Request(  # noqa: S310  # the scheme was checked
            self._url, headers={"Accept": "application/jwk-set+json, application/json"}
        )
        if self._bearer_token_file is not None:
            request.add_header("Authorization", f"Bearer {_token(self._bearer_token_file)}")
        opener = opener_until(
            time.monotonic() + FETCH_SECONDS,
            self._tls(),
            # A proxy between this machine and itself could read the token and replace the keys.
            uses_proxies=not is_loopback(urlsplit(self._url).hostname or ""),
        )
        try:
            with opener.open(request, timeout=FETCH_SECONDS) as response:
                return _document(response)
        except HTTPError as error:
            error.close()
            raise JwksError(f"answers with the status {error.code}") from None
        except URLError as error:
            untrusted = isinstance(error.reason, ssl.SSLCertVerificationError)
            problem = "has a certificate that is not trusted" if untrusted else "does not answer"
            if isinstance(error.reason, TimeoutError):
                problem = "does not answer in time"
            raise JwksError(problem) from None
        except TimeoutError:
            raise JwksError("does not answer in time") from None
        except OSError:
            raise JwksError("does not answer") from None
        except (http.client.HTTPException, ValueError):
            raise JwksError("does not answer in HTTP") from None

    def _tls(self) -> ssl.SSLContext:
        if self._ca_file is None:
            return ssl.create_default_context()
        try:
            return pem.context_trusting(pem.read(self._ca_file))
        except pem.PemError as error:
            raise JwksError(f"needs its ca_file, {self._ca_file}, which {error}") from None


async def _in_time(read: Callable[[], bytes]) -> bytes:
    try:
        return await await_within(FETCH_SECONDS, read)
    except TimeoutError:
        raise JwksError("does not answer in time") from None


def _document(response: http.client.HTTPResponse) -> bytes:
    document = b""
    while chunk := response.read1(_CHUNK_BYTES):
        document = _limited(document + chunk)
    return document


def _limited(document: bytes) -> bytes:
    if len(document) > MAX_DOCUMENT_BYTES:
        raise JwksError("has a document that is too large")
    return document


def _read(path: Path, problem: str) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MAX_DOCUMENT_BYTES + 1)
    except OSError:
        raise JwksError(problem) from None


def _token(path: Path) -> str:
    token = _read(path, "needs a bearer token file that cannot be read").strip()
    # Other characters could begin another header.
    if not token or not token.isascii() or not token.decode().isprintable():
        raise JwksError("needs a bearer token file that holds a token")
    return token.decode()


def usable_keys(document: bytes) -> KeySet:
    """The public keys for signatures in a JWKS; other keys are ignored (RFC 7517 §5).

    The result is empty if the issuer has withdrawn all keys.

    Raises:
        JwksError: the document is not a JWKS.
    """
    try:
        match json.loads(document):
            case {"keys": [*entries]}:
                keys = [key for entry in entries if (key := _usable(entry)) is not None]
            case _:
                raise JwksError("has no JWKS")
    except (ValueError, RecursionError):
        raise JwksError("has no JWKS") from None
    return KeySet(keys)


def _usable(entry: Any) -> Key | None:
    """The key if it may verify signatures, else None.

    A published symmetric or private key is not secret, so such keys never verify (RFC 8725 §3.2).
    """
    match entry:
        case {"kty": str(kind)} if kind in _ASYMMETRIC and "d" not in entry:
            pass
        case _:
            return None
    try:
        if entry.get("use", "sig") != "sig" or "verify" not in entry.get("key_ops", ["verify"]):
            return None
        # joserfc only warns about a short key.
        if kind == "RSA" and base64_to_int(entry["n"]).bit_length() < _MIN_RSA_BITS:
            return None
        key = JWKRegistry.import_key(entry)
        key.raw_value  # noqa: B018  # joserfc parses it at the first use: find its faults now
    except (JoseError, UnsupportedAlgorithm, KeyError, TypeError, ValueError):
        return None
    return key
