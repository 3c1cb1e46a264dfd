"""Many parallel calls against one piece of state: nothing is taken twice, no budget is exceeded.

Each race is a function that checks the answers. It passes on the real stores. On a double that is
racy on purpose it must end with `RaceLostError`: a test that cannot fail proves nothing (S2, S3,
S8, S16, S19).
"""

import asyncio
import time
from collections import Counter
from itertools import count, cycle
from uuid import UUID, uuid4

import pytest
from stepup_tests.challenges import approve
from stepup_tests.otp import code_at
from stepup_tests.people import operator, person
from stepup_tests.wire import on_wire, refusal
from stepup_tests.worker import API_KEYS, OSQUERY

from stepup.domain.actor import CallerId
from stepup.domain.audit import EventKind
from stepup.domain.challenge import ChallengeState
from stepup.domain.reset_code import ResetCode
from stepup.v1 import challenge_service_pb2 as challenge
from stepup.v1 import enrollment_service_pb2 as enrollment
from stepup.v1 import people_service_pb2 as people
from stepup.v1 import step_up_service_pb2 as step_up

pytestmark = [pytest.mark.race, pytest.mark.asyncio(loop_scope="module")]

_numbers = count()


class RaceLostError(AssertionError):
    """The calls of a race got more than they may get; errors of the server do not count as such."""


def demand_at_most(permitted, number):
    """Compare what the calls of a race got with what they may get.

    Raises:
        RaceLostError: they got more.
    """
    if number > permitted:
        raise RaceLostError(f"{number} instead of at most {permitted}")


def fresh_user():
    return person(f"user-{next(_numbers)}")


async def outcomes(arena, call):
    """How many calls ended in which way: an outcome, a reason of a decision, or of an error."""

    async def ended(client):
        return _name(await call(client))

    return Counter(
        refusal(end).reason if isinstance(end, Exception) else end
        for end in await arena.at_once(ended)
    )


def _name(answer):
    if isinstance(answer, challenge.CancelChallengeResponse):
        answer = answer.challenge
    fields = answer.DESCRIPTOR.fields_by_name
    field = next(name for name in ("outcome", "reason", "state") if name in fields)
    descriptor = answer.DESCRIPTOR.fields_by_name[field].enum_type
    return descriptor.values_by_number[getattr(answer, field)].name


async def events_of(arena, user, kind):
    return [event for event in await arena.worker.events(kind) if event.actor_user_id == user]


async def the_same_right_code(arena):
    """S2, S22: a code is accepted once, and that its session sends it again costs nothing."""
    user = fresh_user()
    app = await arena.worker.enrol(user)
    code = app.code(arena.worker.clock.now())
    request = step_up.VerifyOtpRequest(actor=on_wire(user), code=code)
    ended = await outcomes(arena, lambda client: client.step_up.VerifyOtp(request))
    rejected = await events_of(arena, user.user_id, EventKind.OTP_REJECTED)
    demand_at_most(1, ended["OUTCOME_VERIFIED"])
    demand_at_most(1, len(rejected))
    assert ended == {"OUTCOME_VERIFIED": 1, "OUTCOME_REJECTED": arena.crowd - 1}
    assert len(await events_of(arena, user.user_id, EventKind.OTP_VERIFIED)) == 1
    assert [event.details["cause"] for event in rejected] == ["repeated"]
    assert (await arena.worker.fail(user, app)).attempts_remaining == 4


async def the_code_of_another_session(arena):
    """S2, S22: however often others send a used code, it is accepted by none, and counts once."""
    user = fresh_user()
    app = await arena.worker.enrol(user)
    code = app.code(arena.worker.clock.now())
    await arena.worker.verify(user, code)
    other = person(user.user_id, session="phone")
    request = step_up.VerifyOtpRequest(actor=on_wire(other), code=code)
    ended = await outcomes(arena, lambda client: client.step_up.VerifyOtp(request))
    rejected = await events_of(arena, user.user_id, EventKind.OTP_REJECTED)
    demand_at_most(1, len(rejected))
    assert ended == {"OUTCOME_REJECTED": arena.crowd}
    assert [event.details["failures_in_a_row"] for event in rejected] == [1]


