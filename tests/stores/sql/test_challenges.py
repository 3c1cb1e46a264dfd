"""The promises of `Challenges` (S19)."""

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from sqlalchemy import func, select
from stepup_tests.challenges import ENROLLMENT, challenge_of, item
from stepup_tests.keys import fresh_ring
from stepup_tests.people import CALLER, person

from stepup.domain.actor import CallerId, TenantId
from stepup.domain.challenge import KEPT, LONGEST_OPEN, ChallengeState
from stepup.domain.elevation import CLOCK_TOLERANCE
from stepup.domain.receipts import Redemption
from stepup.stores.sql import fold_ids
from stepup.stores.sql.challenges import _PORTION
from stepup.stores.sql.tables import challenge_items

NOW = datetime(2026, 3, 1, 12, 0, 0, 123457, tzinfo=UTC)
MOMENT = timedelta(microseconds=1)
ALICE, BOB = person(), person("bob")
ELSEWHERE = person(tenant="globex")
PENDING, APPROVED, REVOKED = (
    ChallengeState.PENDING,
    ChallengeState.APPROVED,
    ChallengeState.REVOKED,
)
USE = Redemption(UUID(int=7), NOW, UUID(int=8), 2)


@pytest.fixture
def challenges(database):
    """Calls a method of the port in a transaction of its own."""

    class Alone:
        def __getattr__(self, name):
            async def call(*args, **options):
                async with database.transaction() as records:
                    return await getattr(records.challenges, name)(*args, **options)

            return call

    return Alone()


def key_of(challenge):
    return challenge.tenant_id, challenge.challenge_id


async def rows_of_items(database):
    async with database.snapshot() as records:
        connection = records.challenges._connection  # noqa: SLF001  # rows that no method finds
        [count] = await connection.fetch_all(
            select(func.count()).select_from(challenge_items), lambda row: row[0]
        )
        return count


async def added(challenges, *made):
    for challenge in made:
        await challenges.add(challenge)
    return made[0]


def one_of_each(*targets, states=ChallengeState, **fields):
    """A challenge of Alice in each state."""
    return [
        challenge_of(ALICE, state, *targets, number=number, **fields)
        for number, state in enumerate(states)
    ]


async def test_a_challenge_is_found_as_it_was_stored(challenges):
    fields = {"request_id": uuid4(), "valid_for": timedelta(hours=1)}
    for made in one_of_each("host-2", "host-1", at=NOW, **fields):
        await challenges.add(made)
        assert await challenges.find(*key_of(made)) == made
        assert await challenges.find_for_update(*key_of(made)) == made


async def test_a_challenge_belongs_to_its_tenant(challenges):
    made = await added(challenges, challenge_of(ALICE))
    for find in (challenges.find, challenges.find_for_update):
        assert await find(ELSEWHERE.tenant_id, made.challenge_id) is None
    assert await challenges.is_of_other_tenant(ELSEWHERE.tenant_id, made.challenge_id)
    assert not await challenges.is_of_other_tenant(*key_of(made))
    assert not await challenges.is_of_other_tenant(made.tenant_id, uuid4())


async def test_two_tenants_may_have_a_challenge_of_one_id(challenges):
    ours, theirs = challenge_of(ALICE), challenge_of(ELSEWHERE, PENDING, "host-9")
    await added(challenges, ours, theirs)
    assert await challenges.find(*key_of(ours)) == ours
    assert await challenges.find(*key_of(theirs)) == theirs


async def test_a_change_is_saved_and_the_uses_of_items_stay(challenges):
    made = await added(challenges, challenge_of(ALICE, PENDING, "host-1", "host-2"))
    approved = made.approved(NOW, BOB.session_hash, ENROLLMENT)
    await challenges.save(approved)
    assert await challenges.find(*key_of(made)) == approved
    assert await challenges.use_item(*key_of(made), 1, USE)
    await challenges.save(approved.cancelled(NOW))
    found = await challenges.find(*key_of(made))
    assert (found.stored_state, found.ended_at) == (ChallengeState.CANCELLED, NOW)
    assert [each.used for each in found.items] == [None, USE]


