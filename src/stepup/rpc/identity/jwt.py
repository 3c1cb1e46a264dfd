"""Identifies callers by a JWT of a configured issuer, in the `authorization` metadata (S15).

RFC 7519 defines JWTs, RFC 8725 lists their pitfalls. The service account tokens of Kubernetes are
JWTs with the subject `system:serviceaccount:<namespace>:<name>`.
"""

import asyncio
import math
import re
from collections import OrderedDict
from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final, NoReturn

from joserfc import jws
from joserfc.errors import InvalidKeyIdError, JoseError
from joserfc.jwk import KeySet
from joserfc.util import urlsafe_b64decode

from stepup.domain.errors import CallerUnauthenticatedError, StoreUnavailableError
from stepup.domain.text import has_unfit_character
from stepup.rpc.engine import Invocation
from stepup.rpc.engine.waiting import NetworkShare
from stepup.rpc.identity.trusted_keys import TrustedKeys
from stepup.service.ports import Clock
from stepup.system.json_texts import strict_json

MAX_TOKEN_BYTES = 8 * 1024
MAX_SUBJECT_BYTES = 255  # OpenID Connect Core §2
MAX_VERIFIED_TOKENS = 4096
MAX_WAITING = 64
"""How many of the 1,000 calls in flight may wait for the keys of issuers."""
MAX_WAITING_OF_NETWORK = 16
LEEWAY_SECONDS = 30.0
"""How far the clock of an issuer may be ahead. An expired token has no leeway."""
ALGORITHMS: Final = frozenset(
    {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}
    | {"ES256", "ES384", "ES512", "EdDSA", "Ed25519"}
)
"""The algorithms that can be allowed. None is symmetric, because then a verifier could sign."""
DEFAULT_ALGORITHMS: Final = frozenset({"RS256", "PS256", "ES256", "ES384", "EdDSA", "Ed25519"})

_COMPACT = re.compile(r"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.[A-Za-z0-9_-]*")
# RFC 8725 §3.11: ID tokens, logout tokens and DPoP proofs of an issuer are not access tokens.
_TYPES = frozenset({"", "jwt", "at+jwt"})


@dataclass(frozen=True, slots=True)
class Issuer:
    """An issuer whose tokens are accepted.

    Args:
        name: the `iss` claim, compared byte by byte.
        audiences: names of this service; the `aud` claim must have one of them.
        keys: the keys of the issuer.
        algorithms: the algorithms that its tokens may have.

    Raises:
        ValueError: the name is empty or contains a `#`, no audience or algorithm is given, or an
            algorithm is not one of `ALGORITHMS`.
    """

    name: str
    audiences: frozenset[str]
    keys: TrustedKeys
    algorithms: frozenset[str] = DEFAULT_ALGORITHMS

    def __post_init__(self) -> None:
        if not self.name or "#" in self.name:
            raise ValueError("an issuer must be named, without a #")
        if has_unfit_character(self.name):
            raise ValueError("an issuer's name must have no control characters")
        if not self.audiences or "" in self.audiences:
            raise ValueError("an issuer must have audiences")
        if not self.algorithms or not self.algorithms <= ALGORITHMS:
            raise ValueError(f"algorithms must be of {', '.join(sorted(ALGORITHMS))}")


@dataclass(frozen=True, slots=True)
class _Verified:
    """The identity of a token. It holds until the token expires or the issuer's keys change."""

    identities: frozenset[str]
    expires_at: float
    issuer: Issuer
    keys: KeySet

    def holds_at(self, now: float) -> bool:
        return now < self.expires_at and self.issuer.keys.current() is self.keys


