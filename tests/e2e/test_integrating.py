"""The programs of the pages on integrating, on guards and on testing run as they are printed."""

import json
import re
import threading
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from inspect import signature
from types import SimpleNamespace

import grpc
import httpx
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool
from stepup_tests.e2e.people import OSQUERY, SHELL
from stepup_tests.e2e.processes import eventually
from stepup_tests.e2e.readme import blocks, section
from stepup_tests.otp import code_at
from stepup_tests.places import ROOT

from stepup.client import ActorContext, NotAllowedError, NotVerified, environment
from stepup.client.testing import FakeStepUp
from stepup.client.testing.fixtures import stepup_server

__all__ = ["stepup_server"]

pytestmark = pytest.mark.e2e

FILES = "response.collect_file"
TESTED = {
    "integrating.md": [
        "Five lines",
        "The actor",
        "Sign-in and sign-out",
        "The prompt",
        "The wizard",
        "Account settings",
        "The policy panel",
        "People",
        "Playbooks",
        "Challenges",
        "Guards",
        "Testing",
    ],
    "guards.md": ["gRPC", "Flask and Django", "ASGI"],
    "api-behaviour.md": [],
    "challenges.md": [],
    "enrollment.md": [],
}
"""The sections with programs, each of which a test below runs; docs/testing.md is one section."""


def text_of(page):
    return (ROOT / "docs" / page).read_text()


@pytest.fixture
def tenant(stepup_server, monkeypatch):
    """A tenant with a policy, on the server that `from_env` finds."""
    tenant = f"tenant-{uuid.uuid4().hex}"
    stepup_server.select(tenant, [OSQUERY, SHELL], every_time=[FILES])
    monkeypatch.setenv("STEPUP_CLIENT_TARGET", stepup_server.target)
    return tenant


@pytest.fixture
def actor(tenant):
    """Bob, as the first program of the guide has him."""
    return ActorContext(tenant_id=tenant, user_id="bob", session_id="bob-monday")


@pytest.fixture
def bob(stepup_server, actor):
    """Bob's authenticator."""
    return stepup_server.enrol(actor)


@pytest.fixture
def run(stepup_server, tenant, actor) -> Callable:
    """Runs the programs of a section, and returns their names."""

    def run(title, page="integrating.md", **names):
        assert title in TESTED[page]
        names = {"stepup": stepup_server.stepup, "actor": actor, **names}
        for program in blocks(section(text_of(page), title), "python"):
            exec(program.replace('"acme"', repr(tenant)), names)  # noqa: S102  # our own page
        return SimpleNamespace(**names)

    return run


def later(actor, **changes):
    """The person in another session."""
    changed = ActorContext(session_id=uuid.uuid4().hex, **changes)
    return ActorContext.FromString(actor.SerializeToString() + changed.SerializeToString())


def unlike(code):
    """A wrong code."""
    return f"{(int(code) + 1) % 10**6:06}"


@pytest.mark.parametrize("page", TESTED)
def test_every_program_has_a_test(page):
    titles = re.findall(r"^## (.+)$", text_of(page), re.MULTILINE)
    assert [each for each in titles if blocks(section(text_of(page), each), "python")] == (
        TESTED[page]
    )


def test_the_readme_has_the_five_lines_of_the_guide():
    five_lines, *_ = blocks(text_of("integrating.md"), "python")
    assert blocks((ROOT / "README.md").read_text(), "python") == [five_lines]


def test_the_guide_has_the_variables_of_the_client():
    rows = re.findall(r"^\| `STEPUP_CLIENT_.*$", environment.__doc__, re.MULTILINE)
    assert rows
    assert rows == re.findall(r"^\| `STEPUP_CLIENT_.*$", text_of("integrating.md"), re.MULTILINE)


def test_five_lines(stepup_server, run, bob):
    runs = []
    with pytest.raises(NotAllowedError):
        run("Five lines", run_osquery=runs.append)
    assert runs == []
    stepup_server.stepup.verify(bob.actor, bob.code())
    program = run("Five lines", run_osquery=runs.append)
    assert runs == ["host-7"]
    assert program.next_screen(bob.actor, OSQUERY) == "run the action"
    assert program.next_screen(bob.actor, FILES, "host-7") == "challenge"
    assert program.next_screen(later(bob.actor), OSQUERY) == "prompt"
    assert program.next_screen(later(bob.actor, user_id="carol"), OSQUERY) == "wizard"
    program.stepup.close()


def test_ids_and_the_device(stepup_server, run, actor):
    program = run("The actor")
    assert actor.client.address
    actor.user_id = program.stepup_id("Zoë " * 100)
    stepup_server.stepup.check(actor, OSQUERY)


