"""Who may read, decline and cancel a challenge, and in which state."""

from uuid import uuid4

import pytest
from stepup_tests.metrics import metric
from stepup_tests.people import CALLER, administrator, operator, person
from stepup_tests.worker import details_of

from stepup.domain.actor import CallerId
from stepup.domain.audit import EventKind
from stepup.domain.challenge import ChallengeState
from stepup.domain.errors import ChallengeStateError
from stepup.domain.reset_code import ResetCode
from stepup.service.challenges import read
from stepup.service.step_up.revocation import Scope

ALICE, PHONE = person(), person(session="phone")
BOB, GLOBEX = person("bob"), person(tenant="globex")
OLGA, ELSEWHERE = operator(), operator(tenant="globex")
CREATOR, CONSOLE = CALLER, CallerId("console")
ENDED = [ChallengeState.DECLINED, ChallengeState.CANCELLED, ChallengeState.EXPIRED]
ENDED += [ChallengeState.REVOKED]


@pytest.fixture
async def challenge_id(worker):
    return await worker.challenge(ALICE)


async def bring(world, worker, challenge_id, state):
    """Bring a pending challenge of Alice to a state."""
    match state:
        case ChallengeState.APPROVED:
            async with world.database.transaction() as records:
                found = await records.challenges.find_for_update(ALICE.tenant_id, challenge_id)
                now = world.clock.now()
                await records.challenges.save(found.approved(now, ALICE.session_hash, "e"))
        case ChallengeState.DECLINED:
            await worker.decline(ALICE, challenge_id)
        case ChallengeState.CANCELLED:
            await worker.cancel_challenge(ALICE, challenge_id)
        case ChallengeState.EXPIRED:
            await worker.advance(minutes=10)
        case ChallengeState.REVOKED:
            await worker.revoke(ALICE)


class TestRead:
    @pytest.mark.parametrize(
        ("actor", "reader", "same_session"),
        [
            (ALICE, {"caller": CREATOR}, None),
            (PHONE, {"caller": CREATOR}, None),
            (ALICE, {"caller": CREATOR, "may_answer": True}, None),
            (ALICE, {"caller": CONSOLE, "may_answer": True}, True),
            (PHONE, {"caller": CONSOLE, "may_answer": True}, False),
        ],
    )
    async def test_the_creator_and_who_may_answer_read_it(
        self, worker, challenge_id, actor, reader, same_session
    ):
        view = await worker.read(actor, challenge_id, **reader)
        assert view.challenge.challenge_id == challenge_id
        assert view.same_session is same_session

    @pytest.mark.parametrize(
        ("actor", "reader"),
        [
            (ALICE, {"caller": CONSOLE}),
            (BOB, {"caller": CREATOR}),
            (BOB, {"caller": CONSOLE, "may_answer": True}),
            (administrator(), {"caller": CONSOLE, "may_answer": True}),
            (GLOBEX, {"caller": CREATOR}),
            (GLOBEX, {"caller": CONSOLE, "may_answer": True}),
            (ELSEWHERE, {"caller": CREATOR}),
            (ELSEWHERE, {"caller": CONSOLE, "may_answer": True}),
        ],
    )
    async def test_s19_for_everybody_else_it_is_unknown(self, worker, challenge_id, actor, reader):
        said = []
        for asked in (challenge_id, uuid4()):
            with pytest.raises(ChallengeStateError) as refused:
                await worker.read(actor, asked, **reader)
            said.append((str(refused.value), refused.value.state))
        assert said[0] == said[1]
        assert said[0][1] is None

    @pytest.mark.parametrize("state", ChallengeState)
    async def test_it_is_read_in_every_state(self, world, worker, challenge_id, state):
        await bring(world, worker, challenge_id, state)
        assert (await worker.read(ALICE, challenge_id)).state is state

    async def test_a_list_has_the_pending_ones_first_of_this_user_only(self, worker):
        ids = []
        for _ in range(4):
            ids.append(await worker.challenge(ALICE))
            await worker.advance(seconds=1)
        await worker.challenge(BOB)
        await worker.decline(ALICE, ids[3])
        views = await worker.list_challenges(PHONE)
        assert [view.challenge.challenge_id for view in views] == [ids[2], ids[1], ids[0], ids[3]]
        assert {view.same_session for view in views} == {False}
        assert [view.state for view in views][-1] is ChallengeState.DECLINED
        assert len(await worker.list_challenges(ALICE, limit=2)) == 2

    @pytest.mark.parametrize("caller", [CREATOR, CONSOLE])
    async def test_s16_an_operator_reads_every_challenge_of_the_tenant_on_record(
        self, worker, challenge_id, caller
    ):
        for state in (ChallengeState.PENDING, ChallengeState.DECLINED):
            view = await worker.read(OLGA, challenge_id, caller=caller)
            assert (view.state, view.same_session) == (state, None)
            if state is ChallengeState.PENDING:
                await worker.decline(ALICE, challenge_id)
        events = await worker.events(EventKind.OPERATOR_READ)
        assert [event.subject_user_id for event in events] == ["alice", "alice"]
        assert events[0].details == details_of(OLGA, method="ChallengeService/GetChallenge")

    async def test_s16_an_operator_lists_the_challenges_of_a_user_on_record(
        self, worker, challenge_id
    ):
        await worker.challenge(BOB)
        [view] = await worker.list_challenges(OLGA, "alice")
        assert (view.challenge.challenge_id, view.same_session) == (challenge_id, None)
        assert await worker.list_challenges(OLGA, "nobody") == []
        events = await worker.events(EventKind.OPERATOR_READ)
        assert [event.subject_user_id for event in events] == ["alice", "nobody"]
        assert events[0].details == details_of(OLGA, method="ChallengeService/ListChallenges")

    async def test_s13_an_operator_reads_nothing_that_cannot_be_recorded(
        self, world, worker, challenge_id
    ):
        world.database.audit_trail_takes_events = False
        await world.refuses(worker.read(OLGA, challenge_id))
        await world.refuses(worker.list_challenges(OLGA, "alice"))

    async def test_s18_a_list_of_large_challenges_ends_early(self, monkeypatch, worker):
        for _ in range(3):
            await worker.challenge(ALICE)
        [first, *_] = await worker.list_challenges(PHONE)
        monkeypatch.setattr(read, "_LIST_BYTES", 2 * first.challenge.text_bytes)
        assert len(await worker.list_challenges(PHONE)) == 2
        monkeypatch.setattr(read, "_LIST_BYTES", 0)
        assert len(await worker.list_challenges(PHONE)) == 1


