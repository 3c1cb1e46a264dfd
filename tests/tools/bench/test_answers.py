"""A run with a wrong answer is no measurement."""

from datetime import UTC, datetime, timedelta

import orjson
import pytest

from stepup.v1 import step_up_service_pb2 as pb
from tools.bench.answers import WrongAnswersError, check_answer, check_load, check_record
from tools.bench.h2load import Load
from tools.bench.variants import VARIANTS

BY_NAME = {variant.name: variant for variant in VARIANTS}
CHECK, NOOP = BY_NAME["aio-check"], BY_NAME["aio-noop"]


def answer(**changes):
    right = pb.CheckStepUpResponse(
        decision=pb.DECISION_ALLOWED,
        reason=pb.DECISION_REASON_ELEVATED,
        decision_id="d2",
        receipt="1.k.p.m",
    )
    right.elevation.expires_at.FromDatetime(datetime.now(UTC) + timedelta(minutes=9))
    for name, value in changes.items():
        setattr(right, name, value)
    return right


def load(**changes):
    figures = {"requests": 10, "succeeded": 10, "rps": 1.0, "data_bytes": 10 * (5 + 7)}
    return Load(**figures | changes)


def lines(*decisions):
    for number, decision in enumerate(decisions):
        entry = {"decision_id": number, "decision": decision, "reason": "elevated"}
        yield orjson.dumps(entry)


def test_the_right_answer_passes():
    check_answer(CHECK, answer())


@pytest.mark.parametrize(
    "changes",
    [
        {"decision": pb.DECISION_STEP_UP_REQUIRED},
        {"reason": pb.DECISION_REASON_MFA_NOT_ENABLED},
        {"decision_id": ""},
        {"receipt": ""},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_another_answer_does_not(changes):
    with pytest.raises(WrongAnswersError):
        check_answer(CHECK, answer(**changes))


def test_an_elevation_that_has_ended_does_not():
    stale = answer()
    stale.elevation.expires_at.FromDatetime(datetime.now(UTC))
    with pytest.raises(WrongAnswersError):
        check_answer(CHECK, stale)


def test_a_noop_has_a_decision_and_nothing_else():
    check_answer(NOOP, pb.CheckStepUpResponse(decision=1, reason=6))
    with pytest.raises(WrongAnswersError):
        check_answer(NOOP, pb.CheckStepUpResponse())


def test_a_load_whose_bytes_add_up_passes():
    check_load(CHECK, load(), answer_bytes=7)


@pytest.mark.parametrize(
    "changes",
    [{"data_bytes": 9 * (5 + 7)}, {"data_bytes": 11 * (5 + 7)}, {"succeeded": 9}],
    ids=["an error in a trailer", "more than asked", "an HTTP error"],
)
def test_another_load_does_not(changes):
    with pytest.raises(WrongAnswersError):
        check_load(CHECK, load(**changes), answer_bytes=7)


def test_a_record_of_each_call_passes():
    check_record(CHECK, lines("allowed", "allowed"), calls=2)


@pytest.mark.parametrize(
    ("decisions", "calls"),
    [(["allowed"], 2), (["allowed"] * 3, 2), (["allowed", "step_up_required"], 2), ([], 1)],
    ids=["too few", "too many", "a refusal", "none"],
)
def test_another_record_does_not(decisions, calls):
    with pytest.raises(WrongAnswersError):
        check_record(CHECK, lines(*decisions), calls)


def test_a_decision_that_is_written_twice_does_not_stand_for_two():
    [line] = lines("allowed")
    with pytest.raises(WrongAnswersError):
        check_record(CHECK, [line, line], calls=2)
