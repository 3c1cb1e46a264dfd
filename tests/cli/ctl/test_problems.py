"""What an operator reads about a call that failed, and the exit code."""

import pytest

from stepup.cli.ctl.problems import FAILED, REFUSED, problem_of
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
    assert "No server answered, or it closed the connection" in result.stderr


def test_a_change_without_an_answer_may_be_in_force():
    problem = problem_of(StepUpError("DEADLINE_EXCEEDED: x", code="DEADLINE_EXCEEDED"))
    assert "It may have made the change" in problem.advice
