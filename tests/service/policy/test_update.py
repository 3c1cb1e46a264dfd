"""`GetPolicy` and `UpdatePolicy`: who may change what, and what is recorded of it."""

from datetime import timedelta

import pytest
from stepup_tests.metrics import metric
from stepup_tests.people import administrator, operator, person
from stepup_tests.worker import API_KEYS, OSQUERY, REMOTE_SHELL, details_of

from stepup.domain.actor import TenantId, UserId
from stepup.domain.audit import EventKind, written
from stepup.domain.elevation import LIFETIME
from stepup.domain.errors import (
    ElevationRequiredError,
    EtagMismatchError,
    InvalidFieldError,
    RoleRequiredError,
    StoreUnavailableError,
)
from stepup.service.policy.update import GetPolicy

ROOT, OLGA = administrator(), operator()
MINUTE = timedelta(minutes=1)
FIVE_MINUTES = timedelta(minutes=5)


@pytest.fixture
async def policy(worker):
    return await worker.update_policy(
        ROOT, enabled=True, selected={OSQUERY: FIVE_MINUTES, REMOTE_SHELL: LIFETIME}
    )


async def elevate_root(worker):
    await worker.elevate(ROOT, await worker.enrol(ROOT))


async def test_reading_is_not_from_memory(world, worker, policy):
    other_worker = await world.worker()
    await other_worker.check(person())
    await worker.update_policy(ROOT, selected={**policy.max_ages, API_KEYS: MINUTE})
    assert API_KEYS in (await other_worker.policy()).max_ages


@pytest.mark.usefixtures("policy")
async def test_another_tenants_policy_is_untouched(worker):
    assert not (await worker.policy(TenantId("globex"))).enabled


async def test_another_role_changes_nothing(world, worker):
    await world.refuses(worker.update_policy(person(), enabled=True), RoleRequiredError)


async def test_a_stale_etag_changes_nothing(world, worker, policy):
    await worker.update_policy(ROOT, selected={**policy.max_ages, API_KEYS: MINUTE})
    await world.refuses(
        worker.update_policy(ROOT, selected=[OSQUERY], etag=policy.etag), EtagMismatchError
    )


async def test_an_etag_of_another_tenant_changes_nothing(world, worker):
    elsewhere = administrator(tenant="globex")
    other = await worker.update_policy(elsewhere, enabled=True)
    await worker.update_policy(ROOT, enabled=True)
    await world.refuses(
        worker.update_policy(ROOT, selected=[OSQUERY], etag=other.etag), EtagMismatchError
    )


@pytest.mark.usefixtures("policy")
async def test_an_etag_is_asked_for_even_where_nothing_would_change(worker):
    with pytest.raises(EtagMismatchError):
        await worker.update_policy(ROOT, enabled=True, etag="another")


async def test_of_two_parallel_changes_one_is_refused(world, worker, policy):
    """The other one commits after this one has read the policy."""
    other_worker = await world.worker()

    async def change_it():
        await other_worker.update_policy(ROOT, selected={**policy.max_ages, API_KEYS: MINUTE})

    world.database.before_transaction = change_it
    with pytest.raises(EtagMismatchError):
        await worker.update_policy(
            ROOT, selected={**policy.max_ages, API_KEYS: FIVE_MINUTES}, etag=policy.etag
        )
    assert (await worker.policy()).max_ages[API_KEYS] == MINUTE


@pytest.mark.parametrize(
    "change",
    [
        {"enabled": True},
        {"selected": [OSQUERY]},
        {"enabled": True, "selected": {OSQUERY: MINUTE}},
    ],
    ids=["enable", "select", "enable and select"],
)
async def test_enabling_and_selecting_need_no_elevation(worker, change):
    assert (await worker.update_policy(ROOT, **change)).version == 1


WEAKENINGS = {
    "disable": {"enabled": False},
    "lengthen a max_age": {"selected": {OSQUERY: 2 * FIVE_MINUTES, REMOTE_SHELL: LIFETIME}},
    "strengthen and weaken": {"selected": {OSQUERY: MINUTE, API_KEYS: MINUTE}},
}


