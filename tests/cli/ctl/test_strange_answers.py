"""Answers that no server of this version sends: of a later version, or of another program."""

from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from typer.testing import CliRunner

from stepup.cli.main import app
from stepup.client.messages import audit, people, policy, step_up

FAR = Timestamp(seconds=2**62)
OF_BOB = ("people", "show", "bob")
CHECK = ("check", "--user", "bob", "--operation", "response.run_osquery")


@pytest.fixture
def answered():
    """Runs `stepup ctl` against a server that answers each method with a message."""

    made = {}

    class Answering(grpc.GenericRpcHandler):
        def service(self, details):
            answer = made.get(details.method.rpartition("/")[2])
            content = answer.SerializeToString() if answer else b""
            return grpc.unary_unary_rpc_method_handler(lambda *_: content)

    def run(*arguments, **answers):
        made.update(answers)
        record = ("--tenant", "acme", "--operator", "sam", "--reason", "why")
        connection = ("--address", f"127.0.0.1:{port}", "--insecure")
        return CliRunner().invoke(app, ["ctl", *arguments, *connection, *record])

    server = grpc.server(ThreadPoolExecutor(1), handlers=[Answering()])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield run
    server.stop(None).wait()


def _explained():
    rule = step_up.ExplainedRule(reason=97, matched=True)
    explained = step_up.ExplainStepUpResponse(decision=99, reason=98, rules=[rule])
    explained.detail, explained.challenge_rejection = 96, 95
    return explained


def test_a_check_shows_the_numbers_of_values_that_it_does_not_know(answered):
    result = answered(*CHECK, ExplainStepUp=_explained())
    assert result.exit_code == 1, result.output
    assert result.stdout.startswith("99: 98\ndetail: 96\nchallenge_rejection: 95\n")
    assert answered(*CHECK, "--json", ExplainStepUp=_explained()).exit_code == 1


def _event(**details):
    event = audit.AuditEvent()
    event.details.update(details)
    return audit.ListAuditEventsResponse(events=[event])


@pytest.mark.parametrize(
    ("command", "answers"),
    [
        (OF_BOB, {"GetPerson": people.GetPersonResponse(person={"first_asked_at": FAR})}),
        (
            (*OF_BOB, "--json"),
            {"GetPerson": people.GetPersonResponse(person={"first_asked_at": FAR})},
        ),
        (("audit", "list"), {"ListAuditEvents": _event(operator="sam")}),
        (("audit", "list"), {"ListAuditEvents": _event(operator={"name": "sam"})}),
        (("policy", "show"), {"GetPolicy": policy.GetPolicyResponse()}),
        (
            ("policy", "enable", "--yes"),
            {"GetPolicy": policy.GetPolicyResponse(policy={"operations": [{"operation": "?"}]})},
        ),
    ],
)
def test_an_answer_that_cannot_be_read_is_exit_code_2(answered, command, answers):
    result = answered(*command, **answers)
    assert (result.exit_code, "the answer of the server cannot be read" in result.stderr) == (
        2,
        True,
    ), result.output


def test_an_argument_that_is_not_text_is_exit_code_2(answered):
    result = answered("people", "show", "\udcff")
    assert (result.exit_code, "is not text in UTF-8" in result.stderr) == (2, True), result.output
