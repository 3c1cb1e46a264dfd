"""`ListPeople`, `GetPerson` and `ListTenants`: for administrators and operators, in pages."""

import asyncio
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest
from stepup_tests.people import ACME, administrator, operator, person
from stepup_tests.worker import OSQUERY

from stepup.domain.actor import TenantId, UserId
from stepup.domain.audit import EventKind
from stepup.domain.errors import (
    InvalidFieldError,
    OverloadedError,
    RoleRequiredError,
    StoreUnavailableError,
    UnknownPersonError,
)
from stepup.domain.person import PeopleCounts, PersonState
from stepup.service.calls.limits import TenantShare
from stepup.service.calls.page_tokens import PageTokens
from stepup.service.people.read import ListPeople, ListTenants

ROOT, OLGA = administrator(), operator()
READERS = pytest.mark.parametrize("reader", [ROOT, OLGA], ids=["administrator", "operator"])
ENROLLED, PENDING, NOT_ENROLLED, IN_GRACE, *_ = PersonState


@pytest.fixture
async def five(world, worker):
    """Alice and Bob are enrolled, Bob is locked; Carol has a wizard; Dan and Eve were asked."""
    await worker.enrol(person("alice"))
    await worker.fail(person("bob"), await worker.enrol(person("bob")), times=5)
    await worker.begin(person("carol"))
    async with world.database.transaction() as records:
        asked = {UserId(user): worker.clock.now() for user in ("dan", "eve")}
        await records.asked.note(ACME, asked, 10)
        await records.asked.note(TenantId("globex"), asked, 10)
        await records.accounts.set_mfa_enabled(ACME, UserId("eve"), enabled=False)


def names(page):
    return [view.person.user_id for view in page.people]


@READERS
@pytest.mark.usefixtures("five")
async def test_pages_follow_each_other_and_the_first_has_the_counts(worker, reader):
    first = await worker.list_people(reader, size=2)
    second = await worker.list_people(reader, size=2, token=first.next_token)
    third = await worker.list_people(reader, size=2, token=second.next_token)
    assert list(map(names, (first, second, third))) == [["alice", "bob"], ["carol", "dan"], ["eve"]]
    assert first.counts == PeopleCounts(enrolled=2, pending=1, not_enrolled=2, locked=1)
    assert (second.counts, third.counts, third.next_token) == (None, None, "")


@pytest.mark.usefixtures("five")
async def test_a_filter_keeps_people_in_a_state_and_counts_stay_those_of_all(worker):
    page = await worker.list_people(ROOT, PersonState.LOCKED)
    assert [(view.person.user_id, *view.states) for view in page.people] == [
        ("bob", PersonState.ENROLLED, PersonState.LOCKED)
    ]
    assert page.counts == (await worker.list_people(ROOT)).counts
    pending = await worker.list_people(ROOT, PENDING, size=1)
    assert (names(pending), pending.next_token) == (["carol"], "")


@pytest.mark.usefixtures("five")
async def test_people_are_in_grace_while_the_policy_gives_them_time(worker):
    assert (await worker.list_people(ROOT, IN_GRACE)).people == []
    enroll_by = worker.clock.now() + timedelta(minutes=1)
    await worker.update_policy(ROOT, enabled=True, enroll_by=enroll_by)
    page = await worker.list_people(ROOT, IN_GRACE)
    assert (names(page), page.counts.in_grace) == (["dan"], 1)
    dan, eve = [await worker.person(ROOT, user) for user in ("dan", "eve")]
    assert (dan.states, eve.states) == ((NOT_ENROLLED, IN_GRACE), (NOT_ENROLLED,))
    await worker.advance(minutes=1)
    assert (await worker.list_people(ROOT, IN_GRACE)).people == []
    assert (await worker.person(ROOT, "dan")).states == (NOT_ENROLLED,)


@READERS
@pytest.mark.usefixtures("five")
async def test_a_person_is_found_with_all_that_is_stored(worker, reader):
    view = await worker.person(reader, "carol")
    assert view.states == (PENDING,)
    assert view.person.pending_until > worker.clock.now()
    with pytest.raises(UnknownPersonError):
        await worker.person(reader, "zoe")


