"""Authenticators in force, and their reset codes."""

from typing import Any

from sqlalchemy import Row, and_, bindparam, delete, update

from stepup.domain.actor import SessionHash, TenantId, UserId
from stepup.domain.authenticator import Authenticator, ResetCodeRecord, SealedSecret
from stepup.domain.errors import ConflictError
from stepup.domain.instants import instant_at, microseconds
from stepup.domain.throttle import ONE_TIME_CODES, RESET_CODES, Throttle
from stepup.stores.sql.columns import (
    history_values,
    read_history,
    read_sessions,
    read_throttle,
    session_values,
    throttle_values,
)
from stepup.stores.sql.connection import Repository
from stepup.stores.sql.tables import authenticators, reset_codes, row_of_user

_FIND = row_of_user(authenticators)
_FIND_FOR_UPDATE = _FIND.with_for_update()
_HAS_RESET_CODE = row_of_user(reset_codes).with_only_columns(reset_codes.c.user_id)
_FIND_RESET_CODE_FOR_UPDATE = row_of_user(reset_codes).with_for_update()
# Values that are set have the names of their columns; values that are compared need other names.
_AS_READ = and_(
    authenticators.c.tenant_id == bindparam("of_tenant"),
    authenticators.c.user_id == bindparam("of_user"),
    authenticators.c.enrollment_id == bindparam("of_enrollment"),
    authenticators.c.version == bindparam("read_version"),
)
_SAVE = update(authenticators).where(
    _AS_READ, authenticators.c.last_step <= bindparam("not_after_step")
)
_REMOVE = delete(authenticators).where(_AS_READ)


class SqlAuthenticators(Repository):
    """Implements `Authenticators`."""

    async def find(self, tenant_id: TenantId, user_id: UserId) -> Authenticator | None:
        return await self._connection.fetch_first(
            _FIND, read_authenticator, tenant_id=tenant_id, user_id=user_id
        )

    async def find_for_update(self, tenant_id: TenantId, user_id: UserId) -> Authenticator | None:
        return await self._connection.fetch_or_lock(
            _FIND_FOR_UPDATE,
            read_authenticator,
            f"{tenant_id}/{user_id}",
            tenant_id=tenant_id,
            user_id=user_id,
        )

    async def add(self, authenticator: Authenticator) -> None:
        added = await self._connection.insert_if_absent(
            authenticators,
            tenant_id=authenticator.tenant_id,
            user_id=authenticator.user_id,
            enrollment_id=authenticator.enrollment_id,
            activated_at=authenticator.activated_at,
            generation=authenticator.generation,
            enrolled_session=authenticator.enrolled_session,
            version=0,
            **_changing(authenticator),
        )
        if not added:
            raise ConflictError("the user has an authenticator")

    async def save(self, authenticator: Authenticator) -> None:
        stored = await self._connection.write(
            _SAVE,
            **_as_read(authenticator),
            not_after_step=authenticator.last_step,
            version=authenticator.version + 1,
            **_changing(authenticator),
        )
        if not stored:
            raise ConflictError("the authenticator has changed")

    async def remove(self, authenticator: Authenticator) -> None:
        if not await self._connection.write(_REMOVE, **_as_read(authenticator)):
            raise ConflictError("the authenticator has changed")


class SqlResetCodes(Repository):
    """Implements `ResetCodes`."""

    async def exists(self, tenant_id: TenantId, user_id: UserId) -> bool:
        found = await self._connection.fetch_first(
            _HAS_RESET_CODE, lambda _: True, tenant_id=tenant_id, user_id=user_id
        )
        return found is True

    async def replace(self, record: ResetCodeRecord) -> None:
        table = reset_codes.c
        replaced = await self._connection.write(
            update(reset_codes)
            .where(table.tenant_id == record.tenant_id, table.user_id == record.user_id)
            .values(
                enrollment_id=record.enrollment_id,
                digest=record.digest,
                version=table.version + 1,
                **_changing_reset_code(record),
            )
        )
        if not replaced:
            await self.add(record)

    async def find_for_update(self, tenant_id: TenantId, user_id: UserId) -> ResetCodeRecord | None:
        return await self._connection.fetch_first(
            _FIND_RESET_CODE_FOR_UPDATE, _read_reset_code, tenant_id=tenant_id, user_id=user_id
        )

    async def add(self, record: ResetCodeRecord) -> None:
        added = await self._connection.insert_if_absent(
            reset_codes,
            tenant_id=record.tenant_id,
            user_id=record.user_id,
            enrollment_id=record.enrollment_id,
            digest=record.digest,
            version=0,
            **throttle_values(Throttle()),
            **_changing_reset_code(record),
        )
        if not added:
            raise ConflictError("the user has a reset code")

    async def save(self, record: ResetCodeRecord) -> None:
        table = reset_codes.c
        statement = (
            update(reset_codes)
            .where(table.tenant_id == record.tenant_id, table.user_id == record.user_id)
            .where(table.enrollment_id == record.enrollment_id, table.version == record.version)
            .values(version=record.version + 1, **_changing_reset_code(record))
        )
        if not await self._connection.write(statement):
            raise ConflictError("the reset code has changed")


def _as_read(authenticator: Authenticator) -> dict[str, Any]:
    """The values of `_AS_READ`."""
    return {
        "of_tenant": authenticator.tenant_id,
        "of_user": authenticator.user_id,
        "of_enrollment": authenticator.enrollment_id,
        "read_version": authenticator.version,
    }


def _changing(authenticator: Authenticator) -> dict[str, Any]:
    return {
        "key_id": authenticator.sealed_secret.key_id,
        "ciphertext": authenticator.sealed_secret.ciphertext,
        "last_step": authenticator.last_step,
        **throttle_values(authenticator.throttle),
        "failed_sessions": session_values(authenticator.sessions),
        "refused_at": authenticator.refused_at,
        "code_history": history_values(authenticator.history),
        "unlocked_at": [microseconds(at) for at in authenticator.unlocked_at],
    }


def _changing_reset_code(record: ResetCodeRecord) -> dict[str, Any]:
    return {
        "key_id": record.sealed_key.key_id,
        "ciphertext": record.sealed_key.ciphertext,
        "failed_sessions": session_values(record.sessions),
    }


def read_authenticator(row: Row[Any]) -> Authenticator:
    """Read a row of `authenticators`."""
    return Authenticator(
        tenant_id=TenantId(row.tenant_id),
        user_id=UserId(row.user_id),
        enrollment_id=row.enrollment_id,
        sealed_secret=SealedSecret(row.key_id, row.ciphertext),
        activated_at=row.activated_at,
        last_step=row.last_step,
        throttle=read_throttle(row),
        sessions=read_sessions(row.failed_sessions, ONE_TIME_CODES),
        refused_at=row.refused_at,
        history=read_history(row.code_history),
        version=row.version,
        generation=row.generation or 1,
        enrolled_session=SessionHash(row.enrolled_session) if row.enrolled_session else None,
        unlocked_at=tuple(map(instant_at, row.unlocked_at or ())),
    )


def _read_reset_code(row: Row[Any]) -> ResetCodeRecord:
    return ResetCodeRecord(
        tenant_id=TenantId(row.tenant_id),
        user_id=UserId(row.user_id),
        enrollment_id=row.enrollment_id,
        sealed_key=SealedSecret(row.key_id, row.ciphertext),
        digest=row.digest,
        sessions=read_sessions(row.failed_sessions, RESET_CODES),
        version=row.version,
    )
