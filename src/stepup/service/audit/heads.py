"""`stepup audit head`: the ends of the chains, signed, so that nobody can cut them off later (S14).

The file is one JSON object: `format`, `key_id`, `exported_at`, `heads` (each `tenant_id`,
`sequence`, and `hash` in hexadecimal, in the order of tenants) and `signature` in base64. Signed is
the canonical JSON (names sorted, no white space, ASCII) of the object without its signature.
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

FORMAT = "stepup-audit-heads/1"
_HASH = re.compile("[0-9a-f]{64}")


class HeadDamagedError(Exception):
    """A head is not the end of its chain: it is not signed. Commands meet it, calls do not."""

    def __init__(self, damage: Damage) -> None:
        super().__init__(damage.problem)
        self.damage = damage


@dataclass(frozen=True, slots=True)
class SignedHeads:
    """Heads as they were exported: what is signed, and the signature."""

    key_id: str
    heads: Mapping[str, Head]
    message: bytes
    signature: bytes

    @classmethod
    def parse(cls, text: str | bytes) -> Self:
        """Read an exported file; whether the signature is good is for the key's owner to say.

        Raises:
            InvalidValueError: it is no such file.
        """
        try:
            document: Any = json.loads(text)
            signature = b64decode(document.pop("signature"), validate=True)
            heads = dict(map(_read, document["heads"]))
            if document["format"] != FORMAT or len(heads) != len(document["heads"]):
                raise ValueError  # noqa: TRY301  # one answer to all that is wrong
            message = canonical_json(document).encode()
            return cls(str(document["key_id"]), heads, message, signature)
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
            raise InvalidValueError(f"is no file of the format {FORMAT}") from None


@dataclass(frozen=True, slots=True)
class ExportHeads:
    """Signs the heads of one tenant, or of all."""

    database: Database
    keys: HeadKeys

    async def __call__(self, now: datetime, tenant_id: TenantId | None = None) -> str:
        """The text of the file; of all tenants that have events, unless one is named.

        Raises:
            HeadDamagedError: a head is not the end of its chain, or there is none.
            StoreUnavailableError: the heads cannot be read.
        """
        async with self.database.snapshot() as records:
            tenants = await _tenants(records.audit) if tenant_id is None else [tenant_id]
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


async def _tenants(chains: StoredChains) -> list[str]:
    found: list[str] = []
    tenant = await chains.next_tenant(None)
    while tenant is not None:
        found.append(tenant)
        tenant = await chains.next_tenant(tenant)
    return found


async def _entry(chains: StoredChains, tenant: str) -> Json:
    head = await chains.head(tenant)
    if not isinstance(head, Head):
        raise HeadDamagedError(Damage(tenant, None, "the chain has no head that could be signed"))
    # Events that were appended meanwhile come after it.
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