def test_sign_in_and_sign_out(stepup_server, run, bob):
    program = run("Sign-in and sign-out")
    assert program.after_password(bob.actor) == "prompt"
    stepup_server.stepup.verify(bob.actor, bob.code())
    assert program.after_password(bob.actor) == "signed in"
    program.after_sign_out(bob.actor)
    assert program.after_password(bob.actor) == "prompt"
    assert program.after_password(later(bob.actor, user_id="carol")) == "wizard"


def test_what_the_prompt_says(run, bob):
    say = run("The prompt").message_after
    assert say(later(bob.actor, user_id="carol"), "123456") == "You have no authenticator."
    code = bob.code()
    wrong = unlike(code)
    assert say(bob.actor, wrong) == "This code is not right. Attempts left: 4."
    assert say(bob.actor, f"{code[:3]} {code[3:]}") is None
    assert "This code was used or is too old." in say(bob.actor, code)
    assert say(bob.actor, "12345") == "A code has six digits."
    said = [say(bob.actor, wrong) for _ in range(6)]
    assert said[3] == "This code is not right. Attempts left: 1."
    assert said[4:] == 2 * ["Too many wrong codes. Try again in 15 minutes."]


def test_what_the_prompt_says_of_what_takes_long(run, actor):
    def says(answer):
        stepup = SimpleNamespace(verify=lambda *_: NotVerified(outcome=answer))
        return run("The prompt", stepup=stepup).message_after(actor, "123456")

    assert "Sign in again" in says("SESSION_SPENT")
    assert "reset code" in says("SUSPENDED")
    with FakeStepUp() as fake, fake.failing(), fake.client(timeout=0.2) as stepup:
        assert "next code" in run("The prompt", stepup=stepup).message_after(actor, "123456")


def test_the_wizard_and_the_settings_of_the_account(run, actor):
    wizard, account = run("The wizard"), run("Account settings")
    picture, secret = wizard.first_screen(actor, "bob@example.com")
    assert picture.startswith("<svg")
    assert wizard.second_screen(actor, "000000") == ""
    now = datetime.now(UTC)
    codes = [code_at(secret, now, steps=step) for step in (0, 1)]
    reset_code = next(filter(None, (wizard.second_screen(actor, code) for code in codes)))
    assert len(reset_code) == 34
    assert not account.settings(actor)["has_authenticator"]
    wizard.last_screen(actor)
    assert account.settings(actor) == {
        "has_authenticator": True,
        "has_reset_code": True,
        "code_at_sign_in": True,
    }
    assert account.remove(later(actor)) == "VERIFY_OTP"
    assert account.remove(actor) is None
    assert not account.settings(actor)["has_authenticator"]


def test_the_policy_panel_and_people(stepup_server, run, bob):
    panel, people = run("The policy panel"), run("People")
    assert OSQUERY in panel.catalogue()["Response actions"]
    administrator = stepup_server.enrol(panel.ada)
    stepup_server.stepup.verify(panel.ada, administrator.code())
    assert [each.operation for each in panel.turn_on(panel.ada, [OSQUERY]).operations] == [OSQUERY]
    assert [each.user_id for each in people.everybody(panel.ada)] == ["ada", "bob"]
    wrong = unlike(bob.code())
    for _ in range(5):
        stepup_server.stepup.verify(bob.actor, wrong)
    locked = people.people.PERSON_STATE_LOCKED
    assert [each.user_id for each in people.everybody(panel.ada, locked)] == ["bob"]
    assert people.unlock(panel.ada, "bob", "ticket 4711") == 2


def test_playbooks(stepup_server, run, tenant, bob):
    program, stepup = run("Playbooks"), stepup_server.stepup
    automatic = program.automatic_run(tenant, "contain-host")
    assert stepup.check(automatic, OSQUERY).reason == "EXEMPT_AUTOMATIC_PLAYBOOK"
    runs = []

    def runs_at_the_third_try(host):
        runs.append(host)
        stepup.sign_out(bob.actor)
        if len(runs) < 3:
            raise TimeoutError
        return f"ran on {host}"

    stepup.verify(bob.actor, bob.code())
    tried = program.run_with_retries(bob.actor, OSQUERY, "host-7", runs_at_the_third_try)
    assert tried == "ran on host-7"
    assert set(program.allowed_hosts(automatic, OSQUERY, ["a", "b"])) == {"a", "b"}
    assert program.allowed_hosts(bob.actor, OSQUERY, ["a", "b"]) == {}


def test_an_agent_and_a_console(run, bob):
    console, runs, ends = run("Challenges"), [], []
    tuesday = later(bob.actor)

    def agent():
        ends.append(console.run_on_all(bob.actor, ["host-1", "host-2"], runs.append))

    def ask():
        thread = threading.Thread(target=agent, daemon=True)
        thread.start()
        [asked] = eventually(lambda: console.waiting_for(tuesday), "the agent has asked")
        assert [item.label for item in asked.items] == ["host-1", "host-2"]
        return thread, asked.challenge_id

    thread, challenge_id = ask()
    code = bob.code()
    assert not console.approve(tuesday, challenge_id, unlike(code))
    spaced = f"{code[:3]} {code[3:]}"
    assert console.approve(tuesday, challenge_id, spaced)
    thread.join()
    assert (ends, runs) == (["APPROVED"], ["host-1", "host-2"])

    thread, challenge_id = ask()
    console.decline(tuesday, challenge_id)
    thread.join()
    assert (ends, len(runs)) == (["APPROVED", "DECLINED"], 2)


