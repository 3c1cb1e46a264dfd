"""Where an issuer publishes its keys, and which of them can be used (RFC 7517)."""

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
"""How long a fetch may take, from the look-up of the name to the last byte of the document."""
MAX_DOCUMENT_BYTES = 256 * 1024
_CHUNK_BYTES = 16 * 1024
_MIN_RSA_BITS = 2048  # RFC 7518 §3.3
_ASYMMETRIC = ("RSA", "EC", "OKP")


class JwksError(Exception):
    """Keys cannot be had. The message completes "<source> ..." and has none of what was read."""


class JwksSource(Protocol):
    """A place that has an issuer's JWKS. Its `str()` names it in logs, metrics and messages."""

    @property
    def refresh_seconds(self) -> float:
        """How old the keys may get before they are fetched again."""
        ...

    async def fetch(self) -> bytes:
        """Fetch the document, without blocking the event loop, and in bounded time and space.

        It MUST stop waiting when it is cancelled, and MUST NOT keep the process from ending.

        Raises:
            JwksError: it cannot be had.
        """
        ...


class JwksFile:
    """A JWKS in a file; it is replaced to rotate keys."""

    def __init__(self, path: Path, refresh_seconds: float = 5.0) -> None:
        self._path = path
        self.refresh_seconds = refresh_seconds

    def __str__(self) -> str:
        return str(self._path)

    async def fetch(self) -> bytes:
        """Read the file.

        Raises:
            JwksError: it is missing, not readable or far too large, or its file system hangs.
        """
        return await _in_time(self._document)

    def check(self) -> None:
        """Demand that the file can be used as it is now.

        Raises:
            JwksError: it cannot be read, or has no key that can be used.
        """
        if not usable_keys(self._document()):
            raise JwksError("has no public key for signatures")

    def _document(self) -> bytes:
        return _limited(_read(self._path, "cannot be read"))


class JwksUrl:
    """A JWKS on a web server: an identity provider, or a Kubernetes API server.

    Args:
        url: `https`; `http` only on this machine, since whoever can alter the answer can sign
            tokens.
        ca_file: the authorities that may certify the server, in PEM; None for the system's.
        bearer_token_file: holds the token that the server demands; None when it demands none. It
            and `ca_file` are read at each fetch: Kubernetes rotates both.
        refresh_seconds: how old the keys may get before they are fetched again.

    Raises:
        ValueError: the URL is not such a one, or has a user or password in it.
    """

    def __init__(
        self,
        url: str,
        *,
        ca_file: Path | None = None,
        bearer_token_file: Path | None = None,
        refresh_seconds: float = 300.0,
    ) -> None:
        parts = urlsplit(url)
        if not parts.hostname or parts.username is not None:
            raise ValueError("must be a URL with a host, and without a user")
        if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback(parts.hostname)):
            raise ValueError("must be an https URL, or an http one on this machine")
        self._url = url
        # Without the query, which is where keys of APIs hide.
        self._name = f"{parts.scheme}://{parts.netloc}{parts.path}"
        self._ca_file = ca_file
        self._bearer_token_file = bearer_token_file
        self.refresh_seconds = refresh_seconds

    def __str__(self) -> str:
        return self._name

    async def fetch(self) -> bytes:
        """Ask the server.

        Raises:
            JwksError: it does not answer in time or in form, or is not to be trusted.
        """
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
            # To this machine, a proxy would read the token and could answer with its own keys.
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
    # Anything else could be a header of its own.
    if not token or not token.isascii() or not token.decode().isprintable():
        raise JwksError("needs a bearer token file that holds a token")
    return token.decode()


def usable_keys(document: bytes) -> KeySet:
    """The public keys for signatures in a JWKS; others are passed over (RFC 7517 §5).

    A JWKS without such a key is an answer, too: the issuer has withdrawn them all.

    Raises:
        JwksError: it is no JWKS.
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
    """The key, if it may verify signatures.

    Symmetric keys never do: what is published is no secret (RFC 8725 §3.2). Nor does a private key
    that somebody published, for the same reason.
    """
    match entry:
        case {"kty": str(kind)} if kind in _ASYMMETRIC and "d" not in entry:
            pass
        case _:
            return None
    try:
        if entry.get("use", "sig") != "sig" or "verify" not in entry.get("key_ops", ["verify"]):
            return None
        # Before joserfc sees it, which only warns.
        if kind == "RSA" and base64_to_int(entry["n"]).bit_length() < _MIN_RSA_BITS:
            return None
        key = JWKRegistry.import_key(entry)
        key.raw_value  # noqa: B018  # read when it is first used: its faults have to show now
    except (JoseError, UnsupportedAlgorithm, KeyError, TypeError, ValueError):
        return None
    return key
