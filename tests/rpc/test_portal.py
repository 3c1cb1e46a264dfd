"""`PortalService` over the wire: fields, rules, and the session that the web process gets (S20)."""

from contextlib import asynccontextmanager
from dataclasses import replace

import grpc
import pytest
from stepup_tests.people import CALLER, WEB, administrator, person
from stepup_tests.portal import RETURN_URL
from stepup_tests.requests import CHALLENGE_ID
from stepup_tests.wire import Client, on_wire, refusal_of, served

from stepup.domain.callers import Caller, Callers, Claim, Patterns, Rule
from stepup.domain.origins import WebOrigin
from stepup.domain.portal import INDISPENSABLE, OF_ALL_PAGES, PortalPage
from stepup.domain.text import Title
from stepup.rpc.pipeline.call import AdmittedCaller
from stepup.v1 import actor_pb2
from stepup.v1 import portal_service_pb2 as pb

ALICE, ROOT = person(), administrator()
EVERYTHING = Patterns(["*"])
CREATE = "PortalService/CreatePortalSession"


def rule(*methods, tenants=("*",), claims=frozenset(Claim)):
    return Rule("rule", Patterns(methods), Patterns(tenants), EVERYTHING, frozenset(claims))


CONSOLE = Caller(
    CALLER,
    frozenset({"spiffe://acme/console"}),
    (rule("*"),),
    title=Title("The console"),
    return_origins=frozenset({WebOrigin("https://console.example")}),
)
PROCESS = Caller(WEB, frozenset({"spiffe://acme/web"}), (rule("*"),), is_portal=True)


@asynccontextmanager
async def calling_as(worker, caller):
    """A client of the portal's service, for a caller of its own."""

    async def admit(_invocation):
        return AdmittedCaller(caller, tuple(caller.identities))

    find_caller = Callers([CONSOLE, PROCESS]).named
    async with served(worker, admit, find_caller=find_caller) as server:
        client = Client(server.target)
        yield client.portal
        await client.close()


def creation(page=pb.PORTAL_PAGE_ACCOUNT, actor=ALICE, **fields):
    fields = {"return_url": RETURN_URL} | fields
    return pb.CreatePortalSessionRequest(actor=on_wire(actor), page=page, **fields)


@pytest.fixture
async def console(worker):
    async with calling_as(worker, CONSOLE) as portal:
        yield portal


@pytest.fixture
async def web(worker):
    async with calling_as(worker, PROCESS) as portal:
        yield portal


def within(session_id):
    return [("stepup-portal-session", session_id)]


async def opened(console, web, **fields):
    url = (await console.CreatePortalSession(creation(**fields))).url
    token = url.removeprefix("https://mfa.example/open/")
    return await web.RedeemPortalSession(pb.RedeemPortalSessionRequest(token=token))


async def test_a_page_opens_by_one_call_and_shows_the_person_and_the_backend(console, web, clock):
    answer = await opened(
        console,
        web,
        page=pb.PORTAL_PAGE_CHALLENGE,
        challenge_id=CHALLENGE_ID,
        locale="de-CH",
        time_zone="Europe/Zurich",
        account_name="Alice",
        actor=replace(ROOT, user_id=ALICE.user_id),
    )
    session = answer.session
    expected = pb.PortalSession(
        page=pb.PORTAL_PAGE_CHALLENGE,
        challenge_id=CHALLENGE_ID,
        return_url=RETURN_URL,
        locale="de-CH",
        time_zone="Europe/Zurich",
        account_name="Alice",
        tenant_name="stepup",
        user_id="alice",
        account_type=actor_pb2.ACCOUNT_TYPE_LOCAL,
        role=actor_pb2.ROLE_MASTER_ADMINISTRATOR,
        opened_by="The console",
        expires_at=session.expires_at,
    )
    assert session == expected
    assert session.expires_at.seconds == int(clock.now().timestamp()) + 15 * 60
    again = await web.GetPortalSession(
        pb.GetPortalSessionRequest(), metadata=within(answer.session_id)
    )
    assert again.session == session


async def test_what_a_backend_leaves_out_is_absent_or_a_default(console, web):
    session = (await opened(console, web)).session
    assert (session.account_name, session.challenge_id) == ("alice", "")
    assert (session.locale, session.time_zone) == ("", "")


