"""Acts of administrators, operators and deprovisioning callers on users, on the wire (S16)."""

import grpc
import pytest
from stepup_tests.people import administrator, deprovisioning, operator, person
from stepup_tests.wire import on_wire, refusal_of
from stepup_tests.worker import OSQUERY

from stepup.domain.decision import Reason
from stepup.v1 import challenge_service_pb2 as challenge
from stepup.v1 import enrollment_service_pb2 as enrollment
from stepup.v1 import people_service_pb2 as people
from stepup.v1 import policy_service_pb2 as policy
from stepup.v1 import step_up_service_pb2 as step_up

ALICE = person()
ROOT, OLGA, PROGRAM = (on_wire(each()) for each in (administrator, operator, deprovisioning))


@pytest.fixture
async def app(worker):
    """Alice and the administrator have authenticators and are elevated."""
    await worker.select(OSQUERY)
    await worker.elevate(administrator(), await worker.enrol(administrator()))
    app = await worker.enrol(ALICE)
    await worker.elevate(ALICE, app)
    return app


def unlock(actor, **fields):
    return people.UnlockUserRequest(actor=actor, user_id="alice", **fields)


def forget(actor, **fields):
    return people.ForgetUserRequest(actor=actor, user_id="alice", **fields)


def reset(actor, **fields):
    return enrollment.AdminResetEnrollmentRequest(actor=actor, user_id="alice", **fields)


def revoke(actor, scope=step_up.REVOCATION_SCOPE_USER, **fields):
    return step_up.RevokeElevationsRequest(actor=actor, scope=scope, **fields)


def send(client, request):
    return {
        people.UnlockUserRequest: client.people.UnlockUser,
        people.ForgetUserRequest: client.people.ForgetUser,
        enrollment.AdminResetEnrollmentRequest: client.enrollment.AdminResetEnrollment,
        step_up.RevokeElevationsRequest: client.step_up.RevokeElevations,
        challenge.ListChallengesRequest: client.challenge.ListChallenges,
    }[type(request)](request)


@pytest.mark.parametrize(
    "request_", [unlock(ROOT, reason="guessed"), unlock(OLGA)], ids=["administrator", "operator"]
)
async def test_a_lock_is_ended(worker, client, app, request_):
    await worker.fail(ALICE, app, times=5)
    assert (await send(client, request_)).unlocks_remaining == 2
    await worker.advance(seconds=30)
    await worker.elevate(ALICE, app)


@pytest.mark.usefixtures("app")
@pytest.mark.parametrize(
    "request_",
    [
        forget(ROOT, reason="left"),
        forget(OLGA),
        forget(PROGRAM, deprovisioning=True),
        forget(PROGRAM, deprovisioning=True, reason="left"),
        reset(ROOT, reason="lost phone"),
        reset(OLGA),
    ],
)
async def test_an_authenticator_is_removed(worker, client, request_):
    await send(client, request_)
    assert (await worker.standing(ALICE)).active is None


@pytest.mark.usefixtures("app")
async def test_an_operator_ends_the_elevations_of_a_user(worker, client):
    await send(client, revoke(OLGA, user_id="alice"))
    assert (await worker.check(ALICE)).verdict.reason is Reason.NOT_ELEVATED
    assert (await worker.check(administrator())).verdict.reason is Reason.ELEVATED


async def test_an_operator_reads_and_cancels_the_challenge_of_a_user(worker, client):
    named = {"actor": OLGA, "challenge_id": str(await worker.challenge(ALICE))}
    read = await client.challenge.GetChallenge(challenge.GetChallengeRequest(**named))
    asked = challenge.ListChallengesRequest(actor=OLGA, user_id="alice")
    assert list((await client.challenge.ListChallenges(asked)).challenges) == [read.challenge]
    assert not read.challenge.HasField("same_session")
    await client.challenge.CancelChallenge(challenge.CancelChallengeRequest(**named))
    after = await client.challenge.GetChallenge(challenge.GetChallengeRequest(**named))
    assert after.challenge.state == challenge.CHALLENGE_STATE_CANCELLED