async def test_the_guard_of_fastapi_answers_what_the_page_says(stepup_server, run, bob):
    program = run("Guards")
    program.sessions["cookie-of-bob"] = bob.actor
    transport = httpx.ASGITransport(program.app)
    async with program.stepup, httpx.AsyncClient(transport=transport, base_url="http://x") as page:
        assert (await page.post("/hosts/host-7/shell")).json() == {"detail": "Sign in."}
        page.cookies["session"] = "cookie-of-bob"
        refused = await page.post("/hosts/host-7/shell")
        [shown] = blocks(text_of("guards.md"), "http")
        head, _, body = shown.partition("\n\n")
        status, *headers = head.splitlines()
        assert status == f"HTTP/1.1 {refused.status_code} {refused.reason_phrase}"
        assert headers == [
            f"{name}: {refused.headers[name]}"
            for name in ("content-type", "cache-control", "www-authenticate")
        ]
        # Bob has enrolled in another session a moment ago.
        example = {"decision_id": "...", "cause": "NEVER"}
        assert json.loads(body) == {**refused.json(), **example}
        stepup_server.stepup.verify(bob.actor, bob.code())
        assert (await page.post("/hosts/host-7/shell")).json() == "a shell on host-7"


def hosts_pb2():
    """What protoc makes of a service with the methods of the page."""
    proto = descriptor_pb2.FileDescriptorProto(name="hosts.proto", package="acme.v1")
    proto.message_type.add(name="Host")
    service = proto.service.add(name="Hosts")
    for name in ("StartShell", "List"):
        service.method.add(name=name, input_type=".acme.v1.Host", output_type=".acme.v1.Host")
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(proto.SerializeToString())
    return SimpleNamespace(DESCRIPTOR=pool.FindFileByName("hosts.proto"))


class Hosts(grpc.GenericRpcHandler):
    def service(self, _details):
        return grpc.unary_unary_rpc_method_handler(
            lambda request, _context: request.host.encode(),
            lambda octets: SimpleNamespace(host=octets.decode()),
        )


def test_the_guard_of_grpc(stepup_server, run, bob):
    program = run("gRPC", "guards.md", hosts_pb2=hosts_pb2(), actor_of=lambda _context: bob.actor)
    program.server.add_generic_rpc_handlers([Hosts()])
    port = program.server.add_insecure_port("127.0.0.1:0")
    program.server.start()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        start_shell = channel.unary_unary("/acme.v1.Hosts/StartShell")
        with pytest.raises(grpc.RpcError) as refused:
            start_shell(b"host-7")
        assert refused.value.code() is grpc.StatusCode.FAILED_PRECONDITION
        stepup_server.stepup.verify(bob.actor, bob.code())
        assert start_shell(b"host-7") == b"host-7"
    program.server.stop(0).wait()


def test_the_guard_of_flask(stepup_server, run, bob):
    program = run("Flask and Django", "guards.md", actor_of=lambda _request: bob.actor)
    page = program.app.test_client()
    assert page.post("/hosts/host-7/shell").status_code == 401
    stepup_server.stepup.verify(bob.actor, bob.code())
    assert page.post("/hosts/host-7/shell").text == "a shell on host-7"


async def test_the_guard_of_asgi(stepup_server, run, bob):
    async with stepup_server.async_client() as stepup:
        program = run("ASGI", "guards.md", stepup=stepup, actor_of=lambda _scope: bob.actor)
        transport = httpx.ASGITransport(program.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://x") as page:
            assert (await page.post("/hosts/host-7/shell")).status_code == 401
            stepup_server.stepup.verify(bob.actor, bob.code())
            assert (await page.post("/hosts/host-7/shell")).text == "a shell on host-7"


def test_the_fake_of_the_guide(run, capsys):
    run("Testing").client.close()
    refused, allowed = capsys.readouterr().out.splitlines()
    assert refused.startswith("StepUpRequired(")
    assert allowed.startswith("Allowed(")


def test_the_tests_of_the_page_on_testing(stepup_server):
    names, tenant = {}, f"tenant-{uuid.uuid4().hex}"
    for program in blocks(text_of("testing.md"), "python"):
        exec(program.replace('"acme"', repr(tenant)), names)  # noqa: S102  # our own page
    tests = {name: each for name, each in names.items() if name.startswith("test_")}
    assert tests
    for test in tests.values():
        if "stepup_server" in signature(test).parameters:
            test(stepup_server)
        else:
            with FakeStepUp() as fake:
                test(fake)