class TestDecline:
    @pytest.mark.parametrize("actor", [ALICE, PHONE])
    @pytest.mark.parametrize("caller", [CREATOR, CONSOLE])
    async def test_the_user_declines_in_any_session(
        self, worker, clock, challenge_id, actor, caller
    ):
        view = await worker.decline(actor, challenge_id, caller=caller)
        assert view.state is ChallengeState.DECLINED
        assert view.challenge.answered_at == clock.now()
        [event] = await worker.events(EventKind.CHALLENGE_DECLINED)
        assert (event.caller, event.actor_user_id) == (caller, "alice")
        assert event.details == details_of(actor, challenge_id=str(challenge_id))

    @pytest.mark.parametrize("actor", [BOB, GLOBEX, administrator()])
    async def test_s19_nobody_else_does(self, world, worker, challenge_id, actor):
        refused = await world.refuses(worker.decline(actor, challenge_id), ChallengeStateError)
        assert refused.state is None

    async def test_a_second_time_changes_nothing(self, world, worker, challenge_id):
        first = await worker.decline(ALICE, challenge_id)
        await worker.advance(minutes=20)
        before = await world.state()
        assert (await worker.decline(ALICE, challenge_id)).challenge == first.challenge
        assert await world.state() == before

    @pytest.mark.parametrize(
        "state", [state for state in [ChallengeState.APPROVED, *ENDED] if state.value != "declined"]
    )
    async def test_what_is_not_pending_is_not_declined(self, world, worker, challenge_id, state):
        await bring(world, worker, challenge_id, state)
        refused = await world.refuses(worker.decline(ALICE, challenge_id), ChallengeStateError)
        assert refused.state is state


