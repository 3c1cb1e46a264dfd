"""The names of our keys in Redis.

All keys of one user are in one slot of a cluster, so that one command reads an elevation and the
mark that may void it. The part in braces chooses the slot: a digest of tenant and user, because ids
may contain braces and may be long.
"""

from hashlib import sha256

from stepup.domain.actor import CallerId, SessionHash, TenantId, UserId
from stepup.domain.base64url import encode_base64url
from stepup.domain.rate import Rate
from stepup.service.ports import RequestKey


def session_keys(
    tenant_id: TenantId, user_id: UserId, session_hash: SessionHash
) -> tuple[str, str]:
    """The key of a session's elevation, and that of the user's mark that may void it."""
    tag = digest(tenant_id, user_id)
    return f"e{{{tag}}}{digest(session_hash)}", f"r{{{tag}}}"


def elevation_key(tenant_id: TenantId, user_id: UserId, session_hash: SessionHash) -> str:
    """The key of a session's elevation."""
    return session_keys(tenant_id, user_id, session_hash)[0]


def revocation_key(tenant_id: TenantId, user_id: UserId) -> str:
    """The key of the user's mark: elevations verified up to its instant are void."""
    return f"r{_tag(tenant_id, user_id)}"


def outcome_key(key: RequestKey) -> str:
    """The key of the recorded outcome of a request."""
    return f"o{_tag(key.tenant_id, key.user_id)}{key.request_id.hex}"


def rate_key(caller_id: CallerId, tenant_id: TenantId, rate: Rate) -> str:
    """The key of the bucket of a caller and a tenant."""
    return f"c{digest(caller_id, tenant_id, str(rate.interval), str(rate.burst))}"


def portal_link_key(token_hash: str) -> str:
    """The key of the session that a link opens, by the hash of the link's token."""
    return f"l{token_hash}"


def portal_session_key(id_hash: str) -> str:
    """The key of a portal session, by the hash of its id."""
    return f"p{id_hash}"


def probe_key(number: int) -> str:
    """The key of a trial write. It has the prefix of rates, which every ACL user may write."""
    return f"c-probe-{number}"


def digest(*parts: str) -> str:
    """96 bits of SHA-256, as 16 characters of base64url. No part may contain NUL."""
    return encode_base64url(sha256("\0".join(parts).encode()).digest()[:12])


def _tag(tenant_id: TenantId, user_id: UserId) -> str:
    return f"{{{digest(tenant_id, user_id)}}}"