async def wrong_codes(arena):
    """S3: parallel guesses get no more evaluations than the budget."""
    user = fresh_user()
    app = await arena.worker.enrol(user)
    code = app.wrong_code(arena.worker.clock.now())
    request = step_up.VerifyOtpRequest(actor=on_wire(user), code=code)
    ended = await outcomes(arena, lambda client: client.step_up.VerifyOtp(request))
    demand_at_most(5, ended["OUTCOME_REJECTED"])
    assert ended == {"OUTCOME_REJECTED": 5, "OUTCOME_THROTTLED": arena.crowd - 5}
    assert len(await events_of(arena, user.user_id, EventKind.OTP_REJECTED)) == 5


async def wrong_codes_of_one_session(arena):
    """S4: parallel guesses get no more evaluations than are left to their session."""
    user = fresh_user()
    app = await arena.worker.enrol(user)
    for _ in range(2):
        await arena.worker.advance(seconds=30)
        await arena.worker.fail(user, app, times=4)
        await arena.worker.elevate(user, app)
    code = app.wrong_code(arena.worker.clock.now())
    request = step_up.VerifyOtpRequest(actor=on_wire(user), code=code)
    ended = await outcomes(arena, lambda client: client.step_up.VerifyOtp(request))
    refused = await events_of(arena, user.user_id, EventKind.ATTEMPTS_REFUSED)
    demand_at_most(2, ended["OUTCOME_REJECTED"])
    demand_at_most(1, len(refused))
    assert ended == {"OUTCOME_REJECTED": 2, "OUTCOME_SESSION_SPENT": arena.crowd - 2}
    assert len(await events_of(arena, user.user_id, EventKind.OTP_REJECTED)) == 10
    assert len(refused) == 1


async def the_right_reset_code(arena):
    """S8: a reset code works once."""
    user = fresh_user()
    app = await arena.worker.enrol(user)
    request = enrollment.ResetEnrollmentRequest(actor=on_wire(user), reset_code=app.reset_code.text)
    ended = await outcomes(arena, lambda client: client.enrollment.ResetEnrollment(request))
    demand_at_most(1, ended["RESET_OUTCOME_ACCEPTED"])
    assert ended == {"RESET_OUTCOME_ACCEPTED": 1, "ENROLLMENT_STATE": arena.crowd - 1}
    assert len(await events_of(arena, user.user_id, EventKind.AUTHENTICATOR_RESET)) == 1


async def wrong_reset_codes(arena):
    """S8: parallel guesses of the reset code get no more evaluations than their session's ten."""
    user = fresh_user()
    await arena.worker.enrol(user)
    request = enrollment.ResetEnrollmentRequest(
        actor=on_wire(user), reset_code=ResetCode(bytes(16)).text
    )
    ended = await outcomes(arena, lambda client: client.enrollment.ResetEnrollment(request))
    demand_at_most(10, ended["RESET_OUTCOME_REJECTED"])
    assert ended == {"RESET_OUTCOME_REJECTED": 10, "RESET_OUTCOME_THROTTLED": arena.crowd - 10}
    assert len(await events_of(arena, user.user_id, EventKind.RESET_CODE_REJECTED)) == 10


async def the_first_screen(arena):
    """S7: whoever opens the wizard several times at once sees one secret: the one that counts."""
    user = fresh_user()
    request = enrollment.BeginEnrollmentRequest(actor=on_wire(user), account_name="alice")
    screens = await arena.at_once(lambda client: client.enrollment.BeginEnrollment(request))
    refused = [refusal(screen).reason for screen in screens if isinstance(screen, Exception)]
    seen = {screen.secret for screen in screens if not isinstance(screen, Exception)}
    demand_at_most(1, len(seen))
    # At least 64 calls of a tenant begin an enrollment or wait for their turn (S18).
    assert set(refused) <= {"OVERLOADED"}
    assert len(refused) <= max(0, arena.crowd - 64)
    assert len(await events_of(arena, user.user_id, EventKind.ENROLLMENT_BEGUN)) == 1


