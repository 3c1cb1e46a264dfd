"""Ids that were stored before `identity.fold_case` was turned on, on both databases."""

from datetime import UTC, datetime, timedelta

import pytest
from stepup_tests.clock import ManualClock
from stepup_tests.enrolled import RESET_CODE, store_enrolled
from stepup_tests.keys import fresh_ring

from stepup.domain.actor import CallerId, SessionHash, TenantId, UserId
from stepup.domain.audit import Event, EventKind
from stepup.domain.enrollment import PendingEnrollment
from stepup.domain.errors import StoreUnavailableError
from stepup.domain.person import EndedBy, PastAuthenticator
from stepup.domain.policy import Policy
from stepup.domain.totp import Label, TotpSecret
from stepup.service.audit.verification import AuditVerification
from stepup.service.policy.snapshots import Snapshots
from stepup.stores.sql import IdsCollideError, fold_ids, tables
from stepup.stores.sql.folding import _HISTORY

KEYS = fresh_ring()
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
ACME, SPELLED, ANN = TenantId("acme"), TenantId("Acme"), UserId("Ann@Acme.Example")
PAST = PastAuthenticator(NOW, EndedBy.OPERATOR)
FOLDED_ANN = UserId("ann@acme.example")


async def store(database, tenant=SPELLED, user=ANN):
    secret = TotpSecret.generate()
    await store_enrolled(database, KEYS, tenant, {user: secret}, NOW)
    async with database.transaction() as records:
        await records.accounts.set_mfa_enabled(tenant, user, True)
        await records.policies.save(Policy(tenant, True, {}, 1, NOW))
        await records.asked.note(tenant, {UserId("Bob"): NOW}, 1)
        await records.past.remember(tenant, user, PAST)
        place = (tenant, user, "e-2")
        await records.pending.replace(
            PendingEnrollment(
                tenant,
                user,
                SessionHash("0" * 32),
                "e-2",
                KEYS.seal(secret, *place),
                Label("label"),
                NOW + timedelta(minutes=10),
            )
        )
        await records.audit.append(
            Event(tenant, EventKind.OTP_VERIFIED, NOW, CallerId("soar"), user, user, {})
        )
    return secret


async def test_what_is_in_force_is_found_under_folded_ids_and_opens(url, database):
    secret = await store(database)
    await fold_ids(url, KEYS)
    async with database.transaction() as records:
        found = await records.authenticators.find(ACME, FOLDED_ANN)
        place = (ACME, FOLDED_ANN, found.enrollment_id)
        assert KEYS.open(found.sealed_secret, *place).octets == secret.octets
        assert KEYS.is_reset_code(
            RESET_CODE, await records.reset_codes.find_for_update(ACME, FOLDED_ANN)
        )
        assert await records.accounts.mfa_enabled(ACME, FOLDED_ANN)
        assert (await records.policies.find(ACME)).enabled
        assert await records.authenticators.find(SPELLED, ANN) is None
        assert await records.policies.find(SPELLED) is None
        assert not await records.pending.sessions(SPELLED, ANN)
        assert await records.past.find(ACME, FOLDED_ANN) == PAST
        for tenant, user in ((SPELLED, "Bob"), (ACME, "bob")):
            assert await records.people.find(tenant, UserId(user), NOW) is None


async def test_folding_again_changes_nothing_and_the_chain_still_verifies(url, database):
    await store(database)
    await fold_ids(url, KEYS)
    async with database.transaction() as records:
        await records.audit.append(
            Event(ACME, EventKind.OTP_VERIFIED, NOW, CallerId("soar"), FOLDED_ANN, FOLDED_ANN, {})
        )
    await fold_ids(url, KEYS)
    async with database.snapshot() as records:
        assert await records.authenticators.find(ACME, FOLDED_ANN)
    assert [damage async for damage in AuditVerification(database, fresh_ring()).of_all()] == []


@pytest.mark.parametrize(
    ("others", "named"),
    [((ACME, UserId("bob")), ("'Acme'", "'acme'")), ((SPELLED, FOLDED_ANN), (f"'{ANN}'",))],
    ids=["tenants", "users"],
)
async def test_ids_that_would_collide_are_both_named_and_nothing_is_changed(
    url, database, others, named
):
    await store(database)
    await store_enrolled(database, KEYS, others[0], {others[1]: TotpSecret.generate()}, NOW)
    with pytest.raises(IdsCollideError) as refused:
        await fold_ids(url, KEYS)
    assert all(name in str(refused.value) for name in named)
    async with database.snapshot() as records:
        assert await records.authenticators.find(SPELLED, ANN)


async def test_a_tenant_collides_with_one_of_which_only_the_audit_trail_knows(url, database):
    await store(database)
    async with database.transaction() as records:
        await records.audit.append(
            Event(ACME, EventKind.OTP_VERIFIED, NOW, CallerId("soar"), ANN, None, {})
        )
    with pytest.raises(IdsCollideError):
        await fold_ids(url, KEYS)


async def test_a_secret_that_does_not_open_is_moved_and_still_does_not_open(url, database):
    await store(database)
    await fold_ids(url, fresh_ring())
    async with database.snapshot() as records:
        assert await records.authenticators.find(ACME, FOLDED_ANN)


async def test_s17_a_server_that_does_not_fold_ids_decides_nothing_where_they_are(url, database):
    """It would find no policy of `Acme` any more, and allow everything."""
    await store(database)
    server = Snapshots(database, ManualClock())
    await server.poll()
    await fold_ids(url, KEYS)
    for read in (server.policy(SPELLED), server.poll()):
        with pytest.raises(StoreUnavailableError, match=r"identity\.fold_case"):
            await read


async def test_s17_a_server_that_folds_ids_decides_nothing_where_they_are_not_folded(database):
    """A back-up of before may have been restored."""
    with pytest.raises(StoreUnavailableError, match=r"identity\.fold_case"):
        await Snapshots(database, ManualClock(), folds_ids=True).poll()


async def test_what_is_folded_already_stays_as_it_is(url, database):
    await store(database, ACME, FOLDED_ANN)
    async with database.snapshot() as records:
        before = await records.authenticators.find(ACME, FOLDED_ANN)
    await fold_ids(url, KEYS)
    async with database.snapshot() as records:
        assert await records.authenticators.find(ACME, FOLDED_ANN) == before
        assert await records.pending.sessions(ACME, FOLDED_ANN)


def test_every_table_with_a_tenant_is_folded_but_for_history():
    """A new table that keeps old spellings needs a reason."""
    assert {table.name for table in _HISTORY} == {
        "audit_events",
        "audit_heads",
        "audit_checkpoints",  # of the chain
        "event_clients",  # of the events
        "changes",
    }
    assert all(
        table.c.tenant_id.type.python_type is str
        for table in tables.metadata.sorted_tables
        if "tenant_id" in table.c
    )