async def test_a_challenge_that_is_being_changed_is_waited_for(database, challenges):
    made = await added(challenges, challenge_of(ALICE, PENDING))
    locked = asyncio.Event()

    async def decline():
        async with database.transaction() as records:
            found = await records.challenges.find_for_update(*key_of(made))
            locked.set()
            await records.challenges.save(found.declined(NOW))

    declining = asyncio.create_task(decline())
    await locked.wait()
    found = await challenges.find_for_update(*key_of(made))
    await declining
    assert found.stored_state is ChallengeState.DECLINED


class TestList:
    async def test_pending_ones_are_first_and_the_newest_of_each(self, challenges):
        at = [NOW - timedelta(minutes=minutes) for minutes in range(5)]
        made = [
            challenge_of(ALICE, APPROVED, at=at[0], number=10),
            challenge_of(ALICE, PENDING, at=at[1], number=11),
            challenge_of(ALICE, PENDING, at=at[2], number=12),
            challenge_of(ALICE, PENDING, at=NOW - LONGEST_OPEN, number=13),
            challenge_of(ALICE, REVOKED, at=at[4], number=14),
            challenge_of(BOB, PENDING, at=at[1], number=15),
            challenge_of(ELSEWHERE, PENDING, at=at[1], number=16),
        ]
        await added(challenges, *made)
        listed = await challenges.of_user(ALICE.tenant_id, ALICE.user_id, NOW, 10)
        assert [each.challenge_id.int for each in listed] == [11, 12, 10, 14, 13]
        few = await challenges.of_user(ALICE.tenant_id, ALICE.user_id, NOW, 2)
        assert few == listed[:2]

    async def test_the_new_ones_of_a_user_are_the_later_ones_oldest_first(self, challenges):
        made = [
            challenge_of(actor, at=NOW + number * MOMENT, number=number)
            for number, actor in enumerate([ALICE, ALICE, ALICE, BOB, ELSEWHERE])
        ]
        await added(challenges, *reversed(made))
        found = await challenges.created_since(ALICE.tenant_id, ALICE.user_id, NOW)
        assert [each.challenge_id for each in found] == [each.challenge_id for each in made[1:3]]
        assert [each.created_at for each in found] == [NOW + MOMENT, NOW + 2 * MOMENT]


class TestCount:
    @pytest.fixture(autouse=True)
    async def stored(self, challenges):
        other = CallerId("console")
        await added(
            challenges,
            challenge_of(ALICE, PENDING, at=NOW, number=1),
            challenge_of(ALICE, PENDING, at=NOW, number=2, caller=other),
            challenge_of(BOB, PENDING, at=NOW, number=3),
            challenge_of(ALICE, APPROVED, at=NOW, number=4),
            challenge_of(ALICE, PENDING, at=NOW - timedelta(minutes=5), number=5),
            challenge_of(ELSEWHERE, PENDING, at=NOW, number=6),
        )

    @pytest.mark.parametrize(
        ("of", "count"), [({"user_id": ALICE.user_id}, 3), ({"caller": CALLER}, 3), ({}, 4)]
    )
    async def test_only_the_pending_ones_of_a_tenant_count(self, challenges, of, count):
        assert await challenges.count_pending(ALICE.tenant_id, NOW, **of) == count

    async def test_at_its_end_a_challenge_counts_no_longer(self, challenges):
        end, user = NOW + timedelta(minutes=5), {"user_id": ALICE.user_id}
        assert await challenges.count_pending(ALICE.tenant_id, end - MOMENT, **user) == 3
        assert await challenges.count_pending(ALICE.tenant_id, end, **user) == 2

    async def test_those_of_all_tenants_count_until_their_end(self, challenges):
        end = NOW + timedelta(minutes=5)
        assert await challenges.count_all_pending(end - MOMENT) == 5
        assert await challenges.count_all_pending(end) == 4