class TokenIdentification:
    """Verifies each bearer token once.

    The hash of a verified token is remembered until the key set of its issuer changes. So the
    tokens of a withdrawn key end when the withdrawal is seen; `TrustedKeys` says when.

    Raises:
        ValueError: there is no issuer, or two have the same name.
    """

    def __init__(self, issuers: Iterable[Issuer], clock: Clock) -> None:
        given = tuple(issuers)
        self._issuers = {issuer.name: issuer for issuer in given}
        if not given or len(self._issuers) != len(given):
            raise ValueError("there must be issuers, each with a name of its own")
        self._clock = clock
        # Hashes, so that no memory dump or faulty log has tokens (S11).
        self._verified: OrderedDict[bytes, _Verified] = OrderedDict()
        self._waiting = NetworkShare("issuer_keys", MAX_WAITING, MAX_WAITING_OF_NETWORK)

    async def poll(self) -> None:
        """Refresh the keys that are due, of all issuers at once. It never raises.

        Await it before the first call is served, and then about once a second.
        """
        await asyncio.gather(*[issuer.keys.poll() for issuer in self._issuers.values()])

    @property
    def has_keys(self) -> bool:
        """Whether at least one issuer has keys. Otherwise, no token can be verified."""
        return len(self._without_keys()) < len(self._issuers)

    def demand_keys(self) -> None:
        """Check that every issuer has keys.

        Raises:
            StoreUnavailableError: an issuer has no keys, or they are unknown or too old.
        """
        if names := self._without_keys():
            raise StoreUnavailableError(f"no keys of {', '.join(names)} are known")

    def _without_keys(self) -> list[str]:
        return [name for name, issuer in self._issuers.items() if not issuer.keys.current()]

    async def identify(self, invocation: Invocation) -> frozenset[str]:
        """The identity `jwt:<issuer>#<subject>` of the token.

        Raises:
            CallerUnauthenticatedError: the token is missing or not valid.
            StoreUnavailableError: the keys of its issuer are not known at present.
            OverloadedError: too many calls wait for the keys of issuers.
        """
        token = _bearer_token(invocation)
        digest = sha256(token.encode()).digest()
        now = self._clock.now().timestamp()
        remembered = self._verified.get(digest)
        if remembered is not None and remembered.holds_at(now):
            self._verified.move_to_end(digest)
            return remembered.identities
        verified = await self._verify(token, now, self._waiting.place(invocation.peer))
        self._verified[digest] = verified
        self._verified.move_to_end(digest)
        if len(self._verified) > MAX_VERIFIED_TOKENS:
            self._verified.popitem(last=False)
        return verified.identities

    async def _verify(
        self, token: str, now: float, waiting: AbstractContextManager[None]
    ) -> _Verified:
        header, claims = _unverified(token)
        issuer = self._issuer(claims)
        _check_header(header, issuer)
        keys = issuer.keys.current()
        if keys is None or not _has_key(keys, header):
            keys = await issuer.keys.beyond(keys, waiting)
        if keys is None:
            raise StoreUnavailableError("the keys of the token's issuer are not known at present")
        _check_signature(token, keys)
        expires_at = _check_claims(claims, issuer, now)
        identity = f"jwt:{issuer.name}#{_subject(claims)}"
        return _Verified(frozenset({identity}), expires_at, issuer, keys)

    def _issuer(self, claims: dict[str, Any]) -> Issuer:
        """The issuer that the token claims. Its keys have not verified the token yet."""
        name = claims.get("iss")
        issuer = self._issuers.get(name) if isinstance(name, str) else None
        if issuer is None:
            _refuse("the token's issuer is not one that is accepted here")
        return issuer


def _refuse(message: str) -> NoReturn:
    # Without the cause: its text may have parts of the token (S11).
    raise CallerUnauthenticatedError(message) from None


def _bearer_token(invocation: Invocation) -> str:
    values = [value for key, value in invocation.metadata if key == "authorization"]
    if not values:
        _refuse("a bearer token is required in the authorization metadata")
    if len(values) > 1:
        # Two parsers may choose different values.
        _refuse("the authorization metadata must be given once")
    [value] = values
    if not isinstance(value, str) or not value.isascii():
        _refuse("the authorization metadata is not ASCII text")
    scheme, _, token = value.partition(" ")
    if scheme.lower() != "bearer":  # RFC 9110 §11.1: case-insensitive
        _refuse("the authorization metadata must have the scheme Bearer")
    if len(token) > MAX_TOKEN_BYTES:
        _refuse("the token is too long")
    return token.strip(" ")


