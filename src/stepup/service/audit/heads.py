"""`stepup audit head`: sign the ends of the chains, so that nobody can cut them off later (S14).

The file is one JSON object: `format`, `key_id`, `exported_at`, `heads` (each `tenant_id`,
`sequence`, and `hash` in hexadecimal, in the order of tenants) and `signature` in base64. The
signature covers the canonical JSON (names sorted, no white space, ASCII) of the other members.
"""

import json
import re
from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self

from stepup.domain.actor import TenantId
from stepup.domain.audit import ChainedEvent, Json, canonical_json, written
from stepup.domain.chain import Damage, Head
from stepup.domain.errors import InvalidValueError
from stepup.service.ports import ChainPosition, Database, HeadKeys, StoredChains
from stepup.system.json_texts import strict_json

FORMAT = "stepup-audit-heads/1"
_HASH = re.compile("[0-9a-f]{64}")


class HeadDamagedError(Exception):
    """A head is not the end of its chain, and so is not signed. Only commands raise it."""

    def __init__(self, damage: Damage) -> None:
        super().__init__(damage.problem)
        self.damage = damage


@dataclass(frozen=True, slots=True)
class SignedHeads:
    """Exported heads: the signed message, and its signature."""

    key_id: str
    heads: Mapping[str, Head]
    message: bytes
    signature: bytes

    @classmethod
    def parse(cls, text: str | bytes) -> Self:
        """Parse an exported file. The signature is not verified.

        Raises:
            InvalidValueError: the file has another format.
        """
        try:
            document: Any = strict_json(text)
            signature = b64decode(document.pop("signature"), validate=True)
            heads = dict(map(_read, document["heads"]))
            if document["format"] != FORMAT or len(heads) != len(document["heads"]):
                raise ValueError  # noqa: TRY301  # all faults have one answer
            message = canonical_json(document).encode()
            return cls(str(document["key_id"]), heads, message, signature)
        except (ValueError, TypeError, LookupError, AttributeError):
            raise InvalidValueError(f"is not a file of the format {FORMAT}") from None


@dataclass(frozen=True, slots=True)
class ExportHeads:
    """Signs the heads of one tenant, or of all."""

    database: Database
    keys: HeadKeys

    async def __call__(self, now: datetime, tenant_id: TenantId | None = None) -> str:
        """Return the text of the file: one tenant's head, or those of all tenants with events.

        Raises:
            HeadDamagedError: a chain has no head, or the head is not its end.
            StoreUnavailableError: the heads cannot be read.
        """
        async with self.database.snapshot() as records:
            tenants = await all_tenants(records.audit) if tenant_id is None else [tenant_id]
            heads: list[Json] = [await _entry(records.audit, tenant) for tenant in tenants]
        document: dict[str, Json] = {
            "format": FORMAT,
            "key_id": self.keys.primary,
            "exported_at": written(now),
            "heads": heads,
        }
        signature = self.keys.sign_head(canonical_json(document).encode())
        document["signature"] = b64encode(signature).decode()
        return json.dumps(document, indent=2) + "\n"


async def all_tenants(chains: StoredChains) -> list[str]:
    """Return the tenants with events or a head."""
    found: list[str] = []
    tenant = await chains.next_tenant(None)
    while tenant is not None:
        found.append(tenant)
        tenant = await chains.next_tenant(tenant)
    return found


async def _entry(chains: StoredChains, tenant: str) -> Json:
    head = await chains.head(tenant)
    if not isinstance(head, Head):
        raise HeadDamagedError(Damage(tenant, None, "the chain has no head to sign"))
    # Events that were appended meanwhile come after the head.
    last = await chains.stored(tenant, ChainPosition(head.sequence), 1)
    if [head.hash] != [stored.hash for stored in last if isinstance(stored, ChainedEvent)]:
        raise HeadDamagedError(
            Damage(tenant, head.sequence, "the head is not the end of its chain")
        )
    return {"tenant_id": tenant, "sequence": head.sequence, "hash": head.hash.hex()}


def _read(entry: Any) -> tuple[str, Head]:
    tenant, sequence, digits = entry["tenant_id"], entry["sequence"], entry["hash"]
    if not isinstance(tenant, str) or type(sequence) is not int or not _HASH.fullmatch(digits):
        raise ValueError
    return tenant, Head(sequence, bytes.fromhex(digits))