class TestCancel:
    @pytest.mark.parametrize("state", [ChallengeState.PENDING, ChallengeState.APPROVED])
    @pytest.mark.parametrize("actor", [ALICE, PHONE])
    async def test_the_creator_cancels_an_open_one(self, world, worker, challenge_id, state, actor):
        await bring(world, worker, challenge_id, state)
        view = await worker.cancel_challenge(actor, challenge_id)
        assert view.state is ChallengeState.CANCELLED
        [event] = await worker.events(EventKind.CHALLENGE_CANCELLED)
        assert event.details == details_of(actor, challenge_id=str(challenge_id), was=state.value)

    @pytest.mark.parametrize(
        ("actor", "caller"),
        [(ALICE, CONSOLE), (BOB, CREATOR), (GLOBEX, CREATOR), (ELSEWHERE, CREATOR)],
    )
    async def test_nobody_else_does(self, world, worker, challenge_id, actor, caller):
        cancelling = worker.cancel_challenge(actor, challenge_id, caller=caller)
        assert (await world.refuses(cancelling, ChallengeStateError)).state is None

    @pytest.mark.parametrize("state", [ChallengeState.PENDING, ChallengeState.APPROVED])
    async def test_s16_an_operator_cancels_an_open_one_of_any_caller(
        self, world, worker, challenge_id, state
    ):
        def count():
            kind = "challenge_cancelled_by_operator"
            return metric("stepup_operator_acts_total", kind=kind)

        await bring(world, worker, challenge_id, state)
        before = count()
        for _ in range(2):  # the second time it changes nothing
            view = await worker.cancel_challenge(OLGA, challenge_id, caller=CONSOLE)
            assert (view.state, view.same_session) == (ChallengeState.CANCELLED, None)
        [event] = await worker.events(EventKind.CHALLENGE_CANCELLED_BY_OPERATOR)
        assert (event.actor_user_id, event.subject_user_id) == (None, "alice")
        assert event.details == details_of(OLGA, challenge_id=str(challenge_id), was=state.value)
        assert count() == before + 1

    async def test_a_second_time_changes_nothing(self, world, worker, challenge_id):
        first = await worker.cancel_challenge(ALICE, challenge_id)
        await worker.advance(minutes=20)
        before = await world.state()
        assert (await worker.cancel_challenge(ALICE, challenge_id)).challenge == first.challenge
        assert await world.state() == before

    async def test_s16_an_operator_sees_a_cancelled_one_only_on_record(
        self, world, worker, challenge_id
    ):
        first = await worker.cancel_challenge(ALICE, challenge_id)
        again = await worker.cancel_challenge(OLGA, challenge_id)
        assert again.challenge == first.challenge
        event = (await worker.events())[-1]
        assert (event.kind.value, event.subject_user_id) == ("operator_read", "alice")
        assert event.details["method"] == "ChallengeService/CancelChallenge"
        world.database.audit_trail_takes_events = False
        await world.refuses(worker.cancel_challenge(OLGA, challenge_id))

    @pytest.mark.parametrize("state", [state for state in ENDED if state.value != "cancelled"])
    async def test_what_has_ended_is_not_cancelled(self, world, worker, challenge_id, state):
        await bring(world, worker, challenge_id, state)
        cancelling = worker.cancel_challenge(ALICE, challenge_id)
        assert (await world.refuses(cancelling, ChallengeStateError)).state is state

    async def test_an_approval_that_is_over_is_not_cancelled(self, world, worker, challenge_id):
        await bring(world, worker, challenge_id, ChallengeState.APPROVED)
        await worker.advance(minutes=15)
        cancelling = worker.cancel_challenge(ALICE, challenge_id)
        assert (await world.refuses(cancelling, ChallengeStateError)).state == "expired"


@pytest.mark.parametrize("end", ["decline", "cancel_challenge"])
@pytest.mark.parametrize("fault", ["audit_trail_takes_events", "writes", "commits"])
async def test_s13_an_end_without_its_event_is_none(world, worker, challenge_id, end, fault):
    setattr(world.database, fault, False)
    await world.refuses(getattr(worker, end)(ALICE, challenge_id))