async def test_the_issuer_of_the_policy_names_the_tenant(worker, console, web):
    await worker.wizard(ROOT)
    await worker.update_policy(ROOT, issuer="Acme Inc.")
    assert (await opened(console, web)).session.tenant_name == "Acme Inc."


async def test_s20_a_session_that_was_left_has_ended(console, web):
    metadata = within((await opened(console, web)).session_id)
    await web.EndPortalSession(pb.EndPortalSessionRequest(), metadata=metadata)
    for call in (
        web.GetPortalSession(pb.GetPortalSessionRequest(), metadata=metadata),
        web.EndPortalSession(pb.EndPortalSessionRequest(), metadata=metadata),
    ):
        refusal = await refusal_of(call)
        assert refusal.code is grpc.StatusCode.UNAUTHENTICATED
        assert refusal.reason == "PORTAL_SESSION"


async def test_s20_outside_a_session_a_backend_reads_and_ends_none(console):
    for call in (
        console.GetPortalSession(pb.GetPortalSessionRequest()),
        console.EndPortalSession(pb.EndPortalSessionRequest()),
    ):
        assert (await refusal_of(call)).reason == "PORTAL_SESSION"


@pytest.mark.parametrize("token", ["t" * 43, "ttt", "\N{CAT FACE}", "t" * 100_000])
async def test_s20_an_unknown_token_has_the_answer_of_a_used_one(web, token):
    refusal = await refusal_of(web.RedeemPortalSession(pb.RedeemPortalSessionRequest(token=token)))
    assert refusal.code is grpc.StatusCode.UNAUTHENTICATED
    assert refusal.reason == "PORTAL_SESSION"
    assert token not in refusal.message


async def test_s15_a_web_process_without_a_rule_for_the_tenant_opens_no_link(worker, console):
    token = (await console.CreatePortalSession(creation())).url.rpartition("/")[2]
    elsewhere = replace(PROCESS, rules=(rule("*", tenants=["globex"]),))
    async with calling_as(worker, elsewhere) as web:
        call = web.RedeemPortalSession(pb.RedeemPortalSessionRequest(token=token))
        assert (await refusal_of(call)).reason == "CALLER_NOT_PERMITTED"


async def test_the_browser_has_a_device_of_its_own(worker, console, web):
    url = (await console.CreatePortalSession(creation())).url
    client = actor_pb2.Client(address="192.0.2.7", user_agent="Firefox")
    token = url.rpartition("/")[2]
    await web.RedeemPortalSession(pb.RedeemPortalSessionRequest(token=token, client=client))
    [_, event] = await worker.events()
    assert (event.client.address, event.client.user_agent) == ("192.0.2.7", "Firefox")


@pytest.mark.parametrize("page", PortalPage)
async def test_s20_a_backend_opens_only_pages_that_its_own_rules_let_work(worker, page):
    needed = (*INDISPENSABLE[page], *OF_ALL_PAGES)
    fields = {"challenge_id": CHALLENGE_ID} if page is PortalPage.CHALLENGE else {}
    request = creation(pb.PortalPage.Value(f"PORTAL_PAGE_{page.name}"), ROOT, **fields)
    refused = {}
    for lacking in (None, *needed):
        rules = (rule(CREATE), *(rule(method) for method in needed if method != lacking))
        async with calling_as(worker, replace(CONSOLE, rules=rules)) as console:
            try:
                await console.CreatePortalSession(request)
            except grpc.aio.AioRpcError as error:
                refused[lacking] = error.details()
    assert set(refused) == set(needed)
    assert all(lacking in message for lacking, message in refused.items())


async def test_s16_a_backend_asserts_no_role_for_a_page_that_it_may_not_assert_there(worker):
    rules = (rule(CREATE), rule("*", claims=()))
    async with calling_as(worker, replace(CONSOLE, rules=rules)) as console:
        assert await console.CreatePortalSession(creation())
        refusal = await refusal_of(console.CreatePortalSession(creation(actor=ROOT)))
        assert refusal.reason == "CALLER_NOT_PERMITTED"
        assert "master_administrator" in refusal.message


async def test_s20_a_page_for_administrators_needs_the_role(console):
    for page in (pb.PORTAL_PAGE_POLICY, pb.PORTAL_PAGE_PEOPLE, pb.PORTAL_PAGE_EVENTS):
        refusal = await refusal_of(console.CreatePortalSession(creation(page)))
        assert refusal.reason == "ROLE_REQUIRED"


