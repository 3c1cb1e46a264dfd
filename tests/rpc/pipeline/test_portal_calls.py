"""Calls within a portal session: the web process acts for its person, and within its page (S20)."""

from dataclasses import replace
from uuid import UUID

import pytest
from stepup_tests.callers import admitting
from stepup_tests.people import CALLER, administrator, person
from stepup_tests.portal import portal_session
from stepup_tests.requests import CHALLENGE_ID, METHODS, answer_type, path_of, valid_request
from stepup_tests.wire import on_wire, pipeline_of
from structlog.testing import capture_logs

from stepup.domain.actor import CallerId, Device, TenantId
from stepup.domain.audit import EventKind
from stepup.domain.callers import Caller, Callers, Claim, Patterns, Rule
from stepup.domain.origins import WebOrigin
from stepup.domain.portal import (
    IDLE_LIFETIME,
    LIFETIME,
    LIFETIME_WITH_ROLE,
    OF_READERS,
    OF_WIZARD,
    REACHES,
    PortalPage,
)
from stepup.domain.totp import Label
from stepup.rpc.engine import Invocation
from stepup.rpc.pipeline.portal_calls import SESSION_METADATA, InPortal
from stepup.rpc.server.server import methods
from stepup.rpc.wire.errors import RefusedError
from stepup.v1 import actor_pb2

SESSION_ID = "the-session-id"
CHALLENGE = UUID(CHALLENGE_ID)
PATHS = sorted(METHODS)
ALL = frozenset(Claim)
REFUSED = {"CALLER_NOT_PERMITTED", "CLAIM_NOT_PERMITTED"}


def rule(methods=("*",), tenants=("*",), claims=ALL):
    return Rule("rule", Patterns(methods), Patterns(tenants), Patterns(["*"]), frozenset(claims))


def caller(name, *rules, portal=False):
    return Caller(
        CallerId(name),
        frozenset({f"spiffe://acme/{name}"}),
        rules,
        is_portal=portal,
        return_origins=frozenset() if portal else frozenset({WebOrigin("https://console.example")}),
    )


WEB = caller("web", rule(), portal=True)
BACKEND = caller(CALLER, rule())


def short(path):
    return path.removeprefix("stepup.v1.")


def within(path):
    """A valid request as the web process sends it: without an actor and a tenant."""
    request = valid_request(path.rpartition("/")[2])
    for field in ("actor", "tenant_id"):
        if field in request.DESCRIPTOR.fields_by_name:
            request.ClearField(field)
    if short(path) == "PeopleService/ListPeople":
        request.Clear()
        request.counts_only = True
    return request


class Portal:
    """A worker, whose web process calls within one session."""

    def __init__(self, worker, *, web=WEB, opened_by=BACKEND):
        self.worker = worker
        self.web = web
        self.pipeline = pipeline_of(
            worker, admitting(web, *web.identities), find_caller=Callers([web, opened_by]).named
        )
        self.methods = {
            f"{each.service}/{each.name}": each for each in methods(worker.application.handlers)
        }

    async def open(self, page, actor=None, **fields):
        if page is PortalPage.CHALLENGE:
            fields.setdefault("challenge_id", CHALLENGE)
        session = portal_session(
            self.worker.clock.now(), actor=actor or administrator(), page=page, **fields
        )
        await self.worker.portal_sessions.put(SESSION_ID, session)
        return session

    async def refusal(self, path, request=None, metadata=((SESSION_METADATA, SESSION_ID),)):
        """Why the call is refused, with the message; empty if it is answered."""
        invocation = Invocation("ipv4:127.0.0.1:4711", metadata)
        payload = (within(path) if request is None else request).SerializeToString()
        method = self.methods[path]
        try:
            if method.streams:
                async for _ in self.pipeline.stream(method, payload, invocation):
                    break
            else:
                await self.pipeline.unary(method, payload, invocation)
        except RefusedError as refused:
            return refused.status.reason, refused.status.message
        return "", ""

    async def answer(self, path, **fields):
        """The answer of a call within the session."""
        request = within(path)
        for name, value in fields.items():
            setattr(request, name, value)
        answer = await self.pipeline.unary(
            self.methods[path],
            request.SerializeToString(),
            Invocation("", ((SESSION_METADATA, SESSION_ID),)),
        )
        return answer_type(path).FromString(answer)

    async def reason(self, path, request=None, **options):
        return (await self.refusal(path, request, **options))[0]


@pytest.fixture
def portal(worker):
    return Portal(worker)


@pytest.mark.parametrize("page", PortalPage)
async def test_s20_a_page_reaches_its_methods_and_no_other(portal, page):
    answered = set()
    for path in PATHS:
        session = await portal.open(page)  # again, because some calls end it
        if await portal.reason(path) not in REFUSED:
            answered.add(path)
    assert answered == {path for path in PATHS if session.reaches(short(path))}
    assert {short(path) for path in answered} >= REACHES[page]


