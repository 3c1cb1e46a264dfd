"""CreateChallenge: what is asked, what needs a code, the limits, and a request sent again."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from uuid import UUID

import pytest
from stepup_tests.challenges import challenge_of, item
from stepup_tests.people import CALLER, person, playbook_run
from stepup_tests.worker import API_KEYS, OSQUERY, REMOTE_SHELL, details_of

from stepup.domain.actor import CallerId, RetryReceipt
from stepup.domain.audit import EventKind, written
from stepup.domain.challenge import LONGEST_OPEN, ChallengeState
from stepup.domain.errors import ChallengeLimitError, InvalidFieldError, StoreUnavailableError
from stepup.domain.policy import EVERY_TIME

ALICE, BOB = person(), person("bob")
SOAR, CONSOLE = CALLER, CallerId("console")
REQUEST, OTHER_REQUEST = UUID(int=1), UUID(int=2)


async def needed(worker, actor=ALICE, *operations):
    created = await worker.create(actor, *((each, "host-1") for each in operations or [OSQUERY]))
    return [each.needed for each in created.items]


async def fill(world, user="alice", *, tenant="acme", number, caller=SOAR, at=None):
    """Store pending challenges past the service."""
    now = at or world.clock.now()
    async with world.database.transaction() as records:
        for index in range(number):
            pending = challenge_at(now, person(user, tenant=tenant), index, caller)
            await records.challenges.add(pending)


def challenge_at(now, actor, index, caller):
    number = 1000 + index + 10_000 * sum(map(ord, actor.user_id + actor.tenant_id + caller))
    return challenge_of(actor, ChallengeState.PENDING, at=now, number=number, caller=caller)


class TestNew:
    async def test_the_challenge_is_what_was_asked_for(self, worker, clock):
        items = [(OSQUERY, "host-1"), (OSQUERY, "host-2")]
        created = await worker.create(
            ALICE,
            *items,
            title="The response team",
            expires_in=timedelta(minutes=2),
            valid_for=timedelta(hours=1),
        )
        assert (created.tenant_id, created.user_id, created.session_hash) == (
            ALICE.tenant_id,
            ALICE.user_id,
            ALICE.session_hash,
        )
        assert created.items == (item("host-1", needed=False), item("host-2", needed=False))
        assert (created.caller, created.requested_by) == (SOAR, "The response team")
        assert created.expires_at == clock.now() + timedelta(minutes=2)
        assert created.valid_for == timedelta(hours=1)
        found = await worker.read(ALICE, created.challenge_id)
        assert (found.challenge, found.state) == (created, ChallengeState.PENDING)

    async def test_the_audit_trail_has_what_the_person_sees(self, worker, clock):
        created = await worker.create(ALICE, (REMOTE_SHELL, "h"), title="SOAR", message="Look")
        [event] = await worker.events()
        assert (event.kind, event.caller) == (EventKind.CHALLENGE_CREATED, SOAR)
        assert event.details == details_of(
            ALICE,
            challenge_id=str(created.challenge_id),
            requested_by="SOAR",
            message="Look",
            items=[{"operation": REMOTE_SHELL, "target": "h", "label": "Host h"}],
            expires_at=written(clock.now() + LONGEST_OPEN),
        )

    @pytest.mark.parametrize("fault", ["audit_trail_takes_events", "writes", "commits"])
    async def test_s13_without_its_event_there_is_no_challenge(self, world, worker, fault):
        setattr(world.database, fault, False)
        await world.refuses(worker.challenge(ALICE))


class TestNeeded:
    async def test_what_the_policy_does_not_select_needs_no_code(self, worker):
        await worker.select(OSQUERY)
        assert await needed(worker, ALICE, OSQUERY, API_KEYS) == [True, False]

    async def test_an_elevation_counts_but_not_for_what_needs_a_code_every_time(self, worker):
        await worker.select(OSQUERY, **{REMOTE_SHELL: EVERY_TIME})
        await worker.elevate(ALICE, await worker.enrol(ALICE))
        assert await needed(worker, ALICE, OSQUERY, REMOTE_SHELL) == [False, True]

    async def test_an_exempt_actor_needs_none(self, worker):
        await worker.select(OSQUERY, API_KEYS)
        automatic = person(playbook_run=playbook_run())
        assert await needed(worker, automatic, OSQUERY, API_KEYS) == [False, True]

    async def test_a_receipt_and_a_challenge_of_the_actor_are_not_looked_at(self, world, worker):
        await worker.select(OSQUERY)
        await worker.elevate(ALICE, await worker.enrol(ALICE))
        receipt = (await worker.check(ALICE)).receipt
        await worker.revoke(ALICE)
        presenting = replace(ALICE, retry_receipt=RetryReceipt(receipt), challenge_id=REQUEST)
        assert await needed(worker, presenting) == [True]
        assert world.tables()["redemptions"] == []

    async def test_nothing_is_created_where_it_cannot_be_known(self, world, worker):
        await worker.select(OSQUERY)
        world.elevations.finds = False
        await world.refuses(worker.challenge(ALICE))

    async def test_the_decision_log_has_no_line(self, world, worker):
        await worker.challenge(ALICE)
        assert world.decisions() == []


class TestLimits:
    async def test_a_user_gets_ten_a_minute_from_all_callers(self, world, worker):
        for number in range(10):
            await worker.challenge(ALICE, caller=SOAR if number % 2 else CONSOLE)
            await worker.advance(seconds=1)
        refused = await world.refuses(worker.challenge(ALICE), ChallengeLimitError)
        assert refused.retry_after == timedelta(seconds=50)
        await worker.challenge(BOB)
        await worker.challenge(person(tenant="globex"))
        await worker.advance(seconds=49)
        await world.refuses(worker.challenge(ALICE), ChallengeLimitError)
        await worker.advance(seconds=1)
        await worker.challenge(ALICE)
        refused = await world.refuses(worker.challenge(ALICE), ChallengeLimitError)
        assert refused.retry_after == timedelta(seconds=1)

    async def test_a_user_has_twenty_pending_ones(self, world, worker):
        await fill(world, number=20, at=world.clock.now() - timedelta(minutes=2))
        refused = await world.refuses(worker.challenge(ALICE), ChallengeLimitError)
        assert refused.retry_after is None
        await worker.challenge(BOB)
        [view] = await worker.list_challenges(ALICE, limit=1)
        await worker.decline(ALICE, view.challenge.challenge_id)
        await worker.challenge(ALICE)
        await world.refuses(worker.challenge(ALICE), ChallengeLimitError)
        await worker.advance(minutes=8)
        await worker.challenge(ALICE)

    async def test_a_caller_has_a_thousand_pending_ones_in_a_tenant(self, world, worker):
        await fill(world, "bob", number=1000)
        refused = await world.refuses(worker.challenge(ALICE), ChallengeLimitError)
        assert refused.retry_after is None
        await worker.challenge(ALICE, caller=CONSOLE)
        await worker.challenge(person(tenant="globex"))
        await worker.advance(minutes=10)
        await worker.challenge(ALICE)

    async def test_the_limits_hold_for_parallel_calls(self, world, worker):
        await fill(world, "bob", number=995)
        users = [person(f"user-{number}") for number in range(8)]
        outcomes = await asyncio.gather(
            *(worker.challenge(user) for user in users),
            *(worker.challenge(ALICE, caller=CONSOLE) for _ in range(12)),
            return_exceptions=True,
        )
        of_caller, of_user = outcomes[:8], outcomes[8:]
        assert sum(isinstance(each, UUID) for each in of_caller) == 5
        assert sum(isinstance(each, UUID) for each in of_user) == 10
        refused = [each for each in outcomes if not isinstance(each, UUID)]
        assert all(isinstance(each, ChallengeLimitError) for each in refused)


class TestSentAgain:
    async def test_the_same_request_gets_the_first_challenge(self, world, worker):
        first = await worker.create(ALICE, request_id=REQUEST)
        await worker.advance(seconds=59)
        before = await world.state()
        again = await worker.create(ALICE, request_id=REQUEST)
        assert again == first
        assert await world.state() == before

    async def test_the_present_state_is_returned(self, worker):
        first = await worker.challenge(ALICE, request_id=REQUEST)
        await worker.decline(ALICE, first)
        again = await worker.create(ALICE, request_id=REQUEST)
        assert (again.challenge_id, again.stored_state) == (first, ChallengeState.DECLINED)

    async def test_parallel_ones_create_one_challenge(self, worker):
        ids = await asyncio.gather(
            *(worker.challenge(ALICE, request_id=REQUEST) for _ in range(20))
        )
        assert len(set(ids)) == len(await worker.events()) == 1

    async def test_it_counts_for_no_limit(self, worker):
        for _ in range(12):
            await worker.challenge(ALICE, request_id=REQUEST)

    async def test_a_minute_later_it_creates_another_one(self, worker):
        first = await worker.challenge(ALICE, request_id=REQUEST)
        await worker.advance(minutes=1)
        assert await worker.challenge(ALICE, request_id=REQUEST) != first

    async def test_requests_of_other_ids_or_without_one_are_new(self, worker):
        ids = [
            await worker.challenge(ALICE, request_id=request_id)
            for request_id in (REQUEST, OTHER_REQUEST, None, None)
        ]
        assert len(set(ids)) == 4

    async def test_another_users_request_has_nothing_to_do_with_it(self, worker):
        first = await worker.challenge(ALICE, request_id=REQUEST)
        assert await worker.challenge(BOB, request_id=REQUEST) != first

    @pytest.mark.parametrize(
        "other",
        [
            {"caller": CONSOLE},
            {"actor": person(session="phone")},
            {"items": [(OSQUERY, "host-2")]},
            {"items": [(OSQUERY, "host-1"), (OSQUERY, "host-2")]},
            {"items": [(REMOTE_SHELL, "host-1")]},
            {"message": "Something else"},
            {"expires_in": timedelta(minutes=9)},
            {"valid_for": timedelta(minutes=14)},
        ],
        ids=lambda other: next(iter(other)),
    )
    async def test_another_request_is_refused(self, world, worker, other):
        await worker.challenge(ALICE, request_id=REQUEST)
        actor, items = other.pop("actor", ALICE), other.pop("items", [])
        refused = await world.refuses(
            worker.challenge(actor, *items, request_id=REQUEST, **other), InvalidFieldError
        )
        assert refused.field == "request_id"


async def test_s17_nobody_is_asked_while_the_policy_cannot_be_known(world, worker, clock):
    world.database.reads = False
    clock.advance(seconds=6)
    with pytest.raises(StoreUnavailableError):
        await worker.challenge(ALICE)