NASTY_URLS = [
    "",
    "/settings",
    "//console.example/",
    "https://other.example/",
    "https://console.example.other.example/",
    "https://otherconsole.example/",
    "https://console.example:8443/",
    "http://console.example/",
    "https://console.example@other.example/",
    "https://other.example\\@console.example/",
    "https://other.example/https://console.example/",
    "https://other.example#https://console.example/",
    "https://console.example./",
    "https://console.example\\.other.example/",
    "https:console.example/",
    "https:///console.example/",
    "HTTPS://CONSOLE.EXAMPLE/",
    "https://console.example%2eother.example/",
    "https://console.example\t/",
    "https://console.example/\r\nLocation: https://other.example/",
    "https://cons\u00adole.example/",
    "https://console.example/\u202e",
    "https://console\u3002example/",
    "javascript:alert(1)",
    "javascript://console.example/%0aalert(1)",
    "data:text/html,<script>alert(1)</script>",
    "file:///etc/passwd",
    "https://console.example/" + "a" * 2048,
]


@pytest.mark.parametrize("url", NASTY_URLS)
async def test_s21_a_page_sends_people_only_to_the_origins_of_its_backend(console, url):
    refusal = await refusal_of(console.CreatePortalSession(creation(return_url=url)))
    assert (refusal.reason, refusal.fields) == ("INVALID_FIELD", ["return_url"])


async def test_s21_the_origins_of_one_backend_are_not_those_of_another(worker):
    elsewhere = replace(CONSOLE, return_origins=frozenset({WebOrigin("https://other.example")}))
    async with calling_as(worker, elsewhere) as other:
        refusal = await refusal_of(other.CreatePortalSession(creation()))
        assert refusal.fields == ["return_url"]


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"page": 0}, "page"),
        ({"page": 99}, "page"),
        ({"page": pb.PORTAL_PAGE_CHALLENGE}, "challenge_id"),
        ({"page": pb.PORTAL_PAGE_CHALLENGE, "challenge_id": "4711"}, "challenge_id"),
        ({"challenge_id": CHALLENGE_ID}, "challenge_id"),
        ({"locale": "de_CH"}, "locale"),
        ({"locale": "de-" + "a" * 33}, "locale"),
        ({"locale": "../de"}, "locale"),
        ({"time_zone": "Europe/../../etc/passwd"}, "time_zone"),
        ({"time_zone": "/Europe/Zurich"}, "time_zone"),
        ({"time_zone": "E" * 65}, "time_zone"),
        ({"account_name": "a:b"}, "account_name"),
        ({"account_name": "a\u202eb"}, "account_name"),
    ],
)
async def test_a_field_that_does_not_do_is_named(console, fields, field):
    refusal = await refusal_of(console.CreatePortalSession(creation(**fields)))
    assert (refusal.reason, refusal.fields) == ("INVALID_FIELD", [field])


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("team", actor_pb2.TEAM_MANAGED_SERVICES_OPERATIONS),
        (
            "playbook_run",
            actor_pb2.PlaybookRun(
                playbook_id="p", run_id="r", trigger=actor_pb2.PLAYBOOK_TRIGGER_MANUAL
            ),
        ),
        ("retry_receipt", "receipt"),
        ("challenge_id", CHALLENGE_ID),
        ("operator", actor_pb2.Operator(name="sam", reason="ticket")),
    ],
)
async def test_s16_the_actor_of_a_page_has_nothing_that_exempts_an_action(console, field, value):
    request = creation()
    request.actor.MergeFrom(actor_pb2.ActorContext(**{field: value}))
    refusal = await refusal_of(console.CreatePortalSession(request))
    assert (refusal.reason, refusal.fields) == ("INVALID_FIELD", [f"actor.{field}"])


async def test_a_deployment_without_a_portal_says_so(world):
    worker = await world.worker(portal=None)
    async with calling_as(worker, CONSOLE) as console:
        refusal = await refusal_of(console.CreatePortalSession(creation()))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "NO_PORTAL")


async def test_a_token_is_required(web):
    refusal = await refusal_of(web.RedeemPortalSession(pb.RedeemPortalSessionRequest()))
    assert refusal.fields == ["token"]