@pytest.mark.usefixtures("policy")
@pytest.mark.parametrize("change", WEAKENINGS.values(), ids=WEAKENINGS)
async def test_a_weakening_needs_an_elevation(world, worker, change):
    await world.refuses(worker.update_policy(ROOT, **change), ElevationRequiredError)


@pytest.mark.usefixtures("policy")
@pytest.mark.parametrize("change", WEAKENINGS.values(), ids=WEAKENINGS)
async def test_an_elevated_administrator_may_weaken(worker, change):
    await elevate_root(worker)
    assert (await worker.update_policy(ROOT, **change)).version == 2


@pytest.mark.usefixtures("policy")
async def test_the_elevation_of_another_administrator_does_not_do(worker):
    other = administrator("other-root")
    await worker.elevate(other, await worker.enrol(other))
    with pytest.raises(ElevationRequiredError):
        await worker.update_policy(ROOT, enabled=False)


@pytest.mark.usefixtures("policy")
async def test_the_error_says_what_would_be_weaker(worker):
    with pytest.raises(ElevationRequiredError, match=f"{REMOTE_SHELL} is deselected"):
        await worker.update_policy(ROOT, selected={OSQUERY: FIVE_MINUTES})


async def test_the_same_values_again_change_nothing(world, worker, policy):
    before = await world.state()
    again = await worker.update_policy(ROOT, enabled=True, selected=dict(policy.max_ages))
    assert again == policy
    assert await world.state() == before


async def test_a_tenant_without_a_policy_always_gets_one_also_a_disabled_one(worker):
    policy = await worker.update_policy(ROOT, enabled=False)
    assert (policy.enabled, policy.version) == (False, 1)
    assert await worker.policy() == policy
    assert [event.kind for event in await worker.events()] == [EventKind.POLICY_CHANGED]


async def test_s13_a_change_is_one_event_with_before_and_after(worker, clock):
    before = await worker.policy()
    after = await worker.update_policy(ROOT, enabled=True, selected={OSQUERY: FIVE_MINUTES})
    [event] = await worker.events()
    assert event.kind is EventKind.POLICY_CHANGED
    assert (event.actor_user_id, event.subject_user_id) == ("root", None)
    assert event.occurred_at == clock.now()
    assert event.details == details_of(
        ROOT,
        before={
            "etag": before.etag,
            "enabled": False,
            "issuer": None,
            "enroll_by": None,
            "operations": {},
        },
        after={
            "etag": after.etag,
            "enabled": True,
            "issuer": None,
            "enroll_by": None,
            "operations": {OSQUERY: 300},
        },
    )


async def test_s13_a_change_of_the_issuer_is_one_event_with_before_and_after(worker):
    await worker.update_policy(ROOT, issuer="Acme")
    await worker.update_policy(ROOT, issuer="Acme GmbH")
    event = (await worker.events())[-1]
    assert [event.details[when]["issuer"] for when in ("before", "after")] == ["Acme", "Acme GmbH"]


@pytest.mark.parametrize("fault", ["reads", "writes", "audit_trail_takes_events", "commits"])
async def test_s13_without_its_event_nothing_is_changed(world, worker, fault):
    etag = (await worker.policy()).etag
    setattr(world.database, fault, False)
    await world.refuses(worker.update_policy(ROOT, enabled=True, etag=etag))


@pytest.mark.usefixtures("policy")
async def test_s17_without_redis_nothing_is_weakened(world, worker):
    world.elevations.finds = False
    with pytest.raises(StoreUnavailableError):
        await worker.update_policy(ROOT, enabled=False)
    assert (await worker.policy()).enabled


async def test_s17_without_redis_a_policy_is_enabled(world, worker):
    world.elevations.finds = False
    assert (await worker.update_policy(ROOT, enabled=True)).enabled


TEN_SECONDS = timedelta(seconds=10)