@pytest.mark.parametrize("page", PortalPage)
@pytest.mark.parametrize("lacking", ["web", "backend"])
async def test_s20_both_callers_need_a_rule_for_the_method(worker, page, lacking):
    for path in PATHS:
        others = [short(each) for each in PATHS if each != path]
        limited = {"rules": (rule(methods=others),)}
        portal = Portal(
            worker,
            web=replace(WEB, **limited) if lacking == "web" else WEB,
            opened_by=replace(BACKEND, **limited) if lacking == "backend" else BACKEND,
        )
        await portal.open(page)
        assert await portal.reason(path) == "CALLER_NOT_PERMITTED"


@pytest.mark.parametrize("page", PortalPage)
@pytest.mark.parametrize("lacking", ["web", "backend"])
async def test_s20_both_callers_need_a_rule_for_the_tenant(worker, page, lacking):
    limited = {"rules": (rule(tenants=["globex"]),)}
    portal = Portal(
        worker,
        web=replace(WEB, **limited) if lacking == "web" else WEB,
        opened_by=replace(BACKEND, **limited) if lacking == "backend" else BACKEND,
    )
    session = await portal.open(page)
    for path in PATHS:
        if session.reaches(short(path)):
            assert await portal.reason(path) == "CALLER_NOT_PERMITTED", path


@pytest.mark.parametrize("lacking", ["web", "backend"])
@pytest.mark.parametrize(
    ("page", "name"),
    [
        (PortalPage.POLICY, "UpdatePolicy"),
        (PortalPage.PEOPLE, "ListPeople"),
        (PortalPage.EVENTS, "ListAuditEvents"),
        (PortalPage.EVENTS, "ExportAuditEvents"),
        (PortalPage.POLICY, "GetPolicy"),
    ],
)
async def test_s16_s20_both_callers_may_assert_the_role(worker, lacking, page, name):
    limited = {"rules": (rule(claims=()),)}
    portal = Portal(
        worker,
        web=replace(WEB, **limited) if lacking == "web" else WEB,
        opened_by=replace(BACKEND, **limited) if lacking == "backend" else BACKEND,
    )
    await portal.open(page)
    assert await portal.reason(path_of(name)) == "CLAIM_NOT_PERMITTED"
    [event] = await worker.events()
    assert (event.kind, event.caller) == (EventKind.CLAIM_REFUSED, "web")
    assert event.details["claim"] == "master_administrator"
    assert event.details["portal"] == {"opened_by": CALLER, "page": page.value}


@pytest.mark.parametrize("path", PATHS)
async def test_s20_the_web_process_may_do_nothing_outside_a_session(portal, path):
    request = valid_request(path.rpartition("/")[2])
    if path.endswith("/RedeemPortalSession"):
        assert await portal.reason(path, request, metadata=()) not in REFUSED
    else:
        assert await portal.reason(path, request, metadata=()) == "CALLER_NOT_PERMITTED"


@pytest.mark.parametrize("path", PATHS)
async def test_s20_no_other_caller_may_use_a_session(worker, path):
    portal = Portal(worker, web=caller("console", rule()))
    await portal.open(PortalPage.ACCOUNT)
    assert await portal.reason(path) == "CALLER_NOT_PERMITTED"


async def test_the_caller_of_a_trial_may_call_within_a_session_and_outside(worker):
    anonymous = replace(WEB, is_portal=False, identities=frozenset())
    portal = Portal(worker, web=anonymous)
    await portal.open(PortalPage.ACCOUNT)
    path = path_of("GetEnrollment")
    assert await portal.reason(path) == ""
    assert await portal.reason(path, valid_request("GetEnrollment"), metadata=()) == ""
    # A trial bounds a call within a session as ever.
    assert await portal.reason(path_of("ForgetUser")) == "CALLER_NOT_PERMITTED"


async def test_s20_a_session_ends_with_its_opening_caller(worker):
    portal = Portal(worker, opened_by=caller("somebody-else", rule()))
    await portal.open(PortalPage.ACCOUNT)
    assert await portal.refusal(path_of("GetEnrollment")) == (
        "CALLER_NOT_PERMITTED",
        f"{CALLER}, which opened the portal session, is not a caller any more",
    )


async def test_s21_a_session_ends_with_the_origin_that_it_returns_to(worker):
    elsewhere = replace(BACKEND, return_origins=frozenset({WebOrigin("https://other.example")}))
    portal = Portal(worker, opened_by=elsewhere)
    await portal.open(PortalPage.ACCOUNT)
    assert await portal.reason(path_of("GetEnrollment")) == "PORTAL_SESSION"