def _unverified(token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The header and claims of a compact JWS (RFC 7515 §7.1). Nothing in them is verified."""
    segments = _COMPACT.fullmatch(token)
    if segments is None:
        _refuse("the token is not a JWT")
    return _object(segments[1]), _object(segments[2])


def _object(segment: str) -> dict[str, Any]:
    try:
        value = strict_json(urlsafe_b64decode(segment.encode()))
    except ValueError:
        _refuse("the token is not a JWT")
    if not isinstance(value, dict):
        _refuse("the token is not a JWT")
    return value


def _check_header(header: dict[str, Any], issuer: Issuer) -> None:
    """Check the header before it selects a key (RFC 8725 §3.1).

    Keys and addresses of keys in the header (`jwk`, `jku`, `x5c`, `x5u`) are ignored.
    """
    algorithm = header.get("alg")
    if not isinstance(algorithm, str) or algorithm not in issuer.algorithms:
        _refuse("the token's algorithm is not one that is accepted of its issuer")
    if "crit" in header or "b64" in header:
        # RFC 7515 §4.1.11: no extension is supported; RFC 7797 §7 forbids `b64` in JWTs.
        _refuse("the token has critical extensions, of which none is supported")
    kind = header.get("typ", "")
    if not isinstance(kind, str) or kind.lower().removeprefix("application/") not in _TYPES:
        _refuse("the token's type is not that of an access token")
    if not isinstance(header.get("kid", ""), str):
        _refuse("the token is not a JWT")


class _Algorithms(jws.JWSRegistry):
    """joserfc's algorithms, without its warning about `EdDSA`, which issuers still use.

    `_check_header` has checked the algorithm of the token for its issuer before.
    """

    max_header_length = MAX_TOKEN_BYTES

    def get_alg(self, name: str) -> Any:
        return self.algorithms[name]


# Not strict: unknown parameters must be ignored (RFC 7515 §4).
_ALGORITHMS = _Algorithms(strict_check_header=False)


def _has_key(keys: KeySet, header: dict[str, Any]) -> bool:
    try:
        keys.get_by_kid(header.get("kid"), {"alg": header["alg"], "use": "sig"})
    except InvalidKeyIdError:
        return False
    return True


def _check_signature(token: str, keys: KeySet) -> None:
    try:
        jws.deserialize_compact(token, keys, registry=_ALGORITHMS)
    except InvalidKeyIdError:
        _refuse("the token was signed with a key that its issuer does not publish")
    except (JoseError, TypeError, ValueError):
        _refuse("the token's signature is not its issuer's")


def _check_claims(claims: dict[str, Any], issuer: Issuer, now: float) -> float:
    """Check the claims of a verified token; return its expiry in seconds since 1970."""
    audience = claims.get("aud")
    audiences = audience if isinstance(audience, list) else [audience]
    if not any(isinstance(name, str) and name in issuer.audiences for name in audiences):
        _refuse("the token is for another audience")
    expires_at = _seconds(claims, "exp")
    if expires_at is None:
        _refuse("the token has no expiry")
    if now >= expires_at:
        _refuse("the token has expired")
    for claim in ("nbf", "iat"):
        since = _seconds(claims, claim)
        if since is not None and since > now + LEEWAY_SECONDS:
            _refuse("the token is not valid yet")
    return expires_at


def _seconds(claims: dict[str, Any], claim: str) -> float | None:
    """A NumericDate: seconds since 1970 (RFC 7519 §2); None when the claim is absent."""
    value = claims.get(claim)
    if value is None:
        return None
    # In Python, `True` is an int.
    if isinstance(value, bool) or not isinstance(value, int | float):
        _refuse("the token has a time that is not a number")
    try:
        seconds = float(value)
    except OverflowError:  # JSON has integers of any size
        seconds = math.inf
    # Any comparison with NaN is false.
    if not math.isfinite(seconds):
        _refuse("the token has a time that is not a number")
    return seconds


def _subject(claims: dict[str, Any]) -> str:
    subject = claims.get("sub")
    if not isinstance(subject, str) or not subject:
        _refuse("the token has no subject")
    if len(subject) > MAX_SUBJECT_BYTES or not (subject.isascii() and subject.isprintable()):
        _refuse("the token's subject is not printable ASCII of an acceptable length")
    return subject