@pytest.fixture
async def short_since_before(world, worker):
    """A policy of the release before, which took a max_age of ten seconds."""
    await worker.select(OSQUERY, **{REMOTE_SHELL: FIVE_MINUTES})
    world.sql("UPDATE policies SET max_ages = replace(max_ages, '900', '10')")
    assert (await worker.policy()).max_ages[OSQUERY] == TEN_SECONDS


async def test_s22_a_new_max_age_is_at_least_30_seconds(worker, policy):
    short = {API_KEYS: MINUTE, OSQUERY: timedelta(seconds=29)}
    with pytest.raises(InvalidFieldError, match="from 30 seconds to 15 minutes") as refused:
        await worker.update_policy(ROOT, selected=short)
    assert refused.value.field == "policy.operations[1].max_age"
    assert await worker.policy() == policy


@pytest.mark.usefixtures("short_since_before")
async def test_s22_a_shorter_max_age_from_before_stays_while_others_change(worker):
    changed = {OSQUERY: TEN_SECONDS, REMOTE_SHELL: MINUTE}
    assert (await worker.update_policy(ROOT, selected=changed)).max_ages == changed
    assert (await worker.update_policy(ROOT, enabled=True)).max_ages == changed


@pytest.mark.usefixtures("short_since_before")
@pytest.mark.parametrize(
    ("selected", "index"),
    [
        ({OSQUERY: timedelta(seconds=9)}, 0),
        ({REMOTE_SHELL: FIVE_MINUTES, OSQUERY: timedelta(seconds=11)}, 1),
        ({OSQUERY: TEN_SECONDS, REMOTE_SHELL: TEN_SECONDS}, 1),
    ],
)
async def test_s22_a_shorter_max_age_from_before_is_not_changed_to_another_short_one(
    worker, selected, index
):
    with pytest.raises(InvalidFieldError) as refused:
        await worker.update_policy(ROOT, selected=selected)
    assert refused.value.field == f"policy.operations[{index}].max_age"


DAY = timedelta(days=1)


async def test_enabling_with_time_to_enrol_needs_no_elevation(worker, clock):
    enroll_by = clock.now() + 30 * DAY
    after = await worker.update_policy(ROOT, enabled=True, enroll_by=enroll_by)
    assert (after.enroll_by, after.enabled_at) == (enroll_by, clock.now())
    assert await worker.policy() == after
    assert (await worker.events())[-1].details["after"]["enroll_by"] == written(enroll_by)


@pytest.mark.usefixtures("policy")
async def test_time_to_enrol_on_an_enabled_policy_needs_an_elevation(world, worker, clock):
    first = clock.now() + 10 * DAY
    refused = await world.refuses(
        worker.update_policy(ROOT, enroll_by=first), ElevationRequiredError
    )
    assert "enroll_by is set" in str(refused)
    await elevate_root(worker)
    await worker.update_policy(ROOT, enroll_by=first)
    await worker.revoke(ROOT)
    later = worker.update_policy(ROOT, enroll_by=first + DAY)
    refused = await world.refuses(later, ElevationRequiredError)
    assert "enroll_by is moved to a later time" in str(refused)
    assert (await worker.update_policy(ROOT, enroll_by=first - DAY)).enroll_by == first - DAY


async def test_the_time_to_enrol_is_removed_and_otherwise_stays(worker, clock):
    enroll_by = clock.now() + DAY
    await worker.update_policy(ROOT, enabled=True, enroll_by=enroll_by)
    assert (await worker.update_policy(ROOT, selected=[OSQUERY])).enroll_by == enroll_by
    assert (await worker.update_policy(ROOT, enroll_by="")).enroll_by is None
    details = (await worker.events())[-1].details
    described = [details[when]["enroll_by"] for when in ("before", "after")]
    assert described == [written(enroll_by), None]


@pytest.mark.parametrize("days", [0, -1, 31])
async def test_an_enroll_by_that_is_past_or_too_late_is_refused(world, worker, clock, days):
    wrong = worker.update_policy(ROOT, enabled=True, enroll_by=clock.now() + days * DAY)
    assert (await world.refuses(wrong, InvalidFieldError)).field == "policy.enroll_by"


