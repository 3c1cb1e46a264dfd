"""Stores that fail when they are told to, around the ones that work."""

from contextlib import asynccontextmanager
from dataclasses import replace

from stepup.domain.errors import StoreUnavailableError


def _demand(works):
    if not works:
        raise StoreUnavailableError("told to fail")


class _FullDisk:
    """An audit trail that takes nothing."""

    async def append(self, _event):
        raise StoreUnavailableError("told to fail")


class FaultyDatabase:
    """A database that fails on demand, counts what it is asked, and lists for which tenants.

    `before_transaction` is awaited once, before the next transaction begins: what another call does
    just then.
    """

    def __init__(self, inner):
        self._inner = inner
        self.reads = self.writes = True
        self.audit_trail_takes_events = True
        self.commits = True
        self.acknowledges_commits = True
        self.before_transaction = None
        self.transactions = self.snapshots = 0
        self.tenants = []

    @asynccontextmanager
    async def transaction(self, tenant_id=None):
        hook, self.before_transaction = self.before_transaction, None
        if hook is not None:
            await hook()
        self.transactions += 1
        _demand(self.writes)
        self.tenants.append(tenant_id)
        async with self._inner.transaction(tenant_id) as records:
            yield records if self.audit_trail_takes_events else replace(records, audit=_FullDisk())
            _demand(self.commits)
        _demand(self.acknowledges_commits)

    @asynccontextmanager
    async def snapshot(self, tenant_id=None):
        self.snapshots += 1
        _demand(self.reads)
        self.tenants.append(tenant_id)
        async with self._inner.snapshot(tenant_id) as records:
            yield records

    @asynccontextmanager
    async def reserved_snapshot(self):
        self.snapshots += 1
        _demand(self.reads)
        async with self._inner.reserved_snapshot() as records:
            yield records


class FaultyElevations:
    """Elevations that fail on demand, and count how often they are looked up."""

    def __init__(self, inner):
        self._inner = inner
        self.finds = True
        self.replaces = True
        self.revokes = True
        self.look_ups = 0

    async def replace(self, elevation):
        _demand(self.replaces)
        await self._inner.replace(elevation)

    async def find(self, *key):
        self.look_ups += 1
        _demand(self.finds)
        return await self._inner.find(*key)

    async def revoke_session(self, *key):
        _demand(self.revokes)
        await self._inner.revoke_session(*key)

    async def revoke_user(self, *key):
        _demand(self.revokes)
        await self._inner.revoke_user(*key)


class FaultyOutcomes:
    """Recorded outcomes that fail on demand."""

    def __init__(self, inner):
        self._inner = inner
        self.claims = True
        self.records = True
        self.releases = True

    async def claim(self, key, fingerprint):
        _demand(self.claims)
        return await self._inner.claim(key, fingerprint)

    async def record(self, key, fingerprint, outcome):
        _demand(self.records)
        await self._inner.record(key, fingerprint, outcome)

    async def release(self, key):
        _demand(self.releases)
        await self._inner.release(key)


class FaultyCallerRates:
    """Callers' rates that fail on demand, and count how often they are asked."""

    def __init__(self, inner):
        self.inner = inner
        self.works = True
        self.asked = 0

    async def spend(self, *call):
        self.asked += 1
        _demand(self.works)
        return await self.inner.spend(*call)


class FaultyPortalSessions:
    """Portal sessions that fail on demand, and count how often use of a session is written."""

    def __init__(self, inner):
        self._inner = inner
        self.works = True
        self.extensions = 0

    async def put_link(self, token, session):
        _demand(self.works)
        await self._inner.put_link(token, session)

    async def take_link(self, token):
        _demand(self.works)
        return await self._inner.take_link(token)

    async def put(self, session_id, session):
        _demand(self.works)
        await self._inner.put(session_id, session)

    async def find(self, session_id):
        _demand(self.works)
        return await self._inner.find(session_id)

    async def extend(self, session_id, session):
        self.extensions += 1
        _demand(self.works)
        await self._inner.extend(session_id, session)

    async def remove(self, session_id):
        _demand(self.works)
        await self._inner.remove(session_id)


class FaultyDecisionLog:
    """A decision log that fails on demand."""

    def __init__(self, inner):
        self._inner = inner
        self.works = True

    async def record(self, entries):
        _demand(self.works)
        await self._inner.record(entries)
