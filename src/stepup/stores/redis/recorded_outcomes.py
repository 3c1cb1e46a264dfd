"""The outcomes of `VerifyOtp` by request id: a call that is made twice is one attempt."""

from base64 import b64encode
from datetime import timedelta
from typing import Any

import orjson

from stepup.domain.actor import SessionHash
from stepup.domain.elevation import Outcome, Verification
from stepup.domain.errors import InvalidFieldError, RequestUnderWayError, StoreUnavailableError
from stepup.domain.instants import MICROSECOND
from stepup.service.ports import Keys, RequestKey
from stepup.stores.redis.authentic_values import AuthenticValues, elevation_fields, read_elevation
from stepup.stores.redis.connection import Client, answering
from stepup.stores.redis.keyspace import outcome_key

_LIFETIME = timedelta(minutes=1)
_LIFETIME_SECONDS = int(_LIFETIME.total_seconds())
_MAX_REPLACEMENTS = 3

# Writes a claim over a value that is not authentic, unless another call has done so first (S25).
_REPLACE = """
local stored = redis.call('GET', KEYS[1])
if stored and stored ~= ARGV[1] then return stored end
redis.call('SET', KEYS[1], ARGV[2], 'EX', ARGV[3])
return false
"""


class RedisRecordedOutcomes:
    """Outcomes in Redis or Valkey, version 7 or later; implements the port `RecordedOutcomes`.

    Args:
        keys: the ring whose MAC makes a claim or an outcome count (S25).
    """

    def __init__(self, client: Client, keys: Keys) -> None:
        self._client = client
        self._values = AuthenticValues(keys)

    async def claim(self, key: RequestKey, fingerprint: bytes) -> Verification | None:
        place = outcome_key(key)
        claim = self._signed(key, fingerprint, None)
        async with answering(self._client):
            # One command: NX claims, GET returns the value that prevented it.
            found: Any = await self._client.set(place, claim, nx=True, get=True, ex=_LIFETIME)
        for _ in range(_MAX_REPLACEMENTS):
            if found is None:
                return None
            payload = self._values.open(place, _owner(key), found)
            if payload is not None:
                return _outcome(payload, key, fingerprint)
            async with answering(self._client):
                found = await self._client.eval(_REPLACE, 1, place, found, claim, _LIFETIME_SECONDS)
        raise StoreUnavailableError("a recorded outcome keeps changing and is never authentic")

    async def record(self, key: RequestKey, fingerprint: bytes, outcome: Verification) -> None:
        value = self._signed(key, fingerprint, _verification_fields(outcome))
        async with answering(self._client):
            await self._client.set(outcome_key(key), value, ex=_LIFETIME)

    async def release(self, key: RequestKey) -> None:
        async with answering(self._client):
            await self._client.delete(outcome_key(key))

    def _signed(self, key: RequestKey, fingerprint: bytes, outcome: list[Any] | None) -> bytes:
        payload = orjson.dumps([_text(fingerprint), outcome])
        return self._values.sign(outcome_key(key), _owner(key), payload)


def _owner(key: RequestKey) -> tuple[str, ...]:
    return key.tenant_id, key.user_id, key.request_id.hex


def _text(fingerprint: bytes) -> str:
    return b64encode(fingerprint).decode()


def _outcome(payload: bytes, key: RequestKey, fingerprint: bytes) -> Verification:
    """The outcome in an authentic value; raises as `claim` does."""
    first_fingerprint, outcome = _read(payload)
    if first_fingerprint != _text(fingerprint):
        raise InvalidFieldError("request_id", "was used with another request")
    if outcome is None:
        raise RequestUnderWayError(
            "the first call with this request_id is under way, or ended less than a minute ago"
            " without a known outcome"
        )
    return _read_verification(outcome, key)


def _read(payload: bytes) -> tuple[str, Any]:
    try:
        match orjson.loads(payload):
            case [str(fingerprint), outcome]:
                return fingerprint, outcome
    except ValueError:
        pass
    raise StoreUnavailableError("a recorded outcome cannot be read")


def _verification_fields(verification: Verification) -> list[Any]:
    elevation = verification.elevation
    fields = [
        verification.outcome.value,
        verification.attempts_remaining,
        verification.retry_after // MICROSECOND,
        [elevation.session_hash, elevation_fields(elevation)] if elevation else None,
    ]
    # Absent where it is zero: the release before reads four fields only.
    next_code_after = verification.next_code_after // MICROSECOND
    return [*fields, next_code_after] if next_code_after else fields


def _read_verification(fields: Any, key: RequestKey) -> Verification:
    elevation, next_code_after = None, 0
    match fields:
        case [str(outcome), int(attempts_remaining), int(retry_after), [str(session), earned]]:
            elevation = read_elevation(earned, key.tenant_id, key.user_id, SessionHash(session))
            is_readable = elevation is not None
        case [str(outcome), int(attempts_remaining), int(retry_after), None]:
            is_readable = True
        case [str(outcome), int(attempts_remaining), int(retry_after), None, int(next_code_after)]:
            is_readable = True
        case _:
            is_readable = False
    try:
        if is_readable:
            return Verification(
                Outcome(outcome),
                elevation,
                attempts_remaining,
                retry_after * MICROSECOND,
                next_code_after * MICROSECOND,
            )
    except ValueError:  # an outcome of a later version
        pass
    raise StoreUnavailableError("a recorded outcome cannot be read")
