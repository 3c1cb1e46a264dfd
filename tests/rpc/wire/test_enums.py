"""The enums of the contract and those of the domain say the same things."""

from datetime import UTC, datetime
from uuid import UUID

import pytest
from stepup_tests.people import person
from stepup_tests.wire import on_wire

from stepup.domain.actor import AccountType, CallerId, PlaybookTrigger, Role, Team
from stepup.domain.audit import NO_HASH, ChainedEvent, Event, EventKind
from stepup.domain.authenticator import Attempt, SealedSecret
from stepup.domain.challenge import ChallengeState
from stepup.domain.decision import Decision, Reason, Verdict
from stepup.domain.elevation import AuthenticationMethod, Elevation, Outcome, Verification
from stepup.domain.enrollment import EnrollmentState, PendingEnrollment
from stepup.domain.errors import InvalidFieldError
from stepup.domain.item_use import ChallengeRejection
from stepup.domain.not_elevated import NotElevatedDetail
from stepup.domain.receipts import ReceiptRejection
from stepup.domain.totp import Label
from stepup.rpc.wire import actors, challenges, decode, encode
from stepup.service.step_up.answers import Answer
from stepup.service.step_up.revocation import Scope
from stepup.v1 import (
    actor_pb2,
    audit_service_pb2,
    challenge_service_pb2,
    elevation_pb2,
    enrollment_service_pb2,
    step_up_service_pb2,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ALICE = person()
OWNER = (ALICE.tenant_id, ALICE.user_id, ALICE.session_hash, "enrollment")


def answer(decision=Decision.ALLOWED, reason=Reason.ELEVATED, detail=None, **verdict):
    made = Verdict(decision, reason, **verdict)
    return encode.answer(Answer(UUID(int=0), made, "etag", detail=detail))


def elevation(method):
    return answer(elevation=Elevation(*OWNER, NOW, NOW, (method,))).elevation


def wizard(state):
    step = 1 if state is EnrollmentState.CONFIRMED else None
    sealed = SealedSecret("key", b"")
    return encode.pending(
        PendingEnrollment(*OWNER, sealed, Label("alice"), NOW, confirmed_step=step)
    )


def event(kind):
    happened = Event(ALICE.tenant_id, kind, NOW, CallerId("local"), ALICE.user_id)
    return encode.event(ChainedEvent.after(0, NO_HASH, happened))


STEP_UP, ENROLLMENT = step_up_service_pb2, enrollment_service_pb2
SENT = {
    "Decision": (STEP_UP.Decision, Decision, lambda value: answer(decision=value).decision),
    "DecisionReason": (STEP_UP.DecisionReason, Reason, lambda value: answer(reason=value).reason),
    "ReceiptRejection": (
        STEP_UP.ReceiptRejection,
        ReceiptRejection,
        lambda value: answer(receipt_rejection=value).receipt_rejection,
    ),
    "ChallengeRejection": (
        STEP_UP.ChallengeRejection,
        ChallengeRejection,
        lambda value: answer(challenge_rejection=value).challenge_rejection,
    ),
    "NotElevatedDetail": (
        STEP_UP.NotElevatedDetail,
        NotElevatedDetail,
        lambda value: answer(detail=value).detail,
    ),
    "Outcome": (
        STEP_UP.Outcome,
        Outcome,
        lambda value: encode.verification(Verification(value)).outcome,
    ),
    "AuthenticationMethod": (
        elevation_pb2.AuthenticationMethod,
        AuthenticationMethod,
        lambda value: elevation(value).methods[0],
    ),
    "EnrollmentState": (
        ENROLLMENT.EnrollmentState,
        EnrollmentState,
        lambda value: wizard(value).state,
    ),
    "AuditEventKind": (
        audit_service_pb2.AuditEventKind,
        EventKind,
        lambda value: event(value).kind,
    ),
}


def actor(**fields):
    """The actor of a request, with some fields set on the wire."""
    message = on_wire(ALICE)
    message.MergeFrom(actor_pb2.ActorContext(**fields))
    return actors.actor(STEP_UP.CheckStepUpRequest(actor=message))


def playbook_trigger(value):
    run = {"playbook_id": "pb", "run_id": "r", "trigger": value}
    return actor(playbook_run=run).playbook_run.trigger


def event_kind(value):
    request = audit_service_pb2.ListAuditEventsRequest(tenant_id="acme", filter={"kinds": [value]})
    [kind] = decode.event_query(request).kinds
    return kind


TAKEN = {
    "AccountType": (
        actor_pb2.AccountType,
        AccountType,
        lambda value: actor(account_type=value).account_type,
    ),
    "Role": (actor_pb2.Role, Role, lambda value: actor(role=value).role),
    "Team": (actor_pb2.Team, Team, lambda value: actor(team=value).team),
    "PlaybookTrigger": (actor_pb2.PlaybookTrigger, PlaybookTrigger, playbook_trigger),
    "RevocationScope": (STEP_UP.RevocationScope, Scope, decode.scope),
    "AuditEventKind": (audit_service_pb2.AuditEventKind, EventKind, event_kind),
}


def names(wire):
    """The names of all values but the unspecified one."""
    return {name for name, number in wire.items() if number}


@pytest.mark.parametrize("name", SENT)
def test_every_value_of_the_domain_is_sent_under_its_own_name(name):
    wire, domain, send = SENT[name]
    sent = {value.name: wire.Name(send(value)) for value in domain}
    assert all(on_the_wire.endswith(f"_{value}") for value, on_the_wire in sent.items())
    assert set(sent.values()) == names(wire)


@pytest.mark.parametrize("name", TAKEN)
def test_every_value_of_the_contract_is_taken_under_its_own_name(name):
    wire, domain, take = TAKEN[name]
    taken = {value: take(wire.Value(value)) for value in names(wire)}
    assert all(value.endswith(f"_{meaning.name}") for value, meaning in taken.items())
    assert set(taken.values()) == set(domain)


@pytest.mark.parametrize("take", [playbook_trigger, decode.scope, event_kind])
def test_what_a_caller_has_to_say_has_no_meaning_when_it_is_left_out(take):
    with pytest.raises(InvalidFieldError):
        take(0)


def test_every_state_of_a_challenge_is_sent_under_its_own_name_but_for_a_revocation():
    sent = {
        state: challenge_service_pb2.ChallengeState.Name(number)
        for state, number in challenges.STATES.items()
    }
    assert sent.pop(ChallengeState.REVOKED) == sent[ChallengeState.CANCELLED]
    assert sent == {
        state: f"CHALLENGE_STATE_{state.name}"
        for state in ChallengeState
        if state is not ChallengeState.REVOKED
    }
    assert set(sent.values()) == names(challenge_service_pb2.ChallengeState)


def test_every_outcome_of_a_reset_code_is_sent_under_its_own_name():
    assert {
        attempt.name: ENROLLMENT.ResetOutcome.Name(outcome)
        for attempt, outcome in encode.RESET_OUTCOMES.items()
    } == {
        Attempt.VERIFIED.name: "RESET_OUTCOME_ACCEPTED",
        Attempt.WRONG.name: "RESET_OUTCOME_REJECTED",
        Attempt.THROTTLED.name: "RESET_OUTCOME_THROTTLED",
    }
