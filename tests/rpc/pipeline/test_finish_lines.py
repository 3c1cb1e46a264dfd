"""S18: a flood of calls that are refused fills no log, and its extent is known all the same."""

import asyncio

import grpc
import pytest
from stepup_tests.clock import ManualClock
from stepup_tests.metrics import metric
from stepup_tests.requests import valid_request
from stepup_tests.wire import pipeline_of
from structlog.testing import capture_logs

from stepup.domain.errors import CallerUnauthenticatedError
from stepup.rpc.engine import Invocation
from stepup.rpc.pipeline import finish_lines
from stepup.rpc.pipeline.finish_lines import REFUSED, UNAVAILABLE, FinishLines
from stepup.rpc.server.server import methods
from stepup.rpc.wire.errors import RefusedError

BURST = REFUSED.burst
SUPPRESSED = "stepup_call_lines_suppressed_total"
PEER = Invocation("ipv4:127.0.0.1:4711")


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def lines(clock):
    return FinishLines(clock)


def line(code="UNAUTHENTICATED", reason="CALLER_UNAUTHENTICATED", caller=None):
    return {"caller": caller, "code": code, "reason": reason}


def written(lines, times, *, has_concluded=False, **fields):
    """How many of so many lines are written."""
    with capture_logs() as logs:
        for _ in range(times):
            lines.write(line(**fields), has_concluded=has_concluded)
    return len(logs)


def test_s18_of_a_flood_the_first_lines_are_written_and_then_a_sample(lines, clock):
    assert written(lines, 10_000) == BURST
    clock.advance(seconds=3 / REFUSED.per_second)
    assert written(lines, 10_000) == 3
    clock.advance(seconds=1e9)
    assert written(lines, 10_000) == BURST


def test_s18_calls_that_meet_a_store_that_is_down_fill_no_log(lines, clock):
    """Callers try again and again; more lines than of refused calls, but not one for each."""
    down = {"code": "UNAVAILABLE", "reason": "STORE_UNAVAILABLE", "caller": "soar"}
    before = metric(SUPPRESSED, **down)
    assert written(lines, 10_000, **down) == UNAVAILABLE.burst > BURST
    assert metric(SUPPRESSED, **down) - before == 10_000 - UNAVAILABLE.burst
    clock.advance(seconds=3 / UNAVAILABLE.per_second)
    assert written(lines, 10_000, **down) == 3
    assert written(lines, 10_000, has_concluded=True, **down) == 10_000


@pytest.mark.parametrize(
    ("code", "reason"),
    [("FAILED_PRECONDITION", "UNKNOWN_TENANT"), ("ABORTED", "ETAG_MISMATCH")],
)
def test_s18_a_caller_that_makes_the_same_mistake_again_and_again_fills_no_log(lines, code, reason):
    assert written(lines, 10_000, code=code, reason=reason, caller="soar") == BURST


def test_s18_what_is_left_out_is_counted_and_summed_up_once(lines):
    labels = {"caller": "soar", "code": "PERMISSION_DENIED", "reason": "CALLER_NOT_PERMITTED"}
    before = metric(SUPPRESSED, **labels)
    written(lines, BURST + 7, **labels)
    assert metric(SUPPRESSED, **labels) == before + 7
    with capture_logs() as logs:
        asyncio.run(lines.sum_up())
        asyncio.run(lines.sum_up())
    assert logs == [{"event": "calls_not_logged", "log_level": "info", "calls": 7, **labels}]


def test_s18_a_flood_hides_no_lines_of_another_class(lines):
    written(lines, 10_000)
    assert written(lines, 1, caller="soar") == 1
    assert written(lines, 1, code="CANCELLED", reason=None) == 1
    assert written(lines, 1, reason="ANOTHER") == 1


@pytest.mark.parametrize("code", ["OK", "INTERNAL"])
def test_s18_lines_of_calls_that_were_carried_out_or_met_a_fault_of_ours_are_complete(lines, code):
    assert written(lines, 1000, code=code) == 1000


def test_s18_a_line_that_tells_a_decision_is_always_written(lines):
    assert written(lines, 1000, code="CANCELLED", has_concluded=True) == 1000


def test_s18_the_classes_that_are_told_apart_are_bounded(lines, monkeypatch):
    monkeypatch.setattr(finish_lines, "MAX_CLASSES", 3)
    assert sum(written(lines, 1, reason=f"{number}") for number in range(1000)) == 3 + BURST
    with capture_logs() as logs:
        asyncio.run(lines.sum_up())
    assert [(entry["code"], entry["calls"]) for entry in logs] == [(None, 1000 - 3 - BURST)]


async def test_s18_each_refused_call_is_counted_whether_or_not_its_line_is_written(worker):
    async def nobody(_invocation):
        raise CallerUnauthenticatedError("no")

    application = worker.application
    pipeline = pipeline_of(worker, nobody)
    method = next(each for each in methods(application.handlers) if each.name == "CheckStepUp")
    labels = {"method": method.path, "caller": "", "code": "UNAUTHENTICATED"}
    before = metric("stepup_calls_total", **labels)
    payload = valid_request("CheckStepUp").SerializeToString()
    with capture_logs() as logs:
        for _ in range(BURST + 20):
            with pytest.raises(RefusedError) as refused:
                await pipeline.unary(method, payload, PEER)
            assert refused.value.status.code is grpc.StatusCode.UNAUTHENTICATED
    assert len([entry for entry in logs if entry["event"] == "call"]) == BURST
    assert metric("stepup_calls_total", **labels) == before + BURST + 20
