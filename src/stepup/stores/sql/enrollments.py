"""The open enrollment wizards."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Row, and_, delete, select, update

from stepup.domain.actor import SessionHash, TenantId, UserId
from stepup.domain.authenticator import ResetCodeRecord, SealedSecret
from stepup.domain.enrollment import PendingEnrollment
from stepup.domain.errors import ConflictError
from stepup.domain.totp import Label
from stepup.stores.sql.connection import Repository
from stepup.stores.sql.tables import pending_enrollments as pendings


class SqlPendingEnrollments(Repository):
    """Implements `PendingEnrollments` (S7)."""

    async def find(
        self, tenant_id: TenantId, user_id: UserId, session_hash: SessionHash
    ) -> PendingEnrollment | None:
        query = select(pendings).where(_of(tenant_id, user_id, session_hash))
        return await self._connection.fetch_first(query, _read)

    async def find_for_update(
        self, tenant_id: TenantId, user_id: UserId, session_hash: SessionHash
    ) -> PendingEnrollment | None:
        query = select(pendings).where(_of(tenant_id, user_id, session_hash)).with_for_update()
        name = f"{tenant_id}/{user_id}/{session_hash}"
        return await self._connection.fetch_or_lock(query, _read, name)

    async def replace(self, pending: PendingEnrollment) -> None:
        await self._connection.insert_or_replace(
            pendings,
            tenant_id=pending.tenant_id,
            user_id=pending.user_id,
            session_hash=pending.session_hash,
            enrollment_id=pending.enrollment_id,
            key_id=pending.sealed_secret.key_id,
            ciphertext=pending.sealed_secret.ciphertext,
            account_name=pending.account_name,
            expires_at=pending.expires_at,
            issuer=pending.issuer,
            replaces=pending.replaces,
            by_reset_code=pending.by_reset_code,
            elevated_at=pending.elevated_at,
            failures=pending.failures,
            confirmed_step=pending.confirmed_step,
            **_reset_code_values(None),
            version=0,
        )

    async def save(
        self, pending: PendingEnrollment, reset_code: ResetCodeRecord | None = None
    ) -> None:
        changed: dict[str, Any] = {
            "key_id": pending.sealed_secret.key_id,
            "ciphertext": pending.sealed_secret.ciphertext,
            "failures": pending.failures,
            "confirmed_step": pending.confirmed_step,
            "version": pending.version + 1,
        }
        if reset_code is not None:
            changed |= _reset_code_values(reset_code)
        statement = (
            update(pendings)
            .where(_same(pending), pendings.c.version == pending.version)
            .values(changed)
        )
        if not await self._connection.write(statement):
            raise ConflictError("the enrollment has changed")

    async def reset_code(self, pending: PendingEnrollment) -> ResetCodeRecord | None:
        return await self._connection.fetch_first(
            select(pendings).where(_same(pending), pendings.c.reset_digest.is_not(None)),
            _read_reset_code,
        )

    async def sessions(self, tenant_id: TenantId, user_id: UserId) -> Sequence[SessionHash]:
        return await self._connection.fetch_all(
            select(pendings.c.session_hash).where(_of(tenant_id, user_id, None)),
            lambda row: SessionHash(row.session_hash),
        )

    async def remove(
        self, tenant_id: TenantId, user_id: UserId, session_hash: SessionHash | None = None
    ) -> int:
        return await self._connection.write(
            delete(pendings).where(_of(tenant_id, user_id, session_hash))
        )

    async def purge(self, now: datetime, limit: int) -> int:
        return await self._connection.delete_some(pendings, pendings.c.expires_at <= now, limit)


def _of(
    tenant_id: TenantId, user_id: UserId, session_hash: SessionHash | None
) -> ColumnElement[bool]:
    of_user = and_(pendings.c.tenant_id == tenant_id, pendings.c.user_id == user_id)
    if session_hash is None:
        return of_user
    return and_(of_user, pendings.c.session_hash == session_hash)


def _same(pending: PendingEnrollment) -> ColumnElement[bool]:
    return and_(
        _of(pending.tenant_id, pending.user_id, pending.session_hash),
        pendings.c.enrollment_id == pending.enrollment_id,
    )


def _reset_code_values(record: ResetCodeRecord | None) -> dict[str, Any]:
    return {
        "reset_key_id": record.sealed_key.key_id if record else None,
        "reset_ciphertext": record.sealed_key.ciphertext if record else None,
        "reset_digest": record.digest if record else None,
    }


def _read(row: Row[Any]) -> PendingEnrollment:
    return PendingEnrollment(
        tenant_id=TenantId(row.tenant_id),
        user_id=UserId(row.user_id),
        session_hash=SessionHash(row.session_hash),
        enrollment_id=row.enrollment_id,
        sealed_secret=SealedSecret(row.key_id, row.ciphertext),
        # Unchecked: a server of an earlier release takes names that this one refuses.
        account_name=str.__new__(Label, row.account_name),
        expires_at=row.expires_at,
        issuer=Label(row.issuer) if row.issuer is not None else None,
        replaces=row.replaces,
        by_reset_code=row.by_reset_code,
        elevated_at=row.elevated_at,
        failures=row.failures,
        confirmed_step=row.confirmed_step,
        version=row.version,
    )


def _read_reset_code(row: Row[Any]) -> ResetCodeRecord:
    return ResetCodeRecord(
        tenant_id=TenantId(row.tenant_id),
        user_id=UserId(row.user_id),
        enrollment_id=row.enrollment_id,
        sealed_key=SealedSecret(row.reset_key_id, row.reset_ciphertext),
        digest=row.reset_digest,
    )