class TestEndsByOthers:
    """S10: what ends elevations ends challenges, in the same transaction."""

    @pytest.fixture
    async def app(self, worker):
        return await worker.enrol(ALICE)

    async def ids(self, world, worker, *actors):
        """A pending challenge of each actor, and an approved one of Alice."""
        ids = [await worker.challenge(actor) for actor in actors]
        approved = await worker.challenge(ALICE)
        await bring(world, worker, approved, ChallengeState.APPROVED)
        return [*ids, approved]

    async def states(self, worker, ids):
        views = [await worker.read(ALICE, each) for each in ids]
        return [view.state.value for view in views]

    @pytest.mark.usefixtures("app")
    async def test_s10_a_sign_out_ends_the_challenges_of_its_session(self, world, worker):
        ids = await self.ids(world, worker, ALICE, PHONE)
        await worker.revoke(ALICE)
        assert await self.states(worker, ids) == ["revoked", "pending", "revoked"]
        [event] = await worker.events(EventKind.ELEVATIONS_REVOKED)
        assert set(event.details["challenges"]) == {str(ids[0]), str(ids[2])}

    async def test_s10_the_sign_out_of_the_answering_session_ends_nothing(self, world, worker):
        ids = await self.ids(world, worker, ALICE)
        await worker.revoke(PHONE)
        assert await self.states(worker, ids) == ["pending", "approved"]
        [event] = await worker.events(EventKind.ELEVATIONS_REVOKED)
        assert "challenges" not in event.details

    @pytest.mark.usefixtures("app")
    async def test_s10_every_other_end_ends_all_of_the_user(self, world, worker):
        root = administrator()
        await worker.wizard(root)
        ends = {
            EventKind.ELEVATIONS_REVOKED: lambda: worker.revoke(PHONE, Scope.USER),
            EventKind.AUTHENTICATOR_RESET_BY_ADMINISTRATOR: lambda: worker.admin_reset(
                root, "alice"
            ),
        }
        for kind, end in ends.items():
            ids = await self.ids(world, worker, ALICE, PHONE)
            untouched = await worker.challenge(BOB)
            await end()
            assert await self.states(worker, ids) == ["revoked"] * 3
            event = (await worker.events(kind))[-1]
            assert set(event.details["challenges"]) == set(map(str, ids))
            assert (await worker.read(BOB, untouched)).state is ChallengeState.PENDING
            await worker.advance(minutes=1)

    async def test_s10_so_does_the_users_own_end_of_the_authenticator(self, world, worker, app):
        await worker.elevate(ALICE, app)
        ids = await self.ids(world, worker, PHONE)
        await worker.remove(ALICE)
        assert await self.states(worker, ids) == ["revoked"] * 2
        [event] = await worker.events(EventKind.AUTHENTICATOR_REMOVED)
        assert set(event.details["challenges"]) == set(map(str, ids))

    async def test_s10_so_does_the_reset_code(self, world, worker, app):
        ids = await self.ids(world, worker, PHONE)
        await worker.reset(ALICE, app.reset_code)
        assert await self.states(worker, ids) == ["revoked"] * 2
        [event] = await worker.events(EventKind.AUTHENTICATOR_RESET)
        assert set(event.details["challenges"]) == set(map(str, ids))

    @pytest.mark.usefixtures("app")
    async def test_a_wrong_reset_code_ends_nothing(self, world, worker):
        ids = await self.ids(world, worker, PHONE)
        await worker.reset(ALICE, ResetCode.generate())
        assert await self.states(worker, ids) == ["pending", "approved"]

    async def test_s10_so_does_a_replacement(self, world, worker, app):
        ids = await self.ids(world, worker, PHONE)
        await worker.wizard(ALICE, app.reset_code)
        assert await self.states(worker, ids) == ["revoked"] * 2
        event = (await worker.events(EventKind.ENROLLMENT_COMPLETED))[-1]
        assert set(event.details["challenges"]) == set(map(str, ids))

    async def test_a_first_enrollment_ends_nothing(self, worker):
        challenge_id = await worker.challenge(BOB)
        await worker.wizard(BOB)
        assert (await worker.read(BOB, challenge_id)).state is ChallengeState.PENDING

    @pytest.mark.usefixtures("app")
    async def test_an_end_that_fails_ends_no_challenge(self, world, worker):
        await self.ids(world, worker, ALICE)
        world.database.audit_trail_takes_events = False
        await world.refuses(worker.revoke(ALICE))