class TestUse:
    async def test_an_item_is_used_once(self, challenges):
        made = await added(challenges, challenge_of(ALICE, APPROVED, "host-1", "host-2"))
        assert await challenges.use_item(*key_of(made), 0, USE) is True
        again = Redemption(uuid4(), NOW)
        assert await challenges.use_item(*key_of(made), 0, again) is False
        assert await challenges.use_item(*key_of(made), 1, again) is True
        assert [each.used for each in (await challenges.find(*key_of(made))).items] == [USE, again]

    async def test_s19_no_item_of_another_state_is_used(self, challenges):
        for made in one_of_each(
            states=[state for state in ChallengeState if state is not APPROVED]
        ):
            await challenges.add(made)
            assert await challenges.use_item(*key_of(made), 0, USE) is False
            assert await challenges.find(*key_of(made)) == made

    async def test_an_item_that_does_not_exist_is_not_used(self, challenges):
        made = await added(challenges, challenge_of(ALICE))
        assert await challenges.use_item(*key_of(made), 1, USE) is False
        assert await challenges.use_item(ELSEWHERE.tenant_id, made.challenge_id, 0, USE) is False
        assert await challenges.find(*key_of(made)) == made

    @pytest.mark.race
    async def test_s19_of_parallel_uses_one_wins_and_the_others_find_it(self, database, challenges):
        made = await added(challenges, challenge_of(ALICE))

        async def use(attempt):
            async with database.transaction() as records:
                won = await records.challenges.use_item(*key_of(made), 0, attempt)
                found = await records.challenges.find(*key_of(made))
                return won, found.items[0].used

        attempts = [Redemption(uuid4(), NOW) for _ in range(8)]
        outcomes = await asyncio.gather(*map(use, attempts))
        [winner] = [used for won, used in outcomes if won]
        assert winner in attempts
        assert {used for _, used in outcomes} == {winner}

    async def test_a_use_that_is_rolled_back_leaves_the_item_to_the_next(
        self, database, challenges
    ):
        made = await added(challenges, challenge_of(ALICE))

        async def use_and_fail():
            async with database.transaction() as records:
                assert await records.challenges.use_item(*key_of(made), 0, USE)
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await use_and_fail()
        assert await challenges.use_item(*key_of(made), 0, USE) is True


class TestRevocation:
    async def test_s10_only_open_challenges_end(self, challenges):
        made = one_of_each()
        await added(challenges, *made)
        ended = await challenges.revoke(ALICE.tenant_id, ALICE.user_id, NOW)
        is_open = [each for each in made if each.stored_state in (PENDING, APPROVED)]
        assert set(ended) == {each.challenge_id for each in is_open}
        for each in made:
            after = each.revoked(NOW) if each in is_open else each
            assert await challenges.find(*key_of(each)) == after

    async def test_what_has_expired_stays_as_it_is(self, challenges):
        pending, approved = one_of_each(states=[PENDING, APPROVED])
        await added(challenges, pending, approved)
        for made, end in (
            # By a clock that is behind, it is open for as long as clocks may differ.
            (approved, approved.approval.usable_until + CLOCK_TOLERANCE),
            (pending, pending.expires_at + CLOCK_TOLERANCE),
        ):
            await challenges.save(made)
            assert made.challenge_id not in await challenges.revoke(
                ALICE.tenant_id, ALICE.user_id, end
            )
            assert await challenges.find(*key_of(made)) == made
            assert made.challenge_id in await challenges.revoke(
                ALICE.tenant_id, ALICE.user_id, end - MOMENT
            )

    async def test_others_keep_theirs(self, challenges):
        made = [challenge_of(BOB), challenge_of(ELSEWHERE)]
        await added(challenges, *made)
        assert list(await challenges.revoke(ALICE.tenant_id, ALICE.user_id, NOW)) == []
        assert [await challenges.find(*key_of(each)) for each in made] == made

    async def test_a_session_ends_only_the_challenges_created_for_it(self, challenges):
        phone = person(session="phone")
        made = [challenge_of(ALICE, number=1), challenge_of(phone, PENDING, number=2)]
        await added(challenges, *made)
        # The first one was answered in the phone's session, which is of no consequence.
        ended = await challenges.revoke(ALICE.tenant_id, ALICE.user_id, NOW, phone.session_hash)
        assert list(ended) == [made[1].challenge_id]
        assert await challenges.find(*key_of(made[0])) == made[0]