async def test_s16_a_person_with_another_role_reads_nobody(world, worker):
    await world.refuses(worker.list_people(person()), RoleRequiredError)
    await world.refuses(worker.person(person(), "alice"), RoleRequiredError)


@pytest.mark.usefixtures("five")
async def test_s16_what_an_operator_reads_is_on_record_once_a_list(worker):
    page = await worker.list_people(OLGA, size=2)
    await worker.list_people(OLGA, size=2, token=page.next_token)
    await worker.person(OLGA, "bob")
    with pytest.raises(UnknownPersonError):
        await worker.person(OLGA, "zoe")
    await worker.list_people(ROOT)
    await worker.person(ROOT, "bob")
    events = await worker.events(EventKind.OPERATOR_READ)
    assert [(event.details["method"], event.subject_user_id) for event in events] == [
        ("PeopleService/ListPeople", None),
        ("PeopleService/GetPerson", "bob"),
        ("PeopleService/GetPerson", "zoe"),
    ]


async def test_s16_an_operator_reads_nothing_that_cannot_be_recorded(world, worker):
    world.database.audit_trail_takes_events = False
    await world.refuses(worker.list_people(OLGA))
    await world.refuses(worker.person(OLGA, "alice"))


@pytest.mark.parametrize(
    ("actor", "state"), [(ROOT, ENROLLED), (administrator(tenant="globex"), None)]
)
@pytest.mark.usefixtures("five")
async def test_a_token_of_another_tenant_or_state_is_refused(world, worker, actor, state):
    token = (await worker.list_people(ROOT, size=1)).next_token
    await world.refuses(worker.list_people(actor, state, token=token), InvalidFieldError)


@pytest.mark.parametrize(
    "giver",
    [ROOT, operator(name="otto"), operator(reason="another")],
    ids=["person", "name", "reason"],
)
@pytest.mark.usefixtures("five")
async def test_s16_an_operator_reads_no_page_of_a_list_that_another_began(world, worker, giver):
    token = (await worker.list_people(giver, size=1)).next_token
    await world.refuses(worker.list_people(OLGA, token=token), InvalidFieldError)


async def test_s18_few_pages_of_a_tenant_are_read_at_a_time(world, worker):
    may_end = asyncio.Event()

    class Slow:
        @asynccontextmanager
        async def snapshot(self, tenant_id):
            await may_end.wait()
            async with world.database.snapshot(tenant_id) as records:
                yield records

    share = TenantShare(at_once=1, waiting=0)
    list_people = ListPeople(Slow(), PageTokens(world.keys), share)
    context = worker.context(ROOT)
    first = asyncio.create_task(list_people(context, None, 10))
    await asyncio.sleep(0)
    with pytest.raises(OverloadedError):
        await list_people(context, None, 10)
    may_end.set()
    assert (await first).people == []


async def test_tenants_are_listed_in_pages(world, worker):
    for tenant in ("acme", "globex", "initech"):
        await worker.revoke(person(tenant=tenant))
    await worker.select(OSQUERY, tenant=TenantId("globex"))
    list_tenants = worker.application.handlers.people.tenants
    first = await list_tenants(2)
    second = await list_tenants(2, first.next_token)
    assert [
        [(known.tenant_id, known.policy_enabled) for known in page.tenants]
        for page in (first, second)
    ] == [[("acme", False), ("globex", True)], [("initech", False)]]
    assert second.next_token == ""
    token = PageTokens(world.keys).make(("people", "acme", ""), "alice")
    with pytest.raises(InvalidFieldError):
        await list_tenants(2, token)


@pytest.mark.parametrize("read", ["list", "get", "tenants"])
async def test_s17_nobody_is_listed_while_the_database_cannot_be_read(world, worker, read):
    world.database.reads = False
    with pytest.raises(StoreUnavailableError):
        await {
            "list": lambda: worker.list_people(ROOT),
            "get": lambda: worker.person(ROOT, "alice"),
            "tenants": lambda: ListTenants(world.database, PageTokens(world.keys), TenantShare(1))(
                5
            ),
        }[read]()
