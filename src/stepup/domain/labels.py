"""What an authenticator app shows for an entry: an issuer, and a label of the account.

Many apps know an entry by these two and nothing else. A second entry with the same two overwrites
the first one, whatever secret it has. So the two together name one account, and one authenticator
of it. An issuer or a label that is too long ends in a hash of the whole of it.
"""

from hashlib import sha256
from typing import Final

from stepup.domain.actor import OpaqueId, TenantId
from stepup.domain.totp import MAX_LABEL_BYTES, Label

_RATIO: Final = "\u2236"
"""Looks like a colon. Ids are ASCII, so no other id has the same label (S12)."""
_HASH_DIGITS: Final = 12


def label_of_id(identifier: OpaqueId) -> Label:
    """An id as a label; different ids have different labels."""
    return _fitted(identifier.replace(":", _RATIO))


def issuer_of_tenant(own: Label | None, deployment: Label, tenant_id: TenantId) -> Label:
    """The issuer for the people of a tenant.

    Args:
        own: the issuer that the tenant's policy names, None where it names none.
        deployment: the issuer of the deployment, which several tenants share.
        tenant_id: the tenant.
    """
    return own if own is not None else _fitted(f"{deployment} {label_of_id(tenant_id)}")


def label_of_authenticator(account_name: Label, generation: int) -> Label:
    """The label of an account's n-th authenticator in a row: "alice", "alice (2)", "alice (3)"."""
    return account_name if generation == 1 else _fitted(f"{account_name} ({generation})")


def _fitted(text: str) -> Label:
    octets = text.encode()
    if len(octets) > MAX_LABEL_BYTES:
        ending = "~" + sha256(octets).hexdigest()[:_HASH_DIGITS]
        kept = octets[: MAX_LABEL_BYTES - len(ending)].decode(errors="ignore")
        text = kept + ending
    return Label(text)
