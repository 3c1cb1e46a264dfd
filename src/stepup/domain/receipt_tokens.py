"""How a receipt is written as a token, and how a token is checked.

A token is `2.<key id>.<payload>.<MAC>`, payload and MAC in unpadded base64url. The payload has a
fixed layout: the decision's UUID (16 bytes), the time of the first authorisation (8 bytes,
microseconds since the epoch, big-endian), the time of the code that the first authorisation rests
on (8 bytes, alike), the exemption that earned it (1 byte), and 16 bytes of SHA-256 each over the
enrollment of that code, caller, actor, operation and target. The MAC is HMAC-SHA-256 over
everything before it.
"""

import hmac
from base64 import urlsafe_b64decode
from binascii import Error as Base64Error
from collections.abc import Collection
from datetime import datetime, timedelta
from functools import lru_cache
from struct import Struct
from typing import Final, Self
from uuid import UUID

from stepup.domain.actor import Actor, CallerId
from stepup.domain.base64url import encode_base64url
from stepup.domain.callers import Claim
from stepup.domain.instants import instant_at, microseconds
from stepup.domain.mac_keys import MacKeys
from stepup.domain.operations import OperationId
from stepup.domain.receipts import (
    RETRY_WINDOW,
    Origin,
    Receipt,
    ReceiptRejection,
    RefusedReceipt,
    digest,
)
from stepup.domain.values import value

_VERSION: Final = "2"
"""Receipts of another version are not authentic: one of version 1 does not say what earned it."""
_PAYLOAD: Final = Struct(">16sQQB16s16s16s16s16s")
_EXEMPTIONS: Final = (None, Claim.MANAGED_SERVICES, Claim.AUTOMATIC_PLAYBOOK)
"""The exemptions by the number that stands for them. A number keeps its meaning for ever."""
# Of callers and operations there are no more than are configured.
_digest_of_few = lru_cache(maxsize=1024)(digest)


@value
class Binding:
    """What a receipt holds for: only the same caller, actor, operation and target match."""

    caller: bytes
    actor: bytes
    operation: bytes
    target: bytes

    @classmethod
    def of(cls, caller: CallerId, actor: Actor, operation: OperationId, target: str) -> Self:
        """The binding of one check. The actor is tenant, user and session."""
        return cls(
            _digest_of_few(caller),
            digest(actor.session_hash),
            _digest_of_few(operation),
            digest(target),
        )


def issue(receipt: Receipt, binding: Binding, keys: MacKeys) -> str:
    """Write a receipt: at most 300 bytes of ASCII, given key ids of at most 64."""
    origin = receipt.origin
    payload = _PAYLOAD.pack(
        receipt.decision_id.bytes,
        microseconds(origin.authorised_at),
        microseconds(origin.verified_at),
        _EXEMPTIONS.index(origin.exemption),
        origin.enrollment,
        binding.caller,
        binding.actor,
        binding.operation,
        binding.target,
    )
    signed = f"{_VERSION}.{keys.primary}.{encode_base64url(payload)}"
    return f"{signed}.{_mac(keys.keys[keys.primary], signed)}"


def key_id_of(token: str) -> str:
    """The key id in a token, authentic or not; empty if the token has none."""
    return token.rpartition(".")[0].partition(".")[2].rpartition(".")[0]


def check(
    token: str,
    binding: Binding,
    claims: Collection[Claim],
    keys: MacKeys,
    now: datetime,
    *,
    window: timedelta = RETRY_WINDOW,
) -> Receipt | RefusedReceipt:
    """Check a token. Only the store knows whether its receipt was used before, or is revoked.

    Args:
        token: what the caller presents; anything at all.
        binding: the check that it is presented for.
        claims: what the check claims; a receipt that an exemption earned needs that claim again.
        keys: the ring; a key that has left it makes its receipts not authentic.
        now: when the check was received.
        window: how long after the first authorisation a retry is still one.
    """
    payload = _authentic_payload(token, keys)
    if payload is None:
        return RefusedReceipt(ReceiptRejection.NOT_AUTHENTIC)
    receipt, bound = _read(payload)
    origin = receipt.origin
    rejection = _mismatch(bound, binding)
    if rejection is None and not origin.permits_retry(now, window):
        rejection = ReceiptRejection.EXPIRED
    if rejection is None and origin.exemption is not None and origin.exemption not in claims:
        rejection = ReceiptRejection.EXEMPTION_NOT_CLAIMED
    return receipt if rejection is None else RefusedReceipt(rejection, receipt.decision_id)


def _authentic_payload(token: str, keys: MacKeys) -> bytes | None:
    signed, _, mac = token.rpartition(".")
    key = keys.keys.get(key_id_of(token))
    if not signed.startswith(f"{_VERSION}.") or key is None or not token.isascii():
        return None
    # The text itself is compared, so that no second spelling of a MAC is accepted.
    if not hmac.compare_digest(mac, _mac(key, signed)):
        return None
    return _decode(signed.rpartition(".")[2])


def _read(payload: bytes) -> tuple[Receipt, Binding]:
    decision_id, authorised, verified, exemption, enrollment, *bound = _PAYLOAD.unpack(payload)
    origin = Origin(
        instant_at(authorised), instant_at(verified), enrollment, _EXEMPTIONS[exemption]
    )
    return Receipt(UUID(bytes=decision_id), origin), Binding(*bound)


def _mismatch(bound: Binding, binding: Binding) -> ReceiptRejection | None:
    """The first difference between what a receipt is bound to and what it is presented for."""
    if bound.caller != binding.caller:
        return ReceiptRejection.OTHER_CALLER
    if bound.actor != binding.actor:
        return ReceiptRejection.OTHER_ACTOR
    if bound.operation != binding.operation:
        return ReceiptRejection.OTHER_OPERATION
    if bound.target != binding.target:
        return ReceiptRejection.OTHER_TARGET
    return None


def _mac(key: bytes, signed: str) -> str:
    return encode_base64url(hmac.digest(key, signed.encode(), "sha256"))


def _decode(text: str) -> bytes | None:
    try:
        octets = urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except (Base64Error, ValueError):
        return None
    return octets if len(octets) == _PAYLOAD.size else None