async def the_last_screen(arena):
    """A wizard that is completed several times at once is completed once, and no call fails."""
    user = fresh_user()
    screen = await arena.worker.begin(user)
    code = code_at(screen.secret.octets, arena.worker.clock.now())
    await arena.worker.confirm(user, code)
    request = enrollment.CompleteEnrollmentRequest(actor=on_wire(user), reset_code_stored=True)
    answers = await arena.at_once(lambda client: client.enrollment.CompleteEnrollment(request))
    failed = [refusal(answer).message for answer in answers if isinstance(answer, Exception)]
    demand_at_most(0, failed.count("the user has an authenticator"))
    assert not failed
    assert {answer.enrollment.enrollment_id for answer in answers} == {screen.enrollment_id}
    assert len(await events_of(arena, user.user_id, EventKind.ENROLLMENT_COMPLETED)) == 1


async def retries_of(arena, user, number):
    """Retries of actions that an elevation allowed, whose session is signed out since."""
    app = await arena.worker.enrol(user)
    await arena.worker.elevate(user, app)
    retries = []
    for index in range(number):
        target = f"host-{index}"
        answer = await arena.worker.check(user, OSQUERY, target, caller="local")
        retry = step_up.CheckStepUpRequest(actor=on_wire(user), operation=OSQUERY, target=target)
        retry.actor.retry_receipt = answer.receipt
        retries.append(retry)
    await arena.worker.revoke(user)
    return retries


async def late_reasons(arena, checks, end):
    """Send checks over all connections but one, which carries their end as soon as one is allowed.

    Returns:
        The reasons of the decisions that began after the end was acknowledged: a fifth, or more.
    """
    in_time, numbered = len(checks) * 4 // 5, iter(enumerate(checks))
    allowed, acknowledged, late = asyncio.Event(), asyncio.Event(), []

    async def in_turn(client):
        for index, check in numbered:
            if index >= in_time:
                await acknowledged.wait()
            begins_late = acknowledged.is_set()
            reason = _name(await client.step_up.CheckStepUp(check))
            allowed.set()
            if begins_late:
                late.append(reason)

    async def end_them(client):
        await allowed.wait()
        await end(client)
        acknowledged.set()

    clients = iter(arena.clients)
    await asyncio.gather(end_them(next(clients)), *map(in_turn, clients))
    return late


def revocation_of(user):
    request = step_up.RevokeElevationsRequest(
        actor=on_wire(user), scope=step_up.REVOCATION_SCOPE_USER
    )
    return lambda client: client.step_up.RevokeElevations(request)


async def receipts_and_a_revocation(arena):
    """S10: a retry that begins when a revocation is acknowledged is not exempt."""
    user = fresh_user()
    await arena.worker.select(OSQUERY)
    late = await late_reasons(arena, await retries_of(arena, user, 100), revocation_of(user))
    demand_at_most(0, late.count("DECISION_REASON_EXEMPT_TIMED_OUT_RETRY"))
    assert set(late) == {"DECISION_REASON_NOT_ELEVATED"}


async def uses_of_items(arena, user, number):
    """Checks of actions that a challenge approved, in a session that is not elevated."""
    await arena.worker.select(OSQUERY)
    app = await arena.worker.enrol(user)
    targets = [f"host-{index}" for index in range(number)]
    presenting = await approve(arena.worker, user, app, *targets, caller=CallerId("local"))
    uses = []
    for target in targets:
        use = step_up.CheckStepUpRequest(actor=on_wire(user), operation=OSQUERY, target=target)
        use.actor.challenge_id = str(presenting.challenge_id)
        uses.append(use)
    return uses


