"""What an operator reads about a call that failed, and the exit code."""

import pytest
from stepup_tests.certificates import DAY, authority

from stepup.cli.ctl.problems import FAILED, REFUSED, problem_of
from stepup.cli.ctl.profiles import Profile, profile_named
from stepup.client import StepUpError
from stepup.rpc.wire import errors

OF_PEOPLE = {
    "PORTAL_SESSION", "NO_PORTAL", "CHALLENGE_LIMIT", "WAITING_LIMIT", "INVALID_FIELD",
}  # fmt: skip
"""Reasons that no command of an operator gets, and one whose message says what to do."""
REASONS = {reason for _, _, reason in errors._REASONS} - OF_PEOPLE  # noqa: SLF001  # the only list


@pytest.mark.parametrize("reason", sorted(REASONS))
def test_each_reason_of_the_server_has_advice(reason):
    problem = problem_of(StepUpError("PERMISSION_DENIED: ...", reason=reason))
    assert problem.advice.endswith(".")
    assert problem.exit_code in (REFUSED, FAILED)


@pytest.mark.parametrize(
    ("error", "exit_code"),
    [
        ({"reason": "ROLE_REQUIRED"}, 1),
        ({"reason": "ETAG_MISMATCH"}, 1),
        ({"reason": "UNKNOWN_PERSON"}, 1),
        ({"reason": "UNLOCK_LIMIT"}, 1),
        ({"reason": "CALLER_NOT_PERMITTED"}, 2),
        ({"reason": "INVALID_FIELD"}, 2),
        ({"code": "UNAVAILABLE"}, 2),
        ({"code": "DEADLINE_EXCEEDED"}, 2),
    ],
)
def test_a_refusal_by_the_rules_is_1_and_a_failure_2(error, exit_code):
    assert problem_of(StepUpError("x", **error)).exit_code == exit_code


async def test_a_server_that_does_not_answer_is_named_with_what_to_compare(ctl, running):
    await running.server.stop(0)
    result = await ctl("policy", "show")
    assert result.exit_code == 2
    assert "UNAVAILABLE" in result.stderr
    assert "No server answered, or it closed the connection, as it does if it demands TLS" in (
        result.stderr
    )


UNAVAILABLE = StepUpError("UNAVAILABLE: Socket closed", code="UNAVAILABLE")


def test_an_expired_certificate_is_named_with_its_date(tmp_path):
    file, _ = authority("clients").client("spiffe://x/sam", lifetime=-DAY).write(tmp_path, "sam")
    advice = problem_of(UNAVAILABLE, Profile(certificate=file)).advice
    assert advice.startswith(f"{file}: your certificate expired on 20")


@pytest.mark.parametrize("content", [None, "not PEM"])
def test_a_certificate_that_cannot_be_read_any_more_is_named(tmp_path, content):
    file = tmp_path / "sam.crt"
    if content is not None:
        file.write_text(content)
    assert str(file) in problem_of(UNAVAILABLE, Profile(certificate=file)).advice


def test_advice_has_the_name_of_the_profile(tmp_path):
    file, _ = authority("clients").client("spiffe://x/sam").write(tmp_path, "sam")
    advice = problem_of(UNAVAILABLE, Profile(name="acme", certificate=file)).advice
    assert "for a certificate that it refuses. `stepup doctor --profile acme` tries" in advice
    unnamed = problem_of(UNAVAILABLE, Profile(certificate=file)).advice
    assert "Put the connection into a profile of ctl.toml" in unnamed


def test_a_profile_knows_its_name(tmp_path):
    (tmp_path / "ctl.toml").write_text('[profiles.acme]\naddress = "localhost:1"\n')
    assert profile_named("acme", tmp_path / "ctl.toml").name == "acme"


def test_a_change_without_an_answer_may_be_in_force():
    problem = problem_of(StepUpError("DEADLINE_EXCEEDED: x", code="DEADLINE_EXCEEDED"))
    assert "It may have made the change" in problem.advice
