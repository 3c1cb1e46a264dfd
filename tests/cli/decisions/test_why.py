"""`stepup decisions why`: the story of a prompt."""

import json
from uuid import UUID

import pytest
from typer.testing import CliRunner

from stepup.cli.decisions.reasons import sentences_of
from stepup.cli.main import app
from stepup.domain.decision import Reason
from stepup.domain.item_use import ChallengeRejection
from stepup.domain.not_elevated import NotElevatedDetail
from stepup.domain.receipts import ReceiptRejection

PROMPT = {"decision": "step_up_required", "reason": "not_elevated"}
AT = ("--user", "alice", "--at", "2026-03-01T10:05")


def why(*arguments, **settings):
    return CliRunner().invoke(app, ["decisions", "why", *arguments], **settings)


def story(*arguments, status=0):
    ran = why(*arguments, "--json")
    assert ran.exit_code == status, ran.output
    return json.loads(ran.stdout)


def event(minutes, kind, **fields):
    details = {"session": "b3f966ca7f2cdba9916be8129110bfd8", **fields.pop("details", {})}
    return {
        "tenant_id": "acme",
        "sequence": minutes,
        "event_id": str(UUID(int=minutes)),
        "occurred_at": f"2026-03-01T10:{minutes:02}:30.000000+00:00",
        "kind": kind,
        "caller": "console",
        "actor_user_id": "alice",
        "subject_user_id": "alice",
        "details": details,
        **fields,
    }


@pytest.fixture
def expired(line, log):
    """The log of a person whose elevation of 09:48 had ended at 10:05."""
    elevated_at = "2026-03-01T09:48:00.000000+00:00"
    return log(
        line(1, elevated_at=elevated_at),
        line(4.9, user_id="bob", **PROMPT),
        line(5.2, session="another", elevated_at="2026-03-01T10:00:00+00:00"),
        line(5.5, detail="expired", of_a_newer_server=[1], **PROMPT),
        line(6, elevated_at="2026-03-01T10:05:50.000000+00:00"),
    )


def test_a_prompt_within_the_minute_is_explained_by_the_end_of_the_elevation(expired):
    told = story(*AT, expired)
    assert told["decision"]["decided_at"] == "2026-03-01T10:05:30.000000+00:00"
    assert told["decision"]["of_a_newer_server"] == [1]
    assert told["because"] == [
        "The person must give a code in this session.",
        (
            "The elevation by the code of 2026-03-01T09:48:00Z ended at 2026-03-01T10:03:00Z:"
            " it lasts 15 minutes, and its use does not lengthen it."
        ),
    ]
    assert [each["reason"] for each in told["before"] + told["after"]] == ["elevated"] * 2
    assert told["commands"][0] == (
        "stepup ctl audit list --tenant acme --user alice --since 2026-03-01T09:35:30Z"
        " --until 2026-03-01T10:10:30Z"
    )


def test_without_a_decision_in_the_minute_the_nearest_one_counts_and_its_distance_is_said(expired):
    nearest = story("--user", "alice", "--at", "2026-03-01T10:03:59", expired, status=1)
    assert nearest["decision"]["decided_at"] == "2026-03-01T10:05:12.000000+00:00"
    assert nearest["seconds_from_minute"] == 72
    first = story("--user", "alice", "--at", "2026-03-01T09:00", expired, status=1)
    assert first["decision"]["decided_at"] == "2026-03-01T10:01:00.000000+00:00"
    told = why("--user", "alice", "--at", "2026-04-05T10:05", expired)
    assert told.exit_code == 1
    assert told.stdout.startswith(
        "The minute that begins at 2026-04-05T10:05:00Z has no decision."
        " The nearest one is 34 days earlier:\n2026-03-01T10:"
    )
    assert told.stderr == "--at 2026-04-05T10:05:00Z\n"
    far = why("--user", "alice", "--at", "0001-01-01T00:00Z", expired)
    assert (far.exit_code, far.stderr) == (1, "")


def test_a_suggested_command_takes_no_option_from_an_id(line, log):
    asked = ("--user=--address=evil.example", "--at", "2026-03-01T10:00")
    commands = story(*asked, log(line(user_id="--address=evil.example")))["commands"]
    assert "stepup ctl people show --tenant acme -- --address=evil.example" in commands


def test_an_event_that_is_none_is_left_out(line, log):
    strange = event(2, "otp_verified", occurred_at="0001-01-01T00:00:00+14:00")
    audit = log(strange, "[" * 40_000, event(4, "otp_verified"), name="audit.jsonl")
    found = story(*AT, log(line(5)), "--audit", audit)
    assert [each["sequence"] for each in found["events"]] == [4]


def test_people_read_who_asked_what_and_why(expired):
    lines = why(*AT, expired).stdout.splitlines()
    assert lines[0] == "2026-03-01T10:05:30Z  step_up_required: not_elevated"
    assert "person        alice of acme, local account" in lines
    assert "operation     response.run_osquery on host-7" in lines
    assert "caller        response-actions (spiffe://acme/ns/prod/sa/response-actions)" in lines
    assert "Before, in this session" in lines