@pytest.mark.usefixtures("policy")
async def test_the_30_days_are_those_after_the_policy_was_enabled(world, worker, clock):
    """Also for an administrator who is elevated; a change of the issuer renews nothing."""
    enabled_at = clock.now()
    clock.advance(minutes=20 * 24 * 60)
    await worker.poll()
    await worker.update_policy(ROOT, issuer="Acme")
    await elevate_root(worker)
    too_late = worker.update_policy(ROOT, enroll_by=enabled_at + 31 * DAY)
    await world.refuses(too_late, InvalidFieldError)
    after = await worker.update_policy(ROOT, enroll_by=enabled_at + 30 * DAY)
    assert after.enabled_at == enabled_at


@pytest.mark.usefixtures("policy")
async def test_nobody_gets_30_more_days_without_an_elevation(world, worker, clock):
    """To disable the policy, and enable it again, needs the elevation of a weakening."""
    clock.advance(minutes=20 * 24 * 60)
    await worker.poll()
    enroll_by = clock.now() + 30 * DAY
    for change in ({"enabled": False}, {"enabled": False, "enroll_by": enroll_by}):
        await world.refuses(
            worker.update_policy(ROOT, **change),
            ElevationRequiredError if "enroll_by" not in change else InvalidFieldError,
        )
    await elevate_root(worker)
    await worker.update_policy(ROOT, enabled=False)
    again = await worker.update_policy(ROOT, enabled=True, enroll_by=enroll_by)
    assert again.enabled_at == clock.now()


def changes_by_operators():
    return metric("stepup_operator_acts_total", kind="policy_changed_by_operator")


@pytest.mark.usefixtures("policy")
async def test_s16_an_operator_strengthens_the_policy_without_redis(world, worker):
    world.elevations.finds = False
    before = changes_by_operators()
    stronger = {OSQUERY: MINUTE, REMOTE_SHELL: LIFETIME, API_KEYS: LIFETIME}
    assert (await worker.update_policy(OLGA, selected=stronger)).max_ages == stronger
    event = (await worker.events())[-1]
    assert event.kind is EventKind.POLICY_CHANGED_BY_OPERATOR
    assert (event.actor_user_id, event.subject_user_id) == (None, None)
    assert event.details["operator"] == {"name": OLGA.name, "reason": OLGA.reason}
    assert event.details["after"]["operations"][OSQUERY] == 60
    assert changes_by_operators() == before + 1


async def test_s16_an_operator_enables_a_policy_also_with_time_to_enrol(worker, clock):
    enroll_by = clock.now() + DAY
    assert (await worker.update_policy(OLGA, enabled=True, enroll_by=enroll_by)).enabled


@pytest.mark.usefixtures("policy")
@pytest.mark.parametrize("change", WEAKENINGS.values(), ids=WEAKENINGS)
async def test_s16_an_operator_never_weakens_the_policy(worker, change):
    await elevate_root(worker)
    before = changes_by_operators()
    with pytest.raises(RoleRequiredError):
        await worker.update_policy(OLGA, **change)
    assert changes_by_operators() == before
    attempt = (await worker.events())[-1]
    assert attempt.kind is EventKind.OPERATOR_READ
    assert attempt.details == details_of(OLGA, method="PolicyService/UpdatePolicy")


async def test_the_people_in_grace_are_counted_while_there_is_grace(world, worker, clock):
    policy = await worker.update_policy(ROOT, enabled=True, enroll_by=clock.now() + DAY)
    async with world.database.transaction() as records:
        await records.asked.note(policy.tenant_id, {UserId("bob"): clock.now()}, most=10)
    get = GetPolicy(world.database)
    assert await get.count_in_grace(policy, clock.now()) == 1
    assert await get.count_in_grace(policy, clock.now() + DAY) == 0


@pytest.mark.usefixtures("policy")
async def test_s16_an_operator_gives_no_time_to_enrol_on_an_enabled_policy(worker, clock):
    giving = worker.update_policy(OLGA, enroll_by=clock.now() + DAY)
    with pytest.raises(RoleRequiredError, match="enroll_by is set"):
        await giving