async def test_which_are_no_longer_pending_is_found_out_of_more_than_one_portion(challenges):
    pending = [challenge_of(ALICE, PENDING, number=number) for number in (1, 2)]
    over = [
        challenge_of(ALICE, state, number=10 + number)
        for number, state in enumerate(state for state in ChallengeState if state is not PENDING)
    ]
    await added(challenges, *pending, *over)
    gone = [(ALICE.tenant_id, UUID(int=1000 + number)) for number in range(_PORTION)]
    elsewhere = [(ELSEWHERE.tenant_id, pending[0].challenge_id)]
    asked = [key_of(pending[0]), *map(key_of, over), *gone, *elsewhere, key_of(pending[1])]
    found = await challenges.no_longer_pending(asked)
    assert set(found) == {*map(key_of, over), *gone, *elsewhere}
    assert list(await challenges.no_longer_pending([])) == []


async def test_what_has_expired_while_pending_is_found_in_all_tenants(challenges):
    made = [challenge_of(ALICE, PENDING), challenge_of(ELSEWHERE, PENDING)]
    await added(challenges, *made, challenge_of(BOB, APPROVED, number=9))
    end = made[0].expires_at
    assert list(await challenges.expired(end - MOMENT, 10)) == []
    assert set(await challenges.expired(end, 10)) == set(map(key_of, made))
    assert len(await challenges.expired(end, 1)) == 1


class TestPurge:
    async def test_a_challenge_is_kept_for_a_day_after_its_end(self, database, challenges):
        for made in one_of_each("host-1", "host-2"):
            await challenges.add(made)
            assert await challenges.purge(made.forget_at - MOMENT, 10) == 0
            assert await challenges.find(*key_of(made)) == made
            assert await challenges.purge(made.forget_at, 10) == 1
            assert await challenges.find(*key_of(made)) is None
            assert await rows_of_items(database) == 0

    async def test_a_revocation_starts_the_day_anew(self, challenges):
        made = await added(challenges, challenge_of(ALICE))
        await challenges.revoke(ALICE.tenant_id, ALICE.user_id, NOW)
        assert await challenges.purge(NOW + KEPT - MOMENT, 10) == 0
        assert await challenges.purge(NOW + KEPT, 10) == 1
        assert await challenges.find(*key_of(made)) is None

    async def test_no_more_than_asked_for_are_deleted(self, challenges):
        made = [challenge_of(ALICE, number=number) for number in range(1, 4)]
        await added(challenges, *made)
        assert await challenges.purge(made[0].forget_at, 2) == 2
        assert await challenges.purge(made[0].forget_at, 2) == 1


@pytest.mark.parametrize("actor", [person(tenant="Acme"), person("Alice")], ids=["tenant", "user"])
async def test_ids_that_are_folded_leave_no_challenge_behind(url, database, challenges, actor):
    kept = challenge_of(ELSEWHERE, number=1)
    await added(challenges, challenge_of(actor, APPROVED, "host-1", "host-2"), kept)
    await fold_ids(url, fresh_ring())
    for tenant_id in (actor.tenant_id, TenantId("acme")):
        assert await challenges.find(tenant_id, UUID(int=3)) is None
    assert await challenges.find(*key_of(kept)) == kept
    assert await rows_of_items(database) == len(kept.items)


async def test_a_target_is_kept_byte_by_byte(challenges):
    targets = ["Host", "host", " host ", "hösť", "💥" * 64]
    made = await added(challenges, challenge_of(ALICE, APPROVED, *targets))
    found = await challenges.find(*key_of(made))
    assert found.items == tuple(item(target) for target in targets)
