"""The portal sessions, and the links that open them.

A key has the SHA-256 of the token or id. A payload is encrypted by a key that is derived from the
token or id: without these secrets, Redis shows nothing of the person, nor of the sign-in session
(S20). The MAC of `AuthenticValues` makes a session count: an attacker with write access to Redis
can choose an id and encrypt by it (S25).
"""

from hashlib import blake2b, sha256
from secrets import token_bytes
from typing import Any, Final
from uuid import UUID

import orjson
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from stepup.domain.actor import (
    AccountType,
    Actor,
    CallerId,
    Device,
    Role,
    SessionId,
    TenantId,
    UserId,
)
from stepup.domain.base64url import encode_base64url
from stepup.domain.errors import InvalidValueError
from stepup.domain.instants import instant_at, microseconds
from stepup.domain.portal import (
    IDLE_LIFETIME,
    LINK_LIFETIME,
    Locale,
    PortalPage,
    PortalSession,
    TimeZone,
)
from stepup.domain.totp import Label
from stepup.service.ports import Keys
from stepup.stores.redis.authentic_values import AuthenticValues
from stepup.stores.redis.connection import Client, answering
from stepup.stores.redis.keyspace import portal_link_key, portal_session_key

_NONCE_BYTES: Final = 12


class RedisPortalSessions:
    """Portal sessions in Redis or Valkey, version 7 or later; implements the port `PortalSessions`.

    Args:
        keys: the ring whose MAC makes a session count (S25).
    """

    def __init__(self, client: Client, keys: Keys) -> None:
        self._client = client
        self._values = AuthenticValues(keys)

    async def put_link(self, token: str, session: PortalSession) -> None:
        key = portal_link_key(_hash(token))
        async with answering(self._client):
            await self._client.set(key, self._sealed(key, token, session), ex=LINK_LIFETIME)

    async def take_link(self, token: str) -> PortalSession | None:
        key = portal_link_key(_hash(token))
        async with answering(self._client):
            value = await self._client.getdel(key)
        return self._opened(key, token, value)

    async def put(self, session_id: str, session: PortalSession) -> None:
        await self._set(session_id, session, only_replace=False)

    async def find(self, session_id: str) -> PortalSession | None:
        key = portal_session_key(_hash(session_id))
        async with answering(self._client):
            value = await self._client.get(key)
        return self._opened(key, session_id, value)

    async def extend(self, session_id: str, session: PortalSession) -> None:
        await self._set(session_id, session, only_replace=True)

    async def remove(self, session_id: str) -> None:
        async with answering(self._client):
            await self._client.delete(portal_session_key(_hash(session_id)))

    async def _set(self, session_id: str, session: PortalSession, *, only_replace: bool) -> None:
        key = portal_session_key(_hash(session_id))
        value = self._sealed(key, session_id, session)
        async with answering(self._client):
            await self._client.set(key, value, ex=IDLE_LIFETIME, xx=only_replace)

    def _sealed(self, key: str, secret: str, session: PortalSession) -> bytes:
        nonce = token_bytes(_NONCE_BYTES)
        payload = nonce + _cipher(secret).encrypt(nonce, orjson.dumps(_fields(session)), None)
        return self._values.sign(key, (), payload)

    def _opened(self, key: str, secret: str, value: Any) -> PortalSession | None:
        payload = None if value is None else self._values.open(key, (), value)
        if payload is None:
            return None
        nonce, sealed = payload[:_NONCE_BYTES], payload[_NONCE_BYTES:]
        try:
            return _read(orjson.loads(_cipher(secret).decrypt(nonce, sealed, None)))
        except (InvalidTag, ValueError, OverflowError, InvalidValueError):
            # A later version may have written it.
            return None


def _hash(secret: str) -> str:
    return encode_base64url(sha256(secret.encode()).digest())


def _cipher(secret: str) -> AESGCM:
    # `secret` has 256 random bits, so that no slow derivation is needed.
    return AESGCM(blake2b(secret.encode(), digest_size=32, person=b"portal session").digest())


def _fields(session: PortalSession) -> list[Any]:
    actor, device = session.actor, session.actor.client
    return [
        [session.opened_by, session.opened_by_title],
        [
            *(actor.tenant_id, actor.user_id, actor.session_id, actor.account_type, actor.role),
            None if device is None else [device.address, device.user_agent],
        ],
        session.page,
        None if session.challenge_id is None else session.challenge_id.hex,
        session.return_url,
        session.locale,
        session.time_zone,
        session.account_name,
        microseconds(session.created_at),
        microseconds(session.idle_until),
    ]


def _read(fields: Any) -> PortalSession:
    """The session of authentic fields.

    Raises:
        ValueError, OverflowError, InvalidValueError: the fields are not understood.
    """
    match fields:
        case [
            [str(opened_by), str(title)],
            [str(tenant), str(user), str(session), str(account_type), str(role), device],
            str(page),
            None | str() as challenge_id,
            str(return_url),
            None | str() as locale,
            None | str() as time_zone,
            None | str() as account_name,
            int(created_at),
            int(idle_until),
        ]:
            pass
        case _:
            raise ValueError("the fields are those of another version")
    match device:
        case [str(address), str(user_agent)]:
            client: Device | None = Device(address, user_agent)
        case None:
            client = None
        case _:
            raise ValueError("the device is that of another version")
    actor = Actor(
        TenantId(tenant),
        UserId(user),
        SessionId(session),
        AccountType(account_type),
        Role(role),
        client=client,
    )
    return PortalSession(
        CallerId(opened_by),
        title,
        actor,
        PortalPage(page),
        None if challenge_id is None else UUID(challenge_id),
        return_url,
        None if locale is None else Locale(locale),
        None if time_zone is None else TimeZone(time_zone),
        None if account_name is None else Label(account_name),
        instant_at(created_at),
        instant_at(idle_until),
    )
