"""The client covers every method of the contract, and returns the contract's messages."""

import inspect
from datetime import timedelta

import grpc
import pytest
from stepup_tests.client.scripted_server import BY_PATH, RefusedError

from stepup.client import ActorContext, AsyncStepUpClient, StepUpClient, StepUpError, rpcs
from stepup.client.messages import audit, challenge, enrollment, policy, step_up

ACTOR = ActorContext(tenant_id="acme", user_id="bob", session_id="monday")
NAMESPACES = ("challenges", "enrollment", "people", "policy", "audit", "portal")
OF_THE_CLIENT = {
    rpcs.CHECK_STEP_UP,
    rpcs.BATCH_CHECK_STEP_UP,
    rpcs.EXPLAIN_STEP_UP,
    rpcs.VERIFY_OTP,
    rpcs.REVOKE_ELEVATIONS,
}


class Recorder:
    """A transport that makes no call."""

    def __init__(self):
        self.calls = []

    def record(self, rpc, request, timeout, metadata):
        assert isinstance(request, rpc.request)
        self.calls.append((rpc, request, timeout, metadata))

    unary = resent = stream = record


def methods(client):
    for name in NAMESPACES:
        namespace = type(getattr(client, name))
        for method, function in vars(namespace).items():
            if not method.startswith("_"):
                yield namespace, function


def least_arguments(function):
    """What a type checker demands."""
    values = {"str": "x", "bool": True, "timedelta": timedelta(1)}
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.default is parameter.empty and name != "self":
            annotation = parameter.annotation
            yield name, values.get(annotation, () if annotation.startswith("Iterable") else None)


def test_the_client_covers_every_method_of_the_contract():
    recorder = Recorder()
    for namespace, function in methods(StepUpClient("127.0.0.1:1")):
        arguments = dict(least_arguments(function))
        function(namespace(recorder), timeout=7, metadata=[("a", "b")], **arguments)
    called = [
        rpc for rpc, _, timeout, metadata in recorder.calls if (timeout, len(metadata)) == (7, 1)
    ]
    assert sorted(rpc.path for rpc in called) == sorted(
        path for path, rpc in BY_PATH.items() if rpc not in OF_THE_CLIENT
    )


def test_both_clients_have_the_same_methods():
    public = [
        {
            (name, str(inspect.signature(method)).replace("Async", ""))
            for name, method in inspect.getmembers(kind, inspect.isfunction)
            if not name.startswith("_")
        }
        for kind in (AsyncStepUpClient, StepUpClient)
    ]
    assert public[0] == public[1]


async def test_a_request_id_is_made_and_kept_for_codes(stepup, server):
    lost = RefusedError(grpc.StatusCode.UNAVAILABLE)
    answered = challenge.AnswerChallengeResponse(outcome=step_up.OUTCOME_VERIFIED)
    server.script(rpcs.ANSWER_CHALLENGE, lost, answered)
    arguments = {"actor": ACTOR, "challenge_id": "an-id", "code": "123456"}
    assert await call(stepup, "challenges", "answer", **arguments) == answered
    first, second = server.requests(rpcs.ANSWER_CHALLENGE)
    assert first.request_id == second.request_id != ""


async def test_values_of_python_are_taken(stepup, server):
    server.script(rpcs.UPDATE_POLICY, policy.UpdatePolicyResponse())
    server.script(rpcs.CREATE_CHALLENGE, challenge.CreateChallengeResponse())
    wanted = policy.Policy(enabled=True)
    await call(stepup, "policy", "update", actor=ACTOR, policy=wanted, update_mask=["enabled"])
    await call(
        stepup,
        "challenges",
        "create",
        actor=ACTOR,
        items=[challenge.NewChallengeItem(target="a")],
        message="x",
        expires_in=timedelta(seconds=90),
    )
    [update] = server.requests(rpcs.UPDATE_POLICY)
    assert list(update.update_mask.paths) == ["enabled"]
    [create] = server.requests(rpcs.CREATE_CHALLENGE)
    assert create.expires_in.seconds == 90


async def test_a_stream_is_read_to_its_end_or_left(stepup, server):
    event = audit.ExportAuditEventsResponse(event=audit.AuditEvent(sequence=1))
    server.script(rpcs.EXPORT_AUDIT_EVENTS, [event, event])
    assert await read(stepup, most=10) == [event, event]
    assert await read(stepup, most=1) == [event]
    server.script(rpcs.EXPORT_AUDIT_EVENTS, [event, RefusedError(grpc.StatusCode.UNAVAILABLE)])
    with pytest.raises(StepUpError):
        await read(stepup, most=10)


async def read(stepup, most):
    found = []
    stream = stepup.client.audit.export(tenant_id="acme")
    if stepup.is_async:
        async for each in stream:
            found.append(each)
            if len(found) == most:
                break
    else:
        for each in stream:
            found.append(each)
            if len(found) == most:
                break
    return found


async def call(stepup, namespace, method, **arguments):
    result = getattr(getattr(stepup.client, namespace), method)(**arguments)
    return await result if inspect.isawaitable(result) else result


async def test_a_person_without_an_authenticator_is_led_through_the_wizard(stepup, server):
    begun = enrollment.BeginEnrollmentResponse(secret="ABC")
    server.script(rpcs.BEGIN_ENROLLMENT, begun)
    assert await call(stepup, "enrollment", "begin", actor=ACTOR, account_name="bob@acme") == begun
    [request] = server.requests(rpcs.BEGIN_ENROLLMENT)
    assert request.account_name == "bob@acme"


async def test_elevations_end_by_session_or_by_user(stepup, server):
    server.script(rpcs.REVOKE_ELEVATIONS, step_up.RevokeElevationsResponse())
    await stepup.sign_out(ACTOR)
    await stepup.revoke_elevations(ACTOR)
    scopes = [request.scope for request in server.requests(rpcs.REVOKE_ELEVATIONS)]
    assert scopes == [step_up.REVOCATION_SCOPE_SESSION, step_up.REVOCATION_SCOPE_USER]


async def test_an_explanation_is_not_an_answer(stepup, server):
    explained = step_up.ExplainStepUpResponse(decision=step_up.DECISION_ALLOWED)
    server.script(rpcs.EXPLAIN_STEP_UP, explained)
    assert await stepup.explain(ACTOR, ACTOR, "response.run_osquery") == explained


def test_blanks_that_people_type_in_codes_do_not_count():
    recorder = Recorder()
    client = StepUpClient("127.0.0.1:1")
    type(client.enrollment)(recorder).confirm(ACTOR, code="123 456")
    type(client.challenges)(recorder).answer(ACTOR, challenge_id="x", code=" 123456\n")
    assert [request.code for _, request, *_ in recorder.calls] == ["123456", "123456"]
