"""`ListAuditEvents` and `ExportAuditEvents`: read what happened, in pages and as a stream (S14)."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from stepup_tests.keys import fresh_ring
from stepup_tests.people import ACME, administrator, person
from stepup_tests.rotation import LateRing, rotated_ring
from stepup_tests.worker import OSQUERY

from stepup.domain.actor import TenantId, UserId
from stepup.domain.audit import NO_HASH, EventKind, chain_hash
from stepup.domain.errors import InvalidFieldError, StoreUnavailableError
from stepup.rpc.wire import encode
from stepup.service.audit.events import EXPORT_PAGE
from stepup.service.ports import EventQuery
from stepup.v1 import audit_service_pb2

ALICE, BOB = person("alice"), person("bob")
GLOBEX = TenantId("globex")
ALL = EventQuery(ACME)


@pytest.fixture
async def five_events(worker):
    """One each minute: by Alice, Bob, Alice, Bob, Alice."""
    for actor in (ALICE, BOB, ALICE, BOB, ALICE):
        await worker.revoke(actor)
        await worker.advance(minutes=1)


def sequences(events):
    return [event.sequence for event in events]


@pytest.mark.usefixtures("five_events")
async def test_pages_follow_each_other_without_gap_or_overlap(worker):
    first = await worker.page(ALL, 2)
    second = await worker.page(ALL, 2, first.next_token)
    third = await worker.page(ALL, 2, second.next_token)
    assert [sequences(page.events) for page in (first, second, third)] == [[1, 2], [3, 4], [5]]
    assert third.next_token == ""


@pytest.mark.usefixtures("five_events")
async def test_pages_of_the_newest_events_follow_each_other_though_others_are_appended(worker):
    newest = replace(ALL, newest_first=True)
    first = await worker.page(newest, 2)
    await worker.revoke(ALICE)
    second = await worker.page(newest, 2, first.next_token)
    third = await worker.page(newest, 2, second.next_token)
    assert [sequences(page.events) for page in (first, second, third)] == [[5, 4], [3, 2], [1]]
    assert third.next_token == ""


async def test_a_page_of_large_events_has_fewer(worker):
    items = [(OSQUERY, f"{number:02}" + "\u00f6" * 126) for number in range(100)]
    for _ in range(8):
        await worker.challenge(ALICE, *items)
    sizes, token = [], ""
    while not sizes or token:
        page = await worker.page(ALL, 100, token)
        answer = audit_service_pb2.ListAuditEventsResponse(events=map(encode.event, page.events))
        sizes.append((len(page.events), answer.ByteSize() < 4 * 1024 * 1024))
        token = page.next_token
    assert sizes == [(6, True), (2, True)]


@pytest.mark.usefixtures("five_events")
async def test_what_happens_between_two_pages_is_on_the_next(worker):
    first = await worker.page(ALL, 4)
    await worker.revoke(ALICE)
    assert sequences((await worker.page(ALL, 4, first.next_token)).events) == [5, 6]


@pytest.mark.usefixtures("five_events")
async def test_another_tenants_events_are_not_shown(worker):
    await worker.revoke(person(tenant="globex"))
    assert len((await worker.page(ALL, 10)).events) == 5
    assert len((await worker.page(EventQuery(GLOBEX), 10)).events) == 1


async def test_s14_the_events_form_one_chain(worker):
    await worker.wizard(ALICE)
    events = (await worker.page(ALL, 10)).events
    previous = NO_HASH
    for number, chained in enumerate(events, start=1):
        assert chained.sequence == number
        assert chained.previous_hash == previous
        assert chained.hash == chain_hash(chained.event, number, previous)
        previous = chained.hash


async def test_a_user_filter_keeps_what_was_done_to_the_user(worker):
    root = administrator()
    await worker.enrol(ALICE)
    await worker.elevate(root, await worker.enrol(root))
    await worker.admin_reset(root, "alice")
    page = await worker.page(replace(ALL, user_id=UserId("alice")), 10)
    assert [chained.event.kind for chained in page.events[-2:]] == [
        EventKind.AUTHENTICATOR_RESET_BY_ADMINISTRATOR,
        EventKind.ACCOUNT_MFA_CHANGED,
    ]


async def test_time_user_and_kind_hold_together(worker):
    start = worker.clock.now()
    for actor in (ALICE, ALICE, BOB, ALICE):
        await worker.begin(actor)
        await worker.cancel(actor)
        await worker.revoke(actor)
        await worker.advance(minutes=1)
    query = EventQuery(
        ACME,
        start=start + timedelta(minutes=1),
        end=start + timedelta(minutes=3),
        user_id=UserId("alice"),
        kinds=frozenset({EventKind.ELEVATIONS_REVOKED, EventKind.ENROLLMENT_BEGUN}),
    )
    first = await worker.page(query, 1)
    second = await worker.page(query, 1, first.next_token)
    assert sequences([*first.events, *second.events]) == [4, 6]
    assert second.next_token == ""


@pytest.fixture
async def token(worker, five_events):  # noqa: ARG001  # one of two pages
    return (await worker.page(ALL, 2)).next_token


INSTANT = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    "query",
    [
        EventQuery(GLOBEX),
        replace(ALL, start=INSTANT),
        replace(ALL, end=INSTANT),
        replace(ALL, user_id=UserId("alice")),
        replace(ALL, kinds=frozenset({EventKind.OTP_VERIFIED})),
        replace(ALL, newest_first=True),
    ],
    ids=["tenant", "start", "end", "user", "kinds", "order"],
)
async def test_a_token_of_another_query_is_refused(worker, token, query):
    with pytest.raises(InvalidFieldError) as refused:
        await worker.page(query, 2, token)
    assert refused.value.field == "page_token"


@pytest.mark.usefixtures("five_events")
async def test_a_start_does_not_pass_for_an_end(worker):
    token = (await worker.page(replace(ALL, start=INSTANT), 2)).next_token
    with pytest.raises(InvalidFieldError):
        await worker.page(replace(ALL, end=INSTANT), 2, token)


@pytest.mark.usefixtures("five_events")
async def test_a_token_of_another_tenant_is_refused_though_the_filters_are_the_same(worker):
    """Sequence numbers say nothing of whose they are."""
    for _ in range(3):
        await worker.revoke(person("alice", tenant="globex"))
    theirs = EventQuery(GLOBEX, user_id=UserId("alice"))
    token = (await worker.page(theirs, 2)).next_token
    with pytest.raises(InvalidFieldError):
        await worker.page(replace(theirs, tenant_id=ACME), 2, token)
    assert len((await worker.page(theirs, 2, token)).events) == 1


async def test_a_token_does_not_depend_on_how_a_filter_was_written(worker):
    for _ in range(3):
        await worker.revoke(ALICE)
    kinds = [EventKind.OTP_VERIFIED, EventKind.ELEVATIONS_REVOKED, EventKind.POLICY_CHANGED]
    first = await worker.page(replace(ALL, kinds=frozenset(kinds)), 2)
    again = replace(ALL, kinds=frozenset(reversed(kinds)))
    assert sequences((await worker.page(again, 2, first.next_token)).events) == [3]


def test_the_key_of_tokens_makes_nothing_else():
    keys = fresh_ring()
    assert keys.page_tokens.keys[keys.primary] != keys.receipts.keys[keys.primary]


def _with_sequence(token, number):
    key_id, _, mac = urlsafe_b64decode(token).decode().split(".")
    return urlsafe_b64encode(f"{key_id}.{number}.{mac}".encode()).decode()


def _with_key_id(token, key_id):
    _, number, mac = urlsafe_b64decode(token).decode().split(".")
    return urlsafe_b64encode(f"{key_id}.{number}.{mac}".encode()).decode()


def _encoded(text):
    return urlsafe_b64encode(text).decode()


FORGERIES = {
    "another place": lambda token: _with_sequence(token, 0),
    "no number": lambda token: _with_sequence(token, "two"),
    "a number of thousands of digits": lambda token: _with_sequence(token, "9" * 5000),
    "an unknown key": lambda token: _with_key_id(token, "another"),
    "cut short": lambda token: token[:-4],
    "a letter more": lambda token: token + "A",
    "a blank more": lambda token: token + " ",
    "a blank before it": lambda token: " " + token,
    "a character of no alphabet inside": lambda token: token[:7] + "!" + token[7:],
    "a sign before the number": lambda token: _with_sequence(token, "+2"),
    "a zero before the number": lambda token: _with_sequence(token, "02"),
    "a blank before the number": lambda token: _with_sequence(token, " 2"),
    "no mac": lambda _: _encoded(b"k.2."),
    "one part": lambda _: _encoded(b"2"),
    "four parts": lambda token: _encoded(urlsafe_b64decode(token) + b".x"),
    "no base64": lambda _: "!",
    "no ASCII": lambda _: "é",
    "no UTF-8": lambda _: _encoded(b"\xff\xfe.2.x"),
    "a mac that is no ASCII": lambda token: _encoded(
        urlsafe_b64decode(token).rpartition(b".")[0] + ".é".encode()
    ),
}


@pytest.mark.parametrize("forge", FORGERIES.values(), ids=FORGERIES)
async def test_a_forged_token_is_refused(worker, token, forge):
    with pytest.raises(InvalidFieldError) as refused:
        await worker.page(ALL, 2, forge(token))
    assert refused.value.field == "page_token"


async def test_a_token_of_a_key_that_has_left_the_ring_is_refused(world, token):
    world.keys = fresh_ring()
    other_worker = await world.worker()
    with pytest.raises(InvalidFieldError):
        await other_worker.page(ALL, 2, token)


@pytest.mark.usefixtures("five_events")
async def test_a_token_of_a_key_that_was_added_just_now_is_taken(world):
    world.keys = rotated_ring()
    token = (await (await world.worker()).page(ALL, 2)).next_token
    world.keys = LateRing()
    assert sequences((await (await world.worker()).page(ALL, 2, token)).events) == [3, 4]


@pytest.mark.usefixtures("five_events")
async def test_an_export_that_is_resumed_anywhere_has_every_event_once(worker):
    events = await worker.export()
    for read in range(len(events) + 1):
        cursor = events[read - 1].sequence if read else 0
        await worker.revoke(ALICE)
        resumed = events[:read] + await worker.export(after=cursor)
        assert sequences(resumed) == list(range(1, len(resumed) + 1))


@pytest.mark.usefixtures("five_events")
async def test_an_export_from_beyond_the_newest_is_empty(worker):
    assert await worker.export(after=2**63 - 1) == []


@pytest.mark.parametrize("number", [EXPORT_PAGE, EXPORT_PAGE + 1])
async def test_an_export_goes_on_beyond_one_read(worker, number):
    for _ in range(number):
        await worker.revoke(ALICE)
    assert sequences(await worker.export()) == list(range(1, number + 1))


@pytest.mark.usefixtures("five_events")
async def test_an_export_has_no_other_tenants_events(worker):
    await worker.revoke(person(tenant="globex"))
    assert len(await worker.export(GLOBEX)) == 1


async def test_an_export_that_breaks_off_says_so(world, worker):
    for _ in range(EXPORT_PAGE + 1):
        await worker.revoke(ALICE)
    events = worker.application.handlers.audit.events.export(ACME, 0)
    received = [await anext(events) for _ in range(EXPORT_PAGE)]
    world.database.reads = False
    with pytest.raises(StoreUnavailableError):
        await anext(events)
    assert sequences(received) == list(range(1, EXPORT_PAGE + 1))
