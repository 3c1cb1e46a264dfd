"""Stores with the faults that races need: the doubles that every race test has to catch."""

import asyncio
import time
from contextlib import asynccontextmanager
from dataclasses import fields, replace
from datetime import timedelta

from stepup.service.ports import Records
from stepup.stores.redis.keyspace import rate_key

_WINDOW_SECONDS = 0.1
"""How long a double waits between its look and its write: others look meanwhile."""


class _Alone:
    """A repository whose every call is a transaction of its own."""

    def __init__(self, database, name):
        self._database = database
        self._name = name

    def __getattr__(self, method):
        async def call(*arguments, **options):
            async with self._database.transaction() as records:
                return await getattr(getattr(records, self._name), method)(*arguments, **options)

        return call


class _Blind(_Alone):
    """It locks for no longer than a read, and overwrites what was written meanwhile."""

    async def save(self, changed):
        async with self._database.transaction() as records:
            repository = getattr(records, self._name)
            stored = await repository.find_for_update(changed.tenant_id, changed.user_id)
            await repository.save(replace(changed, version=stored.version))

    async def remove(self, read):
        async with self._database.transaction() as records:
            repository = getattr(records, self._name)
            stored = await repository.find_for_update(read.tenant_id, read.user_id)
            if stored is not None:
                await repository.remove(stored)


class _LookThenWrite:
    """Redemptions that look whether a receipt was used, and only then note that it is."""

    def __init__(self):
        self._used = {}

    async def redeem(self, _tenant_id, decision_id, redemption, forget_at):  # noqa: ARG002
        was_used = decision_id in self._used
        await asyncio.sleep(_WINDOW_SECONDS)
        self._used[decision_id] = redemption
        return not was_used

    async def find(self, _tenant_id, decision_id):
        return self._used.get(decision_id)


class _LookThenUse(_Alone):
    """Challenges that look whether an item was used, and only then note it; their ends get lost."""

    def __init__(self, database, name):
        super().__init__(database, name)
        self._used = set()

    async def use_item(self, _tenant_id, challenge_id, place, _use):
        item = (challenge_id, place)
        was_used = item in self._used
        await asyncio.sleep(_WINDOW_SECONDS)
        self._used.add(item)
        return not was_used

    async def save(self, challenge):
        if challenge.ended_at is None:
            async with self._database.transaction() as records:
                await records.challenges.save(challenge)

    async def revoke(self, *_user):
        return []


class _Remembered(_Alone):
    """A feed that reads the revocations of a user once, and answers from memory afterwards."""

    def __init__(self, database, name):
        super().__init__(database, name)
        self._known = {}

    async def revocations_of(self, *user):
        if user not in self._known:
            async with self._database.snapshot() as records:
                self._known[user] = await records.changes.revocations_of(*user)
        return self._known[user]


class RacyDatabase:
    """Breaks the promises of the repositories that are named in `racy`."""

    def __init__(self, inner):
        self._inner = inner
        alone = {each.name: _Alone(inner, each.name) for each in fields(Records)}
        racy = {
            "authenticators": _Blind(inner, "authenticators"),
            "reset_codes": _Blind(inner, "reset_codes"),
            "redemptions": _LookThenWrite(),
            "challenges": _LookThenUse(inner, "challenges"),
            "changes": _Remembered(inner, "changes"),
        }
        self._records = Records(**(alone | racy))

    @asynccontextmanager
    async def transaction(self, _tenant_id=None):
        yield self._records

    def snapshot(self, tenant_id=None):
        return self._inner.snapshot(tenant_id)

    def reserved_snapshot(self):
        return self._inner.reserved_snapshot()


class RacyCallerRates:
    """Looks at a bucket, and only then writes what is left in it."""

    def __init__(self, redis):
        self._redis = redis

    async def spend(self, caller_id, tenant_id, rate, cost):
        key = rate_key(caller_id, tenant_id, rate)
        stored = int(await self._redis.get(key) or 0)
        arrival, wait = rate.spend(stored, time.time_ns() // 1000, cost)
        if wait:
            return timedelta(microseconds=wait)
        await self._redis.set(key, arrival)
        return None