async def the_same_item(arena):
    """S19: an item allows its action once."""
    user = fresh_user()
    [request] = await uses_of_items(arena, user, 1)

    async def use(client):
        # As different requests, so that none shares the use of another.
        named = step_up.CheckStepUpRequest(request_id=str(uuid4()))
        named.MergeFrom(request)
        return await client.step_up.CheckStepUp(named)

    answers = await arena.at_once(use)
    reasons = Counter(map(_name, answers))
    demand_at_most(1, reasons["DECISION_REASON_CHALLENGE_APPROVED"])
    assert reasons == {
        "DECISION_REASON_CHALLENGE_APPROVED": 1,
        "DECISION_REASON_NOT_ELEVATED": arena.crowd - 1,
    }
    rejections = Counter(answer.challenge_rejection for answer in answers)
    assert rejections[step_up.CHALLENGE_REJECTION_ITEM_USED] == arena.crowd - 1
    assert len(await events_of(arena, user.user_id, EventKind.CHALLENGE_ITEM_USED)) == 1


async def items_and_a_revocation(arena):
    """S10: a check that begins when a revocation is acknowledged is not allowed by its item."""
    user = fresh_user()
    late = await late_reasons(arena, await uses_of_items(arena, user, 60), revocation_of(user))
    demand_at_most(0, late.count("DECISION_REASON_CHALLENGE_APPROVED"))
    assert set(late) == {"DECISION_REASON_NOT_ELEVATED"}


async def items_and_a_cancellation(arena):
    """S19: a check that begins when a cancellation is acknowledged is not allowed by its item."""
    user = fresh_user()
    uses = await uses_of_items(arena, user, 60)
    request = challenge.CancelChallengeRequest(
        actor=on_wire(user), challenge_id=uses[0].actor.challenge_id
    )
    late = await late_reasons(arena, uses, lambda client: client.challenge.CancelChallenge(request))
    demand_at_most(0, late.count("DECISION_REASON_CHALLENGE_APPROVED"))
    assert set(late) == {"DECISION_REASON_NOT_ELEVATED"}


async def the_same_receipt(arena):
    """S16: a receipt is redeemed once."""
    user = fresh_user()
    await arena.worker.select(OSQUERY)
    [request] = await retries_of(arena, user, 1)
    ended = await outcomes(arena, lambda client: client.step_up.CheckStepUp(request))
    demand_at_most(1, ended["DECISION_REASON_EXEMPT_TIMED_OUT_RETRY"])
    assert ended == {
        "DECISION_REASON_EXEMPT_TIMED_OUT_RETRY": 1,
        "DECISION_REASON_NOT_ELEVATED": arena.crowd - 1,
    }


async def the_same_retry_sent_again(arena):
    """S16: however often a retry is sent again at once, its receipt is redeemed once for all."""
    user = fresh_user()
    await arena.worker.select(OSQUERY)
    [request] = await retries_of(arena, user, 1)
    request.request_id = str(uuid4())
    answers = await arena.at_once(lambda client: client.step_up.CheckStepUp(request))
    assert {_name(answer) for answer in answers} == {"DECISION_REASON_EXEMPT_TIMED_OUT_RETRY"}
    demand_at_most(1, len({(answer.decision_id, answer.receipt) for answer in answers}))
    assert len(await events_of(arena, user.user_id, EventKind.RECEIPT_REDEEMED)) == 1


async def challenges_of(arena, user, number):
    """Requests that answer challenges of a user with one right code."""
    app = await arena.worker.enrol(user)
    code = app.code(arena.worker.clock.now())
    return [
        challenge.AnswerChallengeRequest(
            actor=on_wire(user),
            challenge_id=str(await arena.worker.challenge(user, caller="local")),
            code=code,
        )
        for _ in range(number)
    ]


async def the_same_answer(arena):
    """S2, S19: parallel answers with the same code are one approval."""
    user = fresh_user()
    [request] = await challenges_of(arena, user, 1)
    ended = await outcomes(arena, lambda client: client.challenge.AnswerChallenge(request))
    demand_at_most(1, ended["OUTCOME_VERIFIED"])
    assert ended == {"OUTCOME_VERIFIED": 1, "CHALLENGE_STATE": arena.crowd - 1}
    assert len(await events_of(arena, user.user_id, EventKind.CHALLENGE_APPROVED)) == 1


