"""Values with a MAC: write access to Redis elevates nobody (S25).

A value is `<version><MAC><length of the key id><key id><payload>`. The MAC is keyed BLAKE2b
(RFC 7693) of 16 bytes over the Redis key, the full ids that the key is made of, the key id and the
payload. So a value counts only under the key and for the person that it was written for. The value
names the key of the ring that made its MAC: a MAC of an older key counts while the ring has it.

An authentic value can be put back after it was deleted or replaced. What that can do is bounded by
the times in the payload and by the change feed (docs/threat-model.md).

The payload of an elevation is a short JSON array. It does not repeat tenant, user and session: the
MAC covers them (S9). Times are whole microseconds: the instant of verification, and how long the
elevation counts from then.
"""

import hmac
from hashlib import blake2b
from typing import Any, Final

from stepup.domain.actor import SessionHash, TenantId, UserId
from stepup.domain.elevation import AuthenticationMethod, Elevation
from stepup.domain.instants import MICROSECOND, instant_at, microseconds
from stepup.service.ports import Keys

_VERSION = b"\x02"  # values of version 1 were JSON arrays without a MAC
_MAC_BYTES = 16
_HEAD_BYTES = len(_VERSION) + _MAC_BYTES + 1
_METHODS: Final = {method.value: method for method in AuthenticationMethod}


class AuthenticValues:
    """Adds MACs to values and checks them. All workers that share a Redis share the key ring."""

    def __init__(self, keys: Keys) -> None:
        self._keys = keys

    def sign(self, key: str, owner: tuple[str, ...], payload: bytes) -> bytes:
        """The value to store under a Redis key: the payload with a MAC by the primary key.

        `owner` has the ids that the Redis key is made of, in full; none may contain NUL.
        """
        keys = self._keys.stored_values
        signed = _framed(keys.primary.encode(), payload)
        return _VERSION + _mac(keys.keys[keys.primary], key, owner, signed) + signed

    def open(self, key: str, owner: tuple[str, ...], value: bytes) -> bytes | None:
        """The payload of a stored value; None if `sign` did not make the value for this place."""
        if not value.startswith(_VERSION) or len(value) < _HEAD_BYTES:
            return None
        signed = value[_HEAD_BYTES - 1 :]
        payload_at = 1 + signed[0]
        # An id is ASCII. Other bytes make an id that no ring has.
        key_id = signed[1:payload_at].decode("ascii", "replace")
        mac_key = self._keys.stored_values.keys.get(key_id)
        if mac_key is None:
            self._keys.refresh_for(key_id)
            mac_key = self._keys.stored_values.keys.get(key_id)
        if mac_key is None:
            return None
        mac = value[len(_VERSION) : _HEAD_BYTES - 1]
        if not hmac.compare_digest(mac, _mac(mac_key, key, owner, signed)):
            return None
        return signed[payload_at:]


def _framed(key_id: bytes, payload: bytes) -> bytes:
    return bytes((len(key_id),)) + key_id + payload


def _mac(mac_key: bytes, key: str, owner: tuple[str, ...], signed: bytes) -> bytes:
    # Ids are printable, so that NUL separates them without ambiguity; the number of ids is that
    # of the kind of key. What follows the last NUL-terminated id is `signed`.
    place = "\0".join((key, *owner, "")).encode()
    return blake2b(place + signed, key=mac_key, digest_size=_MAC_BYTES).digest()


def elevation_fields(elevation: Elevation) -> list[Any]:
    """The elevation as JSON values."""
    return [
        elevation.enrollment_id,
        microseconds(elevation.verified_at),
        (elevation.expires_at - elevation.verified_at) // MICROSECOND,
        [method.value for method in elevation.methods],
    ]


def read_elevation(
    fields: Any, tenant_id: TenantId, user_id: UserId, session_hash: SessionHash
) -> Elevation | None:
    """The elevation of this session from authentic fields; None if they are not understood.

    A later version may have written them.
    """
    match fields:
        case [str(enrollment_id), int(verified), int(lifetime), [*methods]]:
            pass
        case _:
            return None
    try:
        verified_at = instant_at(verified)
        return Elevation(
            tenant_id=tenant_id,
            user_id=user_id,
            session_hash=session_hash,
            enrollment_id=enrollment_id,
            verified_at=verified_at,
            expires_at=verified_at + lifetime * MICROSECOND,
            methods=tuple(map(_METHODS.__getitem__, methods)),
        )
    except (KeyError, TypeError, OverflowError):
        # A method of a later version, or no text; an instant beyond all years.
        return None