def test_audit_events_show_the_code_the_end_and_the_policy(line, log):
    policy = {"enabled": True, "etag": "8d6ad3f2c1b0", "operations": {"response.run_osquery": 300}}
    by_operator = {"actor_user_id": None, "subject_user_id": None}
    audit = log(
        event(1, "policy_changed_by_operator", **by_operator,
              details={"after": policy, "operator": {"name": "sam", "reason": "x"}}),
        event(2, "AUDIT_EVENT_KIND_OTP_VERIFIED"),
        event(3, "elevations_revoked", details={"scope": "session"}),
        event(3, "otp_rejected", actor_user_id="bob", subject_user_id="bob"),
        event(3, "otp_rejected", tenant_id="other"),
        "torn",
        name="audit.jsonl",
    )  # fmt: skip
    told = story(*AT, log(line(5, detail="revoked", **PROMPT)), "--audit", audit, "--audit", audit)
    assert told["because"][1:] == [
        (
            "A sign-out, a revocation or the end of the authenticator ended the elevation by the"
            " code of 2026-03-01T10:02:30Z."
        ),
        (
            "The policy was set at 2026-03-01T10:01:30Z by operator sam: for response.run_osquery a"
            " code of the last 300 seconds."
        ),
    ]
    assert [each["sequence"] for each in told["events"]] == [2, 3]


@pytest.mark.parametrize("strange", ["9" * 5000, "[" * 100_000 + "]" * 100_000])
def test_a_line_that_python_cannot_read_is_shown_as_text(line, log, strange):
    text = f'{json.dumps(line(5))[:-1]},"n":{strange}}}'
    told = story(*AT, log(line(4), text))
    assert told["decision"].startswith('{"decision_id"')
    assert told["before"][0]["reason"] == "elevated"


def test_a_policy_event_with_strange_operations_is_no_error(line, log):
    after = {"enabled": True, "etag": "8d6ad3f2c1b0", "operations": [1]}
    audit = log(event(1, "policy_changed", details={"after": after}), name="audit.jsonl")
    told = story(*AT, log(line(5)), "--audit", audit)
    assert told["because"][-1].endswith("enabled, and response.run_osquery is not selected.")


def test_a_session_is_named_by_its_hash_or_its_id(line, log):
    sources = [
        log(
            line(5, session="b3f966ca7f2cdba9916be8129110bfd8"), line(5, session="f" * 32, **PROMPT)
        )
    ]
    assert story(*AT, *sources)["decision"]["session"] == "f" * 32
    of_hash = story(*AT, *sources, "--session", "b3f966ca7f2cdba9916be8129110bfd8")
    by_id = why(
        *AT, *sources, "--tenant", "acme", "--session-id-file", "-", "--json", input="s-4711\n"
    )
    assert json.loads(by_id.stdout) == of_hash
    assert of_hash["decision"]["reason"] == "elevated"


def test_the_exit_code_says_whether_there_is_a_decision(line, log):
    assert why(*AT, log(line(user_id="bob"))).exit_code == 1
    several = log(line(), line(tenant_id="other"))
    refused = why(*AT, several)
    assert refused.exit_code == 2
    assert "several businesses have alice: acme, other; give --tenant" in refused.stderr
    at = ("--user", "alice", "--at", "2026-03-01T10:00")
    assert why(*at, several, "--tenant", "other").exit_code == 0
    assert why(*AT, "no-such-file").exit_code == 2
    assert why("--user", "alice", "--at", "yesterday", several).exit_code == 2


def test_what_people_chose_cannot_control_the_terminal(line, log):
    shown = why(*AT, log(line(5, target="\x1b[2Jhost\u202e"))).stdout
    assert "\\x1b[2Jhost\\u202e" in shown


FACTS = ("detail", "elevated_at", "approved_at", "challenge_id", "challenge_rejection", "retry_of",
         "first_authorised_at", "enroll_by", "receipt_rejection")  # fmt: skip


@pytest.mark.parametrize("reason", [*Reason, "of_a_newer_server"])
@pytest.mark.parametrize("operation", ["account.sign_in", "response.run_osquery"])
def test_every_reason_has_a_sentence(line, reason, operation):
    row = {**dict.fromkeys(FACTS), **line(reason=str(reason), operation=operation)}
    assert "".join(sentences_of(row, None, None)).endswith(".")


@pytest.mark.parametrize("detail", [*NotElevatedDetail, None])
def test_every_cause_of_a_session_without_elevation_has_its_own_sentence(line, detail):
    row = {**dict.fromkeys(FACTS), **line(**PROMPT), "detail": detail}
    [_, sentence] = sentences_of(row, None, None)
    others = {*NotElevatedDetail, None} - {detail}
    assert sentence not in [
        list(sentences_of(row | {"detail": each}, None, None))[1] for each in others
    ]


@pytest.mark.parametrize("rejection", [*ReceiptRejection, *ChallengeRejection])
def test_every_rejection_has_a_sentence(line, rejection):
    name = "receipt_rejection" if isinstance(rejection, ReceiptRejection) else "challenge_rejection"
    row = {**dict.fromkeys(FACTS), **line(**PROMPT), name: str(rejection)}
    first = next(iter(sentences_of(row, None, None)))
    assert "did not count: " in first
    assert first.split(": ")[1] != f"{rejection}."