@pytest.mark.parametrize(
    "actor",
    [
        on_wire(person("mallory")),
        actor_pb2.ActorContext(),
        actor_pb2.ActorContext(operator=actor_pb2.Operator(name="sam", reason="why")),
    ],
)
async def test_s20_a_request_within_a_session_names_no_actor(portal, actor):
    await portal.open(PortalPage.PEOPLE)
    for path in PATHS:
        request = within(path)
        if "actor" in request.DESCRIPTOR.fields_by_name:
            request.actor.CopyFrom(actor)
            expected = {"INVALID_FIELD", "CALLER_NOT_PERMITTED"}
            assert await portal.reason(path, request) in expected
    request = within(path_of("GetEnrollment"))
    request.actor.CopyFrom(actor)
    assert await portal.refusal(path_of("GetEnrollment"), request) == (
        "INVALID_FIELD",
        "actor must be absent within a portal session",
    )


@pytest.mark.parametrize(
    ("page", "name"),
    [
        (PortalPage.ENROLL, "GetPolicy"),
        (PortalPage.EVENTS, "ListAuditEvents"),
        (PortalPage.EVENTS, "ExportAuditEvents"),
    ],
)
async def test_s20_a_request_within_a_session_names_no_other_tenant(portal, page, name):
    await portal.open(page)
    request = within(path_of(name))
    for tenant, reason in (("acme", ""), ("globex", "INVALID_FIELD")):
        request.tenant_id = tenant
        assert await portal.reason(path_of(name), request) == reason


async def test_s20_the_person_is_that_of_the_session(portal):
    device = Device("192.0.2.7", "Browser")
    session = await portal.open(PortalPage.ENROLL, actor=person(client=device))
    assert await portal.reason(path_of("BeginEnrollment")) == ""
    async with portal.worker.database.snapshot(TenantId("acme")) as records:
        pending = await records.pending.find(
            session.actor.tenant_id, session.actor.user_id, session.actor.session_hash
        )
    assert pending is not None
    [event] = await portal.worker.events()
    assert (event.caller, event.actor_user_id) == ("web", "alice")
    assert event.details["portal"] == {"opened_by": CALLER, "page": "enroll"}
    assert event.client == device


async def test_s20_the_name_of_the_account_is_that_of_the_session(portal):
    path = path_of("BeginEnrollment")
    request = within(path)
    request.account_name = "mallory"
    await portal.open(PortalPage.ENROLL, actor=person(), account_name=Label("Alice A."))
    assert await portal.refusal(path, request) == (
        "INVALID_FIELD",
        "account_name must be absent within a portal session",
    )
    assert "Alice%20A." in (await portal.answer(path, account_name="")).otpauth_uri
    await portal.open(PortalPage.ENROLL, actor=person("bob"))
    assert "bob" in (await portal.answer(path, account_name="")).otpauth_uri


async def test_s20_nobody_deprovisions_within_a_session(portal):
    await portal.open(PortalPage.PEOPLE)
    request = within(path_of("ForgetUser"))
    request.deprovisioning = True
    assert await portal.refusal(path_of("ForgetUser"), request) == (
        "INVALID_FIELD",
        "deprovisioning must be absent within a portal session",
    )


async def test_s10_s20_a_stream_ends_with_its_session(portal):
    await portal.open(PortalPage.EVENTS)
    for name in ("alice", "bob", "carol"):
        await portal.worker.begin(person(name))
    path = path_of("ExportAuditEvents")
    invocation = Invocation("", ((SESSION_METADATA, SESSION_ID),))
    stream = portal.pipeline.stream(
        portal.methods[path], within(path).SerializeToString(), invocation
    )
    await anext(stream)
    await portal.worker.portal_sessions.remove(SESSION_ID)
    await anext(stream)  # within the same second
    portal.worker.clock.advance(seconds=1)
    with pytest.raises(RefusedError) as refused:
        await anext(stream)
    assert refused.value.status.reason == "PORTAL_SESSION"


async def test_a_stream_lasts_as_long_as_its_session_lives(portal):
    await portal.open(PortalPage.EVENTS)
    for name in ("alice", "bob", "carol"):
        await portal.worker.begin(person(name))
    path = path_of("ExportAuditEvents")
    invocation = Invocation("", ((SESSION_METADATA, SESSION_ID),))
    answers = 0
    async for _ in portal.pipeline.stream(
        portal.methods[path], within(path).SerializeToString(), invocation
    ):
        answers += 1
        portal.worker.clock.advance(seconds=1)
    assert answers == 3


