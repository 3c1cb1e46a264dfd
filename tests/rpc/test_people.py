"""`ListPeople`, `GetPerson` and `ListTenants` on the wire."""

from datetime import timedelta

import grpc
import pytest
from stepup_tests.callers import admitting
from stepup_tests.people import ACME, administrator, operator, person
from stepup_tests.wire import Client, on_wire, refusal_of, served
from stepup_tests.worker import SIGN_IN

from stepup.domain.actor import CallerId, UserId
from stepup.domain.audit import EventKind
from stepup.domain.callers import Caller, Patterns, Rule
from stepup.domain.person import PersonState
from stepup.rpc.wire import encode
from stepup.rpc.wire.people import STATES, state_filter
from stepup.v1 import enrollment_service_pb2 as enrollment
from stepup.v1 import people_service_pb2 as people
from stepup.v1 import policy_service_pb2 as policy

ALICE = person()
ROOT, OLGA = on_wire(administrator()), on_wire(operator())


@pytest.fixture
async def alice(worker, clock):
    """Alice is locked, and was unlocked once."""
    app = await worker.enrol(ALICE)
    activated_at = clock.now() - timedelta(seconds=30)
    await worker.fail(ALICE, app, times=5)
    await worker.unlock(operator(), "alice")
    await worker.fail(ALICE, app, times=5)
    return people.Person(
        user_id="alice",
        states=[people.PERSON_STATE_ENROLLED, people.PERSON_STATE_LOCKED],
        enrollment=enrollment.Enrollment(
            enrollment_id=app.enrollment_id,
            activated_at=encode.timestamp(activated_at),
            locked_until=encode.timestamp(clock.now() + timedelta(minutes=30)),
            has_reset_code=True,
        ),
        account_mfa_enabled=True,
        unlocks_remaining=2,
    )


@pytest.fixture
async def bob(worker, clock):
    """Bob has a wizard, and was asked twice."""
    await worker.begin(person("bob"))
    first = clock.now()
    await worker.advance(minutes=1)
    async with worker.database.transaction() as records:
        for at in (first, clock.now()):
            await records.asked.note(ACME, {UserId("bob"): at}, 1)
    return people.Person(
        user_id="bob",
        states=[people.PERSON_STATE_PENDING, people.PERSON_STATE_NOT_ENROLLED],
        pending_until=encode.timestamp(first + timedelta(minutes=10)),
        first_asked_at=encode.timestamp(first),
        last_asked_at=encode.timestamp(clock.now()),
    )


@pytest.mark.parametrize("actor", [ROOT, OLGA], ids=["administrator", "operator"])
async def test_people_are_listed_with_all_that_is_known(client, alice, bob, actor):
    answer = await client.people.ListPeople(people.ListPeopleRequest(actor=actor))
    counts = people.PeopleCounts(enrolled=1, pending=1, not_enrolled=1, locked=1)
    assert answer == people.ListPeopleResponse(people=[alice, bob], counts=counts)
    for each in (alice, bob):
        request = people.GetPersonRequest(actor=actor, user_id=each.user_id)
        assert (await client.people.GetPerson(request)).person == each


@pytest.mark.parametrize("actor", [ROOT, OLGA], ids=["administrator", "operator"])
@pytest.mark.usefixtures("alice", "bob")
async def test_counts_come_without_people(client, worker, actor):
    answer = await client.people.ListPeople(people.ListPeopleRequest(actor=actor, counts_only=True))
    counts = people.PeopleCounts(enrolled=1, pending=1, not_enrolled=1, locked=1)
    assert answer == people.ListPeopleResponse(counts=counts)
    reads = await worker.events(EventKind.OPERATOR_READ)
    assert len(reads) == (1 if actor is OLGA else 0)


@pytest.mark.parametrize(
    "fields",
    [{"page_size": 1}, {"page_token": "x"}, {"state": people.PERSON_STATE_LOCKED}],
    ids=["page_size", "page_token", "state"],
)
async def test_counts_have_no_page(client, fields):
    request = people.ListPeopleRequest(actor=ROOT, counts_only=True, **fields)
    assert (await refusal_of(client.people.ListPeople(request))).fields == list(fields)


async def test_s16_only_an_administrator_of_a_tenant_has_its_counts(client):
    request = people.ListPeopleRequest(actor=on_wire(ALICE), counts_only=True)
    assert (await refusal_of(client.people.ListPeople(request))).reason == "ROLE_REQUIRED"