def updating(etag, enabled):
    return policy.UpdatePolicyRequest(
        actor=OLGA,
        policy={"enabled": enabled, "etag": etag},
        update_mask={"paths": ["enabled"]},
    )


async def test_an_operator_enables_a_policy_and_never_disables_it(client):
    before = await client.policy.GetPolicy(policy.GetPolicyRequest(tenant_id="acme"))
    enabled = await client.policy.UpdatePolicy(updating(before.policy.etag, True))
    assert enabled.policy.enabled
    refusal = await refusal_of(client.policy.UpdatePolicy(updating(enabled.policy.etag, False)))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.PERMISSION_DENIED, "ROLE_REQUIRED")


REFUSED = {
    "ListChallenges: a person's user_id": (
        challenge.ListChallengesRequest(actor=on_wire(ALICE), user_id="alice"),
        "user_id",
    ),
    "ListChallenges: an operator's user_id: missing": (
        challenge.ListChallengesRequest(actor=OLGA),
        "user_id",
    ),
    "a person's user_id": (revoke(on_wire(ALICE), user_id="alice"), "user_id"),
    "an operator's user_id: missing": (revoke(OLGA), "user_id"),
    "an operator's scope": (
        revoke(OLGA, step_up.REVOCATION_SCOPE_SESSION, user_id="alice"),
        "scope",
    ),
    "deprovisioning by a person": (
        forget(ROOT, reason="left", deprovisioning=True),
        "actor.user_id",
    ),
    "deprovisioning by an operator": (forget(OLGA, deprovisioning=True), "actor.operator"),
    "deprovisioning: missing": (forget(PROGRAM, reason="left"), "actor.user_id"),
    "deprovisioning: a blank reason": (
        forget(PROGRAM, reason=" ", deprovisioning=True),
        "reason",
    ),
    **{
        f"{act.__name__}: {problem}": (act(actor, **fields), field)
        for act in (unlock, forget, reset)
        for problem, actor, fields, field in (
            ("an administrator's reason: missing", ROOT, {}, "reason"),
            ("an administrator's reason: 513 characters", ROOT, {"reason": "x" * 513}, "reason"),
            ("an operator's reason", OLGA, {"reason": "lost phone"}, "reason"),
        )
    },
}


@pytest.mark.usefixtures("app")
@pytest.mark.parametrize(("request_", "field"), REFUSED.values(), ids=REFUSED)
async def test_a_spoilt_field_is_refused(client, request_, field):
    refusal = await refusal_of(send(client, request_))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")
    assert refusal.fields == [field]


@pytest.mark.usefixtures("app")
@pytest.mark.parametrize("act", [unlock, forget, reset])
async def test_nobody_acts_on_themselves(client, act):
    request = act(ROOT, reason="mine")
    request.user_id = "root"
    refusal = await refusal_of(send(client, request))
    assert (refusal.code, refusal.reason) == (
        grpc.StatusCode.FAILED_PRECONDITION,
        "NOT_FOR_ONESELF",
    )


@pytest.mark.usefixtures("app")
async def test_nobody_is_known_by_the_id(client):
    request = unlock(OLGA)
    request.user_id = "nobody"
    refusal = await refusal_of(send(client, request))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.NOT_FOUND, "UNKNOWN_PERSON")


async def test_s4_a_person_is_unlocked_three_times_a_day(worker, client, app):
    for number in range(4):
        await worker.fail(person(session=f"guess-{number}"), app, times=5)
        answer = send(client, unlock(OLGA))
        if number < 3:
            await answer
    refusal = await refusal_of(answer)
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "UNLOCK_LIMIT")
    assert refusal.details["RetryInfo"].retry_delay.seconds == 24 * 60 * 60
