"""What a caller may do, through the pipeline: each cell of the matrix is asked for (S15, S16)."""

from itertools import product

import pytest
from stepup_tests.callers import admitting
from stepup_tests.people import deprovisioning, operator, person
from stepup_tests.requests import METHODS, valid_request
from stepup_tests.wire import on_wire, pipeline_of
from stepup_tests.worker import OSQUERY, REMOTE_SHELL

from stepup.domain.actor import CallerId
from stepup.domain.callers import Caller, Claim, Patterns, Rule
from stepup.domain.explanation import Question, Refusal, explain
from stepup.domain.operations import SHIPPED, SIGN_IN
from stepup.domain.portal import INDISPENSABLE, OF_ALL_PAGES, PortalPage
from stepup.rpc.engine import Invocation
from stepup.rpc.server.server import DEMANDS, methods
from stepup.rpc.wire.errors import RefusedError, to_status
from stepup.v1 import actor_pb2, step_up_service_pb2

PEER = Invocation("ipv4:127.0.0.1:4711", (("x-request-id", "r-17"),))
OWN_TENANT = valid_request("GetPolicy").tenant_id
CHECK = "stepup.v1.StepUpService/CheckStepUp"
PATHS = sorted(METHODS)
REFUSALS = {"CALLER_NOT_PERMITTED", "CLAIM_NOT_PERMITTED"}
OUTSIDERS = {Claim.OPERATOR: operator(), Claim.DEPROVISIONING: deprovisioning()}
ABOUT_PEOPLE = [claim for claim in Claim if claim not in OUTSIDERS]
ONE_OF_EACH_CATEGORY = {members[0].id.category: members[0].id for _, members in SHIPPED} | {
    SIGN_IN.category: SIGN_IN
}


def rule(methods=("*",), tenants=("*",), operations=("*",), claims=()):
    return Rule(
        "rule", Patterns(methods), Patterns(tenants), Patterns(operations), frozenset(claims)
    )


def short(path):
    return path.removeprefix("stepup.v1.")


async def reason_of(worker, path, request, *rules):
    """Why a caller with these rules is refused; empty when it is answered."""
    admit = admitting(Caller(CallerId("soar"), frozenset(), rules), "spiffe://acme/soar")
    pipeline = pipeline_of(worker, admit)
    [method] = [
        each
        for each in methods(worker.application.handlers)
        if f"{each.service}/{each.name}" == path
    ]
    payload = request.SerializeToString()
    try:
        if method.streams:
            async for _ in pipeline.stream(method, payload, PEER):
                pass
        else:
            await pipeline.unary(method, payload, PEER)
    except RefusedError as refused:
        return refused.status.reason
    return ""


def further_rules(path):
    """Rules for the other method that a method demands, or the page that it opens, if it does."""
    if path.endswith("/CreatePortalSession"):
        needed = (*INDISPENSABLE[PortalPage.STEP_UP], *OF_ALL_PAGES)
        return [rule(methods=needed, claims=frozenset(Claim))]
    required = DEMANDS[short(path)].required_method
    return [rule(methods=[required])] if required else []


@pytest.mark.parametrize("path", PATHS)
async def test_s15_a_caller_without_a_rule_may_use_no_method(worker, path):
    request = valid_request(path.rpartition("/")[2])
    assert await reason_of(worker, path, request) == "CALLER_NOT_PERMITTED"


@pytest.mark.parametrize("used", PATHS)
async def test_s15_a_rule_for_one_method_opens_no_other(worker, used):
    request = valid_request(used.rpartition("/")[2])
    opened_by = {
        granted
        for granted in PATHS
        if await reason_of(
            worker,
            used,
            request,
            *further_rules(used),
            rule(methods=[short(granted)], claims=frozenset(Claim)),
        )
        != "CALLER_NOT_PERMITTED"
    }
    assert opened_by == {used}


@pytest.mark.parametrize(
    "path", [path for path in PATHS if DEMANDS[short(path)].tenant or "/ListTenants" in path]
)
async def test_s15_a_rule_for_another_tenant_opens_nothing_of_this_one(worker, path):
    request = valid_request(path.rpartition("/")[2])
    elsewhere = rule(tenants=["umbrella"], claims=frozenset(Claim))
    assert await reason_of(worker, path, request, elsewhere) == "CALLER_NOT_PERMITTED"