async def test_a_page_has_the_size_and_the_state_that_are_wanted(client, alice, bob):
    request = people.ListPeopleRequest(actor=ROOT, page_size=1)
    first = await client.people.ListPeople(request)
    request.page_token = first.next_page_token
    assert await client.people.ListPeople(request) == people.ListPeopleResponse(people=[bob])
    locked = people.ListPeopleRequest(actor=ROOT, state=people.PERSON_STATE_LOCKED)
    answer = await client.people.ListPeople(locked)
    assert (list(answer.people), answer.counts) == ([alice], first.counts)


def test_every_state_is_sent_and_taken_under_its_own_name():
    names = {state: people.PersonState.Name(number) for state, number in STATES.items()}
    assert names == {state: f"PERSON_STATE_{state.name}" for state in PersonState}
    assert {*names.values(), "PERSON_STATE_UNSPECIFIED"} == set(people.PersonState.keys())
    assert [state_filter(number) for number in STATES.values()] == list(STATES)
    assert state_filter(people.PERSON_STATE_UNSPECIFIED) is None


@pytest.mark.parametrize(
    ("method", "request_", "field"),
    [
        ("ListPeople", people.ListPeopleRequest(), "actor"),
        ("ListPeople", people.ListPeopleRequest(actor=ROOT, state=7), "state"),
        ("ListPeople", people.ListPeopleRequest(actor=ROOT, page_size=101), "page_size"),
        ("ListPeople", people.ListPeopleRequest(actor=ROOT, page_token="x"), "page_token"),
        ("GetPerson", people.GetPersonRequest(user_id="alice"), "actor"),
        ("GetPerson", people.GetPersonRequest(actor=ROOT), "user_id"),
        ("GetPerson", people.GetPersonRequest(actor=ROOT, user_id=" alice"), "user_id"),
        ("ListTenants", people.ListTenantsRequest(page_size=-1), "page_size"),
        ("ListTenants", people.ListTenantsRequest(page_token="x"), "page_token"),
    ],
)
async def test_a_spoilt_field_is_refused(client, method, request_, field):
    refusal = await refusal_of(getattr(client.people, method)(request_))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")
    assert refusal.fields == [field]


async def test_nobody_is_known_by_the_id(client):
    request = people.GetPersonRequest(actor=ROOT, user_id="alice")
    refusal = await refusal_of(client.people.GetPerson(request))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.NOT_FOUND, "UNKNOWN_PERSON")


@pytest.mark.parametrize(
    ("method", "request_"),
    [
        ("ListPeople", people.ListPeopleRequest(actor=on_wire(ALICE))),
        ("GetPerson", people.GetPersonRequest(actor=on_wire(ALICE), user_id="alice")),
    ],
)
async def test_s16_a_person_with_another_role_is_refused(client, method, request_):
    refusal = await refusal_of(getattr(client.people, method)(request_))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.PERMISSION_DENIED, "ROLE_REQUIRED")


@pytest.mark.parametrize(
    ("tenants", "is_permitted"), [(["*"], True), (["acme", "*"], True), (["a*", "acme"], False)]
)
async def test_s15_only_a_caller_for_all_tenants_lists_them(worker, tenants, is_permitted):
    await worker.revoke(ALICE)
    everything = Patterns(["*"])
    granted = Rule("rule", everything, Patterns(tenants), everything, frozenset())
    admit = admitting(Caller(CallerId("ops"), frozenset(), (granted,)), "spiffe://acme/ops")
    async with served(worker, admit) as server:
        client = Client(server.target)
        listing = client.people.ListTenants(people.ListTenantsRequest())
        if is_permitted:
            assert list((await listing).tenants) == [people.Tenant(tenant_id="acme")]
        else:
            assert (await refusal_of(listing)).reason == "CALLER_NOT_PERMITTED"
        await client.close()


async def test_a_policy_says_how_many_people_have_time_to_enrol(worker, client, clock):
    enroll_by = clock.now() + timedelta(minutes=1)
    await worker.update_policy(administrator(), enabled=True, enroll_by=enroll_by)
    for each in (ALICE, ALICE, person("bob"), person(tenant="globex")):
        await worker.check(each, SIGN_IN)
    await worker.application.asked.flush()
    request = policy.GetPolicyRequest(tenant_id="acme")
    assert (await client.policy.GetPolicy(request)).people_in_grace == 2
    await worker.wizard(ALICE)
    assert (await client.policy.GetPolicy(request)).people_in_grace == 1
    await worker.advance(minutes=1)
    assert (await client.policy.GetPolicy(request)).people_in_grace == 0
