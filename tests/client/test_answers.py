"""An answer cannot be misread, and nothing but an answer allows an action."""

import asyncio

import pytest

from stepup.client import (
    Allowed,
    Answers,
    Approved,
    AsyncStepUpClient,
    EnrollmentRequired,
    NotAllowedError,
    NotApprovedError,
    NotVerified,
    StepUpError,
    StepUpRequired,
    Verified,
)
from stepup.client.answers import answer_of, approval_of, verification_of
from stepup.client.errors import AnswerError
from stepup.client.messages import actor, challenge, step_up

ACTOR = actor.ActorContext(tenant_id="acme", user_id="bob", session_id="monday")


def response(decision, reason, **fields):
    return step_up.CheckStepUpResponse(decision=decision, reason=reason, **fields)


@pytest.mark.parametrize("decision", [*step_up.Decision.values(), 4, 99, -1])
@pytest.mark.parametrize("reason", [*step_up.DecisionReason.values(), 14, 99, -1])
def test_only_a_decision_with_a_reason_of_its_own_is_an_answer(decision, reason):
    allowing, step_up_reasons, enrollment = {1, 2, 3, 4, 5, 6, 7, 11, 13}, {9, 10, 12}, {8}
    expected = {
        step_up.DECISION_ALLOWED: (allowing, Allowed),
        step_up.DECISION_STEP_UP_REQUIRED: (step_up_reasons, StepUpRequired),
        step_up.DECISION_ENROLLMENT_REQUIRED: (enrollment, EnrollmentRequired),
    }
    reasons, kind = expected.get(decision, (set(), None))
    if reason in reasons:
        assert type(answer_of(response(decision, reason))) is kind
    else:
        with pytest.raises(AnswerError, match="do not run the action"):
            answer_of(response(decision, reason))


def test_every_reason_of_the_contract_belongs_to_a_decision():
    """A new reason must be given a class here, or else the client refuses it."""
    for reason in step_up.DecisionReason.values()[1:]:
        answers = []
        for decision in step_up.Decision.values()[1:]:
            try:
                answers.append(answer_of(response(decision, reason)))
            except AnswerError:
                continue
        assert len(answers) == 1, step_up.DecisionReason.Name(reason)


NEVER_TRUE = [
    Allowed(reason="ELEVATED"),
    StepUpRequired(reason="NOT_ELEVATED"),
    EnrollmentRequired(),
    Answers([Allowed(reason="ELEVATED")]),
    Answers([]),
    NotVerified(outcome="REJECTED"),
    verification_of(
        step_up.VerifyOtpResponse(outcome=step_up.OUTCOME_VERIFIED, elevation={"methods": [1]})
    ),
    approval_of(challenge.Challenge(state=challenge.CHALLENGE_STATE_APPROVED)),
]


@pytest.mark.parametrize("answer", NEVER_TRUE, ids=lambda answer: type(answer).__name__)
def test_no_answer_has_a_truth_value(answer):
    for misread in (bool, lambda answer: not answer, lambda answer: answer and 1):
        with pytest.raises(TypeError, match=r"has no truth value: .*isinstance\(answer, Allowed\)"):
            misread(answer)


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
@pytest.mark.parametrize("method", ["check", "require", "verify"])
def test_a_forgotten_await_is_not_true(method):
    client = AsyncStepUpClient("127.0.0.1:1")
    call = getattr(client, method)(ACTOR, "response.run_osquery")
    with pytest.raises(TypeError, match="await it"):
        bool(call)
    asyncio.run(client.close())


def test_an_answer_reads_all_fields():
    answer = response(
        step_up.DECISION_STEP_UP_REQUIRED,
        step_up.DECISION_REASON_EVERY_TIME,
        decision_id="an-id",
        requirement=step_up.StepUpRequirement(challenge=True),
        receipt_rejection=step_up.RECEIPT_REJECTION_EXPIRED,
        challenge_rejection=step_up.CHALLENGE_REJECTION_ITEM_USED,
        policy_etag="3",
    )
    assert answer_of(answer) == StepUpRequired(
        reason="EVERY_TIME",
        decision_id="an-id",
        needs_challenge=True,
        receipt_rejection="EXPIRED",
        challenge_rejection="ITEM_USED",
        policy_etag="3",
    )


def test_a_hint_that_the_client_does_not_know_changes_no_answer():
    answer = answer_of(response(1, 6, receipt_rejection=99, challenge_rejection=99))
    assert isinstance(answer, Allowed)
    assert answer.receipt_rejection == answer.challenge_rejection == "UNKNOWN_TO_THIS_CLIENT"


def test_s11_no_answer_shows_its_receipt():
    assert "secret" not in repr(Allowed(reason="ELEVATED", receipt="secret"))


@pytest.mark.parametrize("seconds", [2**62, -(2**62), 10**12])
def test_a_time_that_is_out_of_range_is_not_an_answer(seconds):
    elevated = response(1, 6, elevation={"expires_at": {"seconds": seconds}})
    with pytest.raises(AnswerError, match="out of range"):
        answer_of(elevated)
    verified = step_up.VerifyOtpResponse(outcome=1, elevation={"expires_at": {"seconds": seconds}})
    with pytest.raises(AnswerError, match="out of range"):
        verification_of(verified)


@pytest.mark.parametrize("outcome", [0, 7, 99, -1])
def test_an_unknown_outcome_of_a_code_is_not_an_outcome(outcome):
    with pytest.raises(AnswerError, match="not verified"):
        verification_of(step_up.VerifyOtpResponse(outcome=outcome))


def test_a_verification_without_an_elevation_is_not_one():
    with pytest.raises(AnswerError, match="not verified"):
        verification_of(step_up.VerifyOtpResponse(outcome=step_up.OUTCOME_VERIFIED))


@pytest.mark.parametrize("outcome", step_up.Outcome.values()[2:])
def test_every_other_outcome_is_not_verified(outcome):
    verification = verification_of(step_up.VerifyOtpResponse(outcome=outcome))
    assert isinstance(verification, NotVerified)
    assert not isinstance(verification, Verified)


@pytest.mark.parametrize("state", [0, 1, 3, 4, 5, 6, 99, -1])
def test_only_an_approved_challenge_is_an_approval(state):
    with pytest.raises(StepUpError) as raised:
        approval_of(challenge.Challenge(state=state))
    is_known = state in challenge.ChallengeState.values()[1:]
    assert type(raised.value) is (NotApprovedError if is_known else AnswerError)


def test_an_approval_has_the_id_to_present():
    approved = approval_of(challenge.Challenge(challenge_id="an-id", state=2))
    assert isinstance(approved, Approved)
    assert approved.challenge_id == "an-id"


def test_an_action_that_is_not_allowed_names_what_the_person_must_do():
    answer = StepUpRequired(reason="NOT_ELEVATED", decision_id="an-id")
    error = NotAllowedError(answer)
    assert error.answer is answer
    assert (error.reason, error.retryable) == ("NOT_ELEVATED", False)