def assert_claim(actor, claim):
    """Make an actor context assert one claim more."""
    match claim:
        case Claim.MANAGED_SERVICES:
            actor.team = actor_pb2.TEAM_MANAGED_SERVICES_OPERATIONS
        case Claim.AUTOMATIC_PLAYBOOK:
            actor.playbook_run.playbook_id = actor.playbook_run.run_id = "r-1"
            actor.playbook_run.trigger = actor_pb2.PLAYBOOK_TRIGGER_AUTOMATIC
        case Claim.TIMED_OUT_RETRY:
            actor.retry_receipt = "a receipt"
        case Claim.SAML_ACCOUNT:
            actor.account_type = actor_pb2.ACCOUNT_TYPE_SAML
        case Claim.MASTER_ADMINISTRATOR:
            actor.role = actor_pb2.ROLE_MASTER_ADMINISTRATOR


def asserting(claim, operation):
    """A check whose actor context asserts one claim."""
    actor = on_wire(person())
    assert_claim(actor, claim)
    return step_up_service_pb2.CheckStepUpRequest(actor=actor, operation=operation)


@pytest.mark.parametrize("granted", [OSQUERY, REMOTE_SHELL])
async def test_s16_the_receipt_of_a_check_of_a_batch_is_a_claim_for_its_operation(worker, granted):
    request = step_up_service_pb2.BatchCheckStepUpRequest(
        actor=on_wire(person()),
        checks=[
            {"operation": OSQUERY},
            {"operation": OSQUERY, "retry_receipt": "a receipt"},
            {"operation": REMOTE_SHELL},
        ],
    )
    listed = rule(operations=[granted], claims=[Claim.TIMED_OUT_RETRY])
    refused = await reason_of(worker, CHECK.replace("/", "/Batch"), request, rule(), listed)
    assert refused == ("" if granted == OSQUERY else "CLAIM_NOT_PERMITTED")


EXPLAIN = CHECK.replace("CheckStepUp", "ExplainStepUp")


@pytest.mark.parametrize("operation", ["response.*", "iam.*"])
async def test_s15_an_explanation_needs_a_rule_for_its_operation(worker, operation):
    permitted = rule(operations=[operation], claims=[Claim.MASTER_ADMINISTRATOR])
    refused = await reason_of(worker, EXPLAIN, valid_request("ExplainStepUp"), permitted)
    assert refused == ("" if operation == "response.*" else "CALLER_NOT_PERMITTED")


@pytest.mark.parametrize("claim", [Claim.MANAGED_SERVICES, Claim.AUTOMATIC_PLAYBOOK])
async def test_s16_claims_need_a_permission_of_the_actor_and_none_of_the_subject(worker, claim):
    """An explanation allows nothing, whatever its subject claims."""
    request = valid_request("ExplainStepUp")
    request.actor.CopyFrom(on_wire(person()))
    assert_claim(request.subject, claim)
    assert await reason_of(worker, EXPLAIN, request, rule()) == ""
    assert_claim(request.actor, claim)
    assert await reason_of(worker, EXPLAIN, request, rule()) == "CLAIM_NOT_PERMITTED"


CELLS = list(product(ABOUT_PEOPLE, ONE_OF_EACH_CATEGORY))


@pytest.mark.parametrize(("asserted", "category"), CELLS)
async def test_s16_only_the_listed_cells_of_the_matrix_pass(worker, asserted, category):
    request = asserting(asserted, ONE_OF_EACH_CATEGORY[category])
    reasons = {}
    for granted, granted_category in CELLS:
        listed = rule(operations=[f"{granted_category}.*"], claims=[granted])
        reasons[granted, granted_category] = await reason_of(worker, CHECK, request, rule(), listed)
    # How an account signs in leads to an exemption at sign-in only: elsewhere it claims nothing.
    is_claim = asserted is not Claim.SAML_ACCOUNT or category == SIGN_IN.category
    assert reasons == {
        cell: "CLAIM_NOT_PERMITTED" if is_claim and cell != (asserted, category) else ""
        for cell in CELLS
    }