async def test_in_a_trial_the_page_of_a_challenge_says_whether_its_session_is_the_same(worker):
    """Creating caller and web process are the same anonymous caller there."""
    portal = Portal(worker, web=replace(WEB, is_portal=False, identities=frozenset()))
    await worker.enrol(person())
    challenge_id = await worker.challenge(person(), caller=WEB.caller_id)
    for actor, same in ((person(), True), (person(session="tuesday"), False)):
        await portal.open(PortalPage.CHALLENGE, actor=actor, challenge_id=challenge_id)
        answer = await portal.answer(path_of("GetChallenge"), challenge_id=str(challenge_id))
        assert answer.challenge.HasField("same_session")
        assert answer.challenge.same_session is same


@pytest.mark.parametrize("name", sorted(path.partition("/")[2] for path in OF_READERS))
async def test_s20_readers_need_the_role_within_a_session(portal, name):
    page = next(each for each in PortalPage if {p for p in REACHES[each] if p.endswith(f"/{name}")})
    await portal.open(page, actor=person())
    assert await portal.reason(path_of(name)) == "ROLE_REQUIRED"


@pytest.mark.parametrize("name", ["Get", "Await", "Answer", "Decline"])
@pytest.mark.parametrize("other", ["00000000-0000-4000-8000-00000000ffff", "", "nonsense"])
async def test_s20_the_page_of_a_challenge_reaches_this_challenge_only(portal, name, other):
    await portal.open(PortalPage.CHALLENGE)
    path = path_of(f"{name}Challenge")
    request = within(path)
    request.challenge_id = other
    assert await portal.refusal(path, request) == (
        "INVALID_FIELD",
        "challenge_id must be the challenge of the portal session",
    )
    request.challenge_id = CHALLENGE_ID
    assert await portal.reason(path, request) == "CHALLENGE_STATE"


async def test_s20_the_page_of_a_challenge_has_a_wizard_only_without_an_authenticator(portal):
    await portal.worker.enrol(person())
    await portal.open(PortalPage.CHALLENGE, actor=person())
    for path in (path for path in PATHS if short(path) in OF_WIZARD):
        assert await portal.reason(path) == "CALLER_NOT_PERMITTED"
    assert await portal.reason(path_of("GetEnrollment")) == ""


async def test_s20_the_page_of_the_policy_reaches_the_counts_of_people_only(portal):
    await portal.open(PortalPage.POLICY)
    request = within(path_of("ListPeople"))
    request.counts_only = False
    assert await portal.refusal(path_of("ListPeople"), request) == (
        "INVALID_FIELD",
        "counts_only must be true on the page of the policy",
    )


@pytest.mark.parametrize(
    "metadata",
    [
        [""],
        ["x" * 129],
        [SESSION_ID, SESSION_ID],
        [b"binary"],
        ["another-id"],
    ],
)
async def test_s20_what_names_no_session_opens_nothing(portal, metadata):
    await portal.open(PortalPage.ACCOUNT)
    pairs = tuple((SESSION_METADATA, value) for value in metadata)
    reason, message = await portal.refusal(path_of("GetEnrollment"), metadata=pairs)
    assert reason == "PORTAL_SESSION"
    assert "another-id" not in message


@pytest.mark.parametrize(
    ("actor", "lifetime"),
    [(person(), LIFETIME), (administrator(), LIFETIME_WITH_ROLE)],
)
async def test_s20_use_extends_a_session_up_to_its_end(portal, actor, lifetime):
    await portal.open(PortalPage.ACCOUNT, actor=actor)
    path = path_of("GetEnrollment")
    for _ in range(int(lifetime / (IDLE_LIFETIME / 3)) - 1):
        portal.worker.clock.advance(seconds=(IDLE_LIFETIME / 3).total_seconds())
        assert await portal.reason(path) == ""
    portal.worker.clock.advance(seconds=(IDLE_LIFETIME / 3).total_seconds())
    assert await portal.reason(path) == "PORTAL_SESSION"


async def test_s11_a_finish_line_says_who_opened_the_session_and_has_no_id(portal):
    await portal.open(PortalPage.ACCOUNT)
    with capture_logs() as lines:
        assert await portal.reason(path_of("GetEnrollment")) == ""
    [line] = (line for line in lines if line["event"] == "call")
    assert (line["caller"], line["opened_by"], line["page"]) == ("web", CALLER, "account")
    assert SESSION_ID not in str(lines)


async def test_s20_the_finish_line_of_a_refused_call_says_who_opened_the_session(portal):
    await portal.open(PortalPage.STEP_UP)
    with capture_logs() as lines:
        assert await portal.reason(path_of("ForgetUser")) == "CALLER_NOT_PERMITTED"
    [line] = (line for line in lines if line["event"] == "call")
    assert (line["caller"], line["opened_by"], line["page"]) == ("web", CALLER, "step_up")
    assert SESSION_ID not in str(lines)


async def test_s11_no_repr_shows_the_id_of_a_session(portal):
    session = await portal.open(PortalPage.ACCOUNT)
    assert SESSION_ID not in repr(InPortal(SESSION_ID, session, WEB, session.created_at))