async def one_code_for_two_challenges(arena):
    """S2, S19: one code approves one challenge, and costs no attempt at the other one."""
    user = fresh_user()
    requests = cycle(await challenges_of(arena, user, 2))
    ended = await outcomes(arena, lambda client: client.challenge.AnswerChallenge(next(requests)))
    demand_at_most(1, ended["OUTCOME_VERIFIED"])
    half = arena.crowd // 2
    assert ended == {
        "OUTCOME_VERIFIED": 1,
        "CHALLENGE_STATE": half - 1,
        "OUTCOME_REJECTED": half,
    }
    assert len(await events_of(arena, user.user_id, EventKind.CHALLENGE_APPROVED)) == 1


async def answers_and_cancellations(arena):
    """S19: no answer approves a cancelled challenge; one cancellation ends it, approved or not."""
    user = fresh_user()
    [answer] = await challenges_of(arena, user, 1)
    cancellation = challenge.CancelChallengeRequest(
        actor=answer.actor, challenge_id=answer.challenge_id
    )
    turns = count()

    def call(client):
        if next(turns) % 2:
            return client.challenge.CancelChallenge(cancellation)
        return client.challenge.AnswerChallenge(answer)

    ended = await outcomes(arena, call)
    half, approved = arena.crowd // 2, ended["OUTCOME_VERIFIED"]
    [*approvals, cancelled] = [
        (event.kind, event.details.get("was"))
        for event in await arena.worker.events(
            EventKind.CHALLENGE_APPROVED, EventKind.CHALLENGE_CANCELLED
        )
        if event.details["challenge_id"] == answer.challenge_id
    ]
    demand_at_most(1, len(approvals))
    demand_at_most(
        0, int(cancelled != (EventKind.CHALLENGE_CANCELLED, "approved" if approvals else "pending"))
    )
    assert [kind for kind, _ in approvals] == approved * [EventKind.CHALLENGE_APPROVED]
    view = await arena.worker.read(user, UUID(answer.challenge_id), caller="local")
    assert view.state is ChallengeState.CANCELLED
    assert ended == {
        "CHALLENGE_STATE_CANCELLED": half,
        "CHALLENGE_STATE": half - approved,
        **({"OUTCOME_VERIFIED": 1} if approved else {}),
    }


async def a_callers_rate(arena):
    """A burst is let through once."""
    metadata = [("x-caller", f"caller-{next(_numbers)}")]
    request = step_up.CheckStepUpRequest(actor=on_wire(fresh_user()), operation=API_KEYS)
    began = time.monotonic()
    ended = await outcomes(
        arena, lambda client: client.step_up.CheckStepUp(request, metadata=metadata)
    )
    # On a machine that stood still for ten seconds the rate lets further calls through.
    later = int((time.monotonic() - began) * arena.rate.per_second)
    let_through = sum(number for end, number in ended.items() if end.startswith("DECISION_REASON_"))
    demand_at_most(arena.rate.burst + later, let_through)
    assert let_through >= arena.rate.burst
    assert let_through + ended["CALLER_RATE_LIMITED"] == arena.crowd


async def new_challenges(arena):
    """A user gets ten challenges a minute."""
    item = {"operation": API_KEYS, "target": "keys", "label": "All keys"}
    request = challenge.CreateChallengeRequest(
        actor=on_wire(fresh_user()), items=[item], message="Rotate the keys"
    )
    ended = await arena.at_once(lambda client: client.challenge.CreateChallenge(request))
    refused = [refusal(end).reason for end in ended if isinstance(end, Exception)]
    demand_at_most(10, arena.crowd - len(refused))
    assert refused == ["CHALLENGE_LIMIT"] * (arena.crowd - 10)


async def unlocks_of_one_lock(arena):
    """S4: parallel unlocks of one lock count once."""
    user = fresh_user()
    app = await arena.worker.enrol(user)
    await arena.worker.fail(user, app, times=5)
    request = people.UnlockUserRequest(actor=on_wire(operator()), user_id=user.user_id)
    answers = await arena.at_once(lambda client: client.people.UnlockUser(request))
    unlocked = [
        event
        for event in await arena.worker.events(EventKind.USER_UNLOCKED_BY_OPERATOR)
        if event.subject_user_id == user.user_id
    ]
    demand_at_most(1, len(unlocked))
    assert len(unlocked) == 1
    assert {answer.unlocks_remaining for answer in answers} == {2}