OPERATOR, DEPROVISIONING = Claim.OPERATOR, Claim.DEPROVISIONING
ACCEPTED = {
    "StepUpService": {
        "CheckStepUp": (),
        "BatchCheckStepUp": (),
        "ExplainStepUp": (OPERATOR,),
        "VerifyOtp": (),
        "RevokeElevations": (OPERATOR,),
    },
    "ChallengeService": {
        "CreateChallenge": (),
        "GetChallenge": (OPERATOR,),
        "ListChallenges": (OPERATOR,),
        "AwaitChallenge": (),
        "AnswerChallenge": (),
        "DeclineChallenge": (),
        "CancelChallenge": (OPERATOR,),
    },
    "EnrollmentService": {
        "BeginEnrollment": (),
        "ConfirmEnrollment": (),
        "CompleteEnrollment": (),
        "CancelEnrollment": (),
        "GetEnrollment": (),
        "RemoveEnrollment": (),
        "ResetEnrollment": (),
        "IssueResetCode": (),
        "SetAccountMfa": (),
        "AdminResetEnrollment": (OPERATOR,),
    },
    "PeopleService": {
        "ListPeople": (OPERATOR,),
        "GetPerson": (OPERATOR,),
        "UnlockUser": (OPERATOR,),
        "ForgetUser": (OPERATOR, DEPROVISIONING),
        "ImportAuthenticators": (OPERATOR,),
        "ListTenants": (),
    },
    "PolicyService": {"GetPolicy": (), "UpdatePolicy": (OPERATOR,), "ListOperations": ()},
    "AuditService": {"ListAuditEvents": (), "ExportAuditEvents": ()},
    "PortalService": {
        "CreatePortalSession": (),
        "RedeemPortalSession": (),
        "GetPortalSession": (),
        "EndPortalSession": (),
    },
}
"""The outsiders that each method of the contract accepts. A new method needs a row."""
MATRIX = {
    f"stepup.v1.{service}/{name}": set(accepted)
    for service, rows in ACCEPTED.items()
    for name, accepted in rows.items()
}
WITH_ACTOR = [path for path in PATHS if "actor" in METHODS[path].input_type.fields_by_name]


def of_outsider(path, claim):
    """A request of an operator or of a deprovisioning caller."""
    request = valid_request(path.rpartition("/")[2])
    request.actor.CopyFrom(on_wire(OUTSIDERS[claim]))
    fields = request.DESCRIPTOR.fields_by_name
    if "user_id" in fields:
        request.user_id = "alice"
    if "reason" in fields:
        request.ClearField("reason")
    if "deprovisioning" in fields:
        request.deprovisioning = claim is Claim.DEPROVISIONING
    return request


def test_s16_every_method_of_the_contract_has_a_row_of_the_matrix():
    assert set(MATRIX) == set(METHODS)
    assert {path: set(DEMANDS[short(path)].outsiders) for path in PATHS} == MATRIX
    assert all(path in WITH_ACTOR for path, accepted in MATRIX.items() if accepted)


@pytest.mark.parametrize("claim", OUTSIDERS)
@pytest.mark.parametrize("path", WITH_ACTOR)
async def test_s16_a_method_accepts_only_the_listed_outsiders_by_their_claim(worker, path, claim):
    request, further = of_outsider(path, claim), further_rules(path)
    without = await reason_of(
        worker, path, request, *further, rule(claims=frozenset(Claim) - {claim})
    )
    refused = await worker.events()
    with_it = await reason_of(worker, path, request, *further, rule(claims=[claim]))
    if claim not in MATRIX[path]:
        assert (with_it, without, refused) == ("INVALID_FIELD", "INVALID_FIELD", [])
        return
    assert with_it not in {"INVALID_FIELD", "INTERNAL", *REFUSALS}
    assert without == "CLAIM_NOT_PERMITTED"
    [event] = refused
    assert (event.kind.value, event.actor_user_id) == ("claim_refused", None)
    assert (event.details["claim"], event.details["method"]) == (claim.value, short(path))


