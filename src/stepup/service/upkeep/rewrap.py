"""The second half of a rotation: seal all secrets by the primary key, while servers run.

The authenticators stay the same, so no audit event is written.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeAlias, TypeVar

from stepup.domain.actor import SessionHash, TenantId, UserId
from stepup.domain.authenticator import ResetCodeRecord, SealedSecret
from stepup.domain.errors import StoreUnavailableError
from stepup.service.ports import Clock, Database, Keys, Records, SealBrokenError, SealCounts

BATCH: Final = 20
"""How many users share a transaction. More users need fewer turns beside a busy server, which may
hold SQLite's only writer nearly all the time; fewer users keep other calls waiting less."""
ATTEMPTS: Final = 5
"""How often a batch is tried while the store is too busy."""
_SHORTEST_PAUSE_SECONDS = 0.001

_T = TypeVar("_T")
_UserKey: TypeAlias = tuple[TenantId, UserId]


@dataclass(frozen=True, slots=True)
class Rewrapped:
    """One user's secrets: how many were sealed again, and how many could not be opened."""

    tenant_id: TenantId
    user_id: UserId
    sealed_anew: SealCounts
    unreadable: int


@dataclass(frozen=True, slots=True)
class Rewrap:
    """Seals everything by the primary key.

    A few users share a short transaction, which locks their rows as every attempt with a code does:
    no attempt fails by it. An equally long pause follows, in which others can write to SQLite.
    """

    database: Database
    keys: Keys
    clock: Clock
    retry_seconds: float = 1.0

    async def __call__(self) -> AsyncIterator[Rewrapped]:
        """Seal all secrets that can be opened; yields each user when their secrets are done.

        Servers that do not have the new primary key yet may still seal by an older one: rounds are
        repeated until none finds anything.

        Raises:
            StoreUnavailableError: the users so far are done; another run continues with the others.
        """
        unreadable: set[_UserKey] = set()
        is_done = False
        while not is_done:
            is_done = True
            async for batch in self._batches():
                for rewrapped in await self._try([key for key in batch if key not in unreadable]):
                    is_done = False
                    if rewrapped.unreadable:
                        unreadable.add((rewrapped.tenant_id, rewrapped.user_id))
                    yield rewrapped

    async def _batches(self) -> AsyncIterator[Sequence[_UserKey]]:
        after = None
        while True:
            async with self.database.snapshot() as records:
                batch = await records.key_uses.users_without(self.keys.primary, after, BATCH)
            if not batch:
                return
            yield batch
            after = batch[-1]

    async def _try(self, batch: Sequence[_UserKey]) -> list[Rewrapped]:
        for _ in range(ATTEMPTS - 1):
            try:
                return await self._rewrap(batch)
            except StoreUnavailableError:
                await asyncio.sleep(self.retry_seconds)
        return await self._rewrap(batch)

    async def _rewrap(self, batch: Sequence[_UserKey]) -> list[Rewrapped]:
        began = self.clock.monotonic()
        async with self.database.transaction() as records:
            # Users are in order, so that two runs at once cannot deadlock.
            done = [await _User(records, self.keys, *key).rewrapped() for key in batch]
        await asyncio.sleep(max(self.clock.monotonic() - began, _SHORTEST_PAUSE_SECONDS))
        return done


class _User:
    """One user's secrets, in one transaction."""

    def __init__(self, records: Records, keys: Keys, tenant_id: TenantId, user_id: UserId) -> None:
        self._records = records
        self._keys = keys
        self._user = tenant_id, user_id
        self._unreadable = 0

    async def rewrapped(self) -> Rewrapped:
        """Seal the user's secrets again; those that cannot be opened stay unchanged."""
        # In the order in which the use cases take their locks.
        authenticators = await self._authenticator()
        reset_codes = await self._reset_code()
        pending_enrollments = 0
        for session_hash in await self._records.pending.sessions(*self._user):
            secrets, codes = await self._pending(session_hash)
            pending_enrollments += secrets
            reset_codes += codes
        counts = SealCounts(authenticators, pending_enrollments, reset_codes)
        return Rewrapped(*self._user, counts, self._unreadable)

    async def _authenticator(self) -> int:
        authenticator = await self._records.authenticators.find_for_update(*self._user)
        if authenticator is None:
            return 0
        sealed = self._secret(authenticator.sealed_secret, authenticator.enrollment_id)
        if sealed is None:
            return 0
        await self._records.authenticators.save(replace(authenticator, sealed_secret=sealed))
        return 1

    async def _reset_code(self) -> int:
        record = self._code(await self._records.reset_codes.find_for_update(*self._user))
        if record is None:
            return 0
        await self._records.reset_codes.save(record)
        return 1

    async def _pending(self, session_hash: SessionHash) -> tuple[int, int]:
        pending = await self._records.pending.find_for_update(*self._user, session_hash)
        if pending is None:
            return 0, 0
        sealed = self._secret(pending.sealed_secret, pending.enrollment_id)
        record = self._code(await self._records.pending.reset_code(pending))
        if sealed or record:
            after = replace(pending, sealed_secret=sealed or pending.sealed_secret)
            await self._records.pending.save(after, record)
        return int(sealed is not None), int(record is not None)

    def _secret(self, sealed: SealedSecret, enrollment_id: str) -> SealedSecret | None:
        def seal_anew() -> SealedSecret:
            secret = self._keys.open(sealed, *self._user, enrollment_id)
            return self._keys.seal(secret, *self._user, enrollment_id)

        return self._unless_primary(sealed.key_id, seal_anew)

    def _code(self, record: ResetCodeRecord | None) -> ResetCodeRecord | None:
        if record is None:
            return None
        return self._unless_primary(
            record.sealed_key.key_id, lambda: self._keys.reseal_reset_code(record)
        )

    def _unless_primary(self, key_id: str, seal_anew: Callable[[], _T]) -> _T | None:
        """Seal again; None if the primary key has sealed the secret, or if it cannot be opened."""
        if key_id == self._keys.primary:
            return None
        try:
            return seal_anew()
        except SealBrokenError:
            self._unreadable += 1
            return None