RACES = [
    the_same_right_code,
    the_code_of_another_session,
    wrong_codes,
    wrong_codes_of_one_session,
    the_right_reset_code,
    wrong_reset_codes,
    the_first_screen,
    the_last_screen,
    the_same_receipt,
    the_same_retry_sent_again,
    receipts_and_a_revocation,
    the_same_item,
    items_and_a_revocation,
    items_and_a_cancellation,
    a_callers_rate,
    new_challenges,
    the_same_answer,
    one_code_for_two_challenges,
    answers_and_cancellations,
    unlocks_of_one_lock,
]


@pytest.mark.parametrize("race", RACES)
async def test_of_parallel_calls_none_gets_more_than_it_may(arena, race):
    await race(arena)


async def test_batches_that_use_items_in_opposite_orders_wait_for_each_other(arena):
    """No call fails for a deadlock, which PostgreSQL would find after a second."""
    for _ in range(5):
        uses = await uses_of_items(arena, user := fresh_user(), 20)
        orders = []
        for ordered in (uses, uses[::-1]):
            batch = step_up.BatchCheckStepUpRequest(actor=uses[0].actor, request_id=str(uuid4()))
            batch.checks.extend(
                step_up.OperationCheck(operation=use.operation, target=use.target)
                for use in ordered
            )
            orders.append(batch)
        answers = await asyncio.gather(
            *(
                client.step_up.BatchCheckStepUp(batch)
                for client, batch in zip(arena.clients, orders, strict=False)
            )
        )
        reasons = Counter(_name(decision) for each in answers for decision in each.decisions)
        assert reasons["DECISION_REASON_CHALLENGE_APPROVED"] == len(uses)
        assert len(await events_of(arena, user.user_id, EventKind.CHALLENGE_ITEM_USED)) == 20


async def test_s10_forgetting_a_user_and_other_acts_wait_for_each_other(arena):
    """No call fails for a deadlock, and the user has no authenticator afterwards."""
    user, by_operator = fresh_user(), on_wire(operator())
    app = await arena.worker.enrol(user)
    await arena.worker.elevate(user, app)
    await arena.worker.challenge(user)
    named = {"actor": by_operator, "user_id": user.user_id}
    calls = cycle(
        [
            lambda client: client.people.ForgetUser(people.ForgetUserRequest(**named)),
            lambda client: client.people.UnlockUser(people.UnlockUserRequest(**named)),
            lambda client: client.enrollment.AdminResetEnrollment(
                enrollment.AdminResetEnrollmentRequest(**named)
            ),
            lambda client: client.step_up.RevokeElevations(
                step_up.RevokeElevationsRequest(**named, scope=step_up.REVOCATION_SCOPE_USER)
            ),
            lambda client: client.enrollment.BeginEnrollment(
                enrollment.BeginEnrollmentRequest(actor=on_wire(user))
            ),
        ]
    )

    async def call(client):
        return await next(calls)(client)

    ended = await arena.at_once(call)
    reasons = {refusal(end).reason for end in ended if isinstance(end, Exception)}
    assert reasons <= {"ENROLLMENT_STATE", "ELEVATION_REQUIRED", "UNKNOWN_PERSON"}
    forgotten = await arena.worker.events(EventKind.USER_FORGOTTEN_BY_OPERATOR)
    assert len([each for each in forgotten if each.subject_user_id == user.user_id]) == len(
        [end for end in ended if isinstance(end, people.ForgetUserResponse)]
    )
    assert (await arena.worker.standing(user)).active is None


async def test_s2_a_code_is_accepted_once_however_often_it_is_tried(arena):
    for _ in range(arena.crowd // 4):
        await the_same_right_code(arena)


# The double is racy above the database, so either database shows that the races can fail.
@pytest.mark.parametrize(
    "backend", ["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)], indirect=True
)
@pytest.mark.parametrize("race", RACES)
async def test_the_racy_double_is_caught(racy_arena, race):
    with pytest.raises(RaceLostError):  # noqa: PT012  # a race may come out well by chance
        for _ in range(5):
            await race(racy_arena)