async def test_s16_a_refused_claim_is_on_record(worker):
    request = asserting(Claim.MANAGED_SERVICES, ONE_OF_EACH_CATEGORY["response"])
    await reason_of(worker, CHECK, request, rule())
    [event] = await worker.events()
    assert (event.kind.value, event.caller) == ("claim_refused", "soar")
    assert event.details == {
        "session": person().session_hash,
        "request_id": "r-17",
        "identities": ["spiffe://acme/soar"],
        "method": "StepUpService/CheckStepUp",
        "operation": request.operation,
        "claim": "managed_services",
        "left_out": 0,
    }


async def test_s16_a_claim_that_cannot_be_put_on_record_is_refused_all_the_same(world, worker):
    request = asserting(Claim.MANAGED_SERVICES, ONE_OF_EACH_CATEGORY["response"])
    world.database.audit_trail_takes_events = False
    assert await reason_of(worker, CHECK, request, rule()) == "STORE_UNAVAILABLE"


async def test_every_operation_of_a_batch_has_to_be_granted(worker):
    request = valid_request("BatchCheckStepUp")
    request.checks.add(operation="iam.configure_access")
    path = "stepup.v1.StepUpService/BatchCheckStepUp"
    responses = rule(operations=["response.*"], claims=frozenset(Claim))
    reason = await reason_of(worker, path, request, responses)
    assert reason == "CALLER_NOT_PERMITTED"


async def test_the_method_is_refused_before_the_message_is_looked_at(worker):
    [method] = [each for each in methods(worker.application.handlers) if each.name == "VerifyOtp"]
    admit = admitting(Caller(CallerId("soar"), frozenset(), (rule(methods=[short(CHECK)]),)))
    pipeline = pipeline_of(worker, admit)
    with pytest.raises(RefusedError) as refused:
        await pipeline.unary(method, b"\xff", PEER)
    assert refused.value.status.reason == "CALLER_NOT_PERMITTED"


CALLERS_RULES = {
    "none": [],
    "everything": [rule(claims=frozenset(Claim))],
    "no claims": [rule()],
    "another tenant": [rule(tenants=["umbrella"], claims=frozenset(Claim))],
    "no tenants": [rule(tenants=[], claims=frozenset(Claim))],
    "another operation": [rule(operations=["iam.*"], claims=frozenset(Claim))],
    "no operations": [rule(operations=[], claims=frozenset(Claim))],
    "another service": [rule(methods=["Other/*"], claims=frozenset(Claim))],
    "claims for another operation": [rule(), rule(operations=["iam.*"], claims=frozenset(Claim))],
    "each claim by a rule": [rule(), *(rule(claims=[claim]) for claim in Claim)],
    "some claims": [rule(claims=[Claim.MANAGED_SERVICES, Claim.MASTER_ADMINISTRATOR])],
}
ASSERTED = [(), (Claim.MASTER_ADMINISTRATOR,), tuple(ABOUT_PEOPLE)]


def explained(path, claims, *rules):
    """Why a call of a valid request would be refused, by its explanation; empty when it is not."""
    demands = DEMANDS[short(path)]
    question = Question(
        demands.method,
        OWN_TENANT if demands.tenant else None,
        OSQUERY if demands.operation else None,
        claims if demands.claims else (),
        demands.required_method,
        demands.every_tenant,
    )
    answer = explain(Caller(CallerId("soar"), frozenset(), rules), question)
    return to_status(answer.error, "").reason if isinstance(answer, Refusal) else ""


@pytest.mark.parametrize("path", PATHS)
async def test_s15_s16_the_pipeline_refuses_exactly_what_an_explanation_refuses(worker, path):
    refused, told = {}, {}
    outsiders = [(claim,) for claim in DEMANDS[short(path)].outsiders]
    for (name, rules), claims in product(CALLERS_RULES.items(), ASSERTED + outsiders):
        request = valid_request(path.rpartition("/")[2])
        if claims in outsiders:
            request = of_outsider(path, *claims)
        elif "actor" in request.DESCRIPTOR.fields_by_name:
            request.actor.CopyFrom(on_wire(person()))
            for claim in claims:
                assert_claim(request.actor, claim)
        reason = await reason_of(worker, path, request, *rules)
        refused[name, claims] = reason if reason in REFUSALS else ""
        told[name, claims] = explained(path, claims, *rules)
    assert told == refused


def test_it_is_told_of_every_method_what_it_demands():
    assert list(DEMANDS) == [short(path) for path in METHODS]
