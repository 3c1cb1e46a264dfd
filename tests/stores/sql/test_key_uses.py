"""The promises of `KeyUses`: which key seals what."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from stepup.domain.actor import SessionHash, TenantId, UserId
from stepup.domain.authenticator import Authenticator, ResetCodeRecord, SealedSecret
from stepup.domain.enrollment import PendingEnrollment
from stepup.domain.totp import Label
from stepup.service.ports import SealCounts

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


async def enrol(database, tenant, user, key, reset_key):
    who = (TenantId(tenant), UserId(user))
    async with database.transaction() as records:
        await records.authenticators.add(
            Authenticator(*who, "enrollment", SealedSecret(key, b"x"), NOW, last_step=1)
        )
        await records.reset_codes.add(
            ResetCodeRecord(*who, "enrollment", SealedSecret(reset_key, b"x"), b"digest")
        )


async def begin(database, tenant, user, session, key, *, reset_key=None):
    who = (TenantId(tenant), UserId(user))
    pending = PendingEnrollment(
        *who,
        SessionHash(session),
        "enrollment",
        SealedSecret(key, b"x"),
        Label("label"),
        NOW + timedelta(minutes=10),
    )
    async with database.transaction() as records:
        await records.pending.replace(pending)
        if reset_key is not None:
            record = ResetCodeRecord(*who, "enrollment", SealedSecret(reset_key, b"x"), b"digest")
            await records.pending.save(replace(pending, confirmed_step=1), record)


async def without(database, key, after=None, limit=100):
    async with database.snapshot() as records:
        return await records.key_uses.users_without(key, after, limit)


async def counts(database):
    async with database.snapshot() as records:
        return await records.key_uses.counts()


async def test_s6_what_each_key_seals_is_counted(database):
    await enrol(database, "acme", "ann", "old", "old")
    await enrol(database, "acme", "bob", "new", "old")
    await begin(database, "acme", "cat", "s1", "old")
    await begin(database, "acme", "cat", "s2", "new", reset_key="old")
    assert await counts(database) == {
        "old": SealCounts(authenticators=1, pending_enrollments=1, reset_codes=3),
        "new": SealCounts(authenticators=1, pending_enrollments=1),
    }


async def test_s6_a_sample_has_the_keys_of_each_kind_of_secret(database):
    await enrol(database, "acme", "ann", "k1", "k2")
    await begin(database, "acme", "cat", "s1", "k3", reset_key="k4")
    async with database.snapshot() as records:
        assert await records.key_uses.sample(10) == {"k1", "k2", "k3", "k4"}
    await enrol(database, "acme", "bob", "k5", "k2")
    async with database.snapshot() as records:
        assert len(await records.key_uses.sample(1) & {"k1", "k5"}) == 1


@pytest.mark.parametrize(
    ("keys", "is_found"),
    [(("new", "new"), False), (("old", "new"), True), (("new", "old"), True)],
)
async def test_s6_a_user_is_found_by_any_secret_under_another_key(database, keys, is_found):
    await enrol(database, "acme", "ann", *keys)
    await begin(database, "acme", "bob", "s1", keys[0], reset_key=keys[1])
    found = [("acme", "ann"), ("acme", "bob")] if is_found else []
    assert await without(database, "new") == found


async def test_s6_a_wizard_without_a_reset_code_has_one_secret(database):
    await begin(database, "acme", "ann", "s1", "new")
    assert await without(database, "new") == []


async def test_users_come_once_in_batches_that_follow_each_other(database):
    for tenant, user in [("b", "z"), ("a", "z"), ("c", "a"), ("b", "a")]:
        await enrol(database, tenant, user, "old", "old")
        await begin(database, tenant, user, "s1", "old", reset_key="old")
    first = await without(database, "new", limit=3)
    assert first == [("a", "z"), ("b", "a"), ("b", "z")]
    assert await without(database, "new", after=first[-1], limit=3) == [("c", "a")]
    assert await without(database, "new", after=(TenantId("c"), UserId("a"))) == []
