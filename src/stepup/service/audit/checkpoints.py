"""Checkpoints of pruned chains: signed, so that only the key ring can move the begin of a chain.

The signature covers the canonical JSON (names sorted, no white space, ASCII) of an object with
`format`, `tenant_id`, `sequence`, `hash` in hexadecimal, `pruned_at` and `key_id`.
"""

from datetime import datetime

from stepup.domain.actor import TenantId
from stepup.domain.audit import canonical_json, written
from stepup.domain.chain import Checkpoint, Head, StoredCheckpoint, Unreadable
from stepup.service.ports import HeadKeys, HeadSignatures

FORMAT = "stepup-audit-checkpoint/1"


def signed_checkpoint(
    keys: HeadKeys, tenant_id: TenantId, last: Head, pruned_at: datetime
) -> Checkpoint:
    """Sign, with the primary key, that a chain was pruned through an event."""
    key_id = keys.primary
    message = _message(tenant_id, last, pruned_at, key_id)
    signature = keys.sign_head(message)
    return Checkpoint(tenant_id, last.sequence, last.hash, pruned_at, key_id, signature)


def checkpoint_problem(stored: StoredCheckpoint, signatures: HeadSignatures) -> str | None:
    """What is wrong with a stored checkpoint; None if its signature is good, or there is none."""
    if stored is None:
        return None
    if isinstance(stored, Unreadable):
        return f"the checkpoint: {stored.problem}"
    last = Head(stored.sequence, stored.hash)
    message = _message(stored.tenant, last, stored.pruned_at, stored.key_id)
    problem = signatures.signature_problem(stored.key_id, message, stored.signature)
    return None if problem is None else f"the checkpoint: {problem}"


def _message(tenant: str, last: Head, pruned_at: datetime, key_id: str) -> bytes:
    return canonical_json(
        {
            "format": FORMAT,
            "tenant_id": tenant,
            "sequence": last.sequence,
            "hash": last.hash.hex(),
            "pruned_at": written(pruned_at),
            "key_id": key_id,
        }
    ).encode()
