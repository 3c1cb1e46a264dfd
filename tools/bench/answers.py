"""Checks of answers: a run with a wrong answer does not count."""

import struct
from collections import Counter
from datetime import UTC, datetime

import orjson

from stepup.v1 import step_up_service_pb2 as pb

FRAME = struct.Struct(">BI")
"""What gRPC puts before each message: whether it is compressed, and its length."""


class WrongAnswersError(Exception):
    """Not every call was answered as it had to be."""


def check_answer(variant, answer):
    """Check one answer, decoded.

    Raises:
        WrongAnswersError: it is not what the variant has to answer.
    """
    wrong = []
    if answer.decision != pb.DECISION_ALLOWED or answer.reason != pb.DECISION_REASON_ELEVATED:
        wrong.append("is not ALLOWED for ELEVATED")
    if variant.has_elevation and answer.elevation.expires_at.ToDatetime(UTC) <= datetime.now(UTC):
        wrong.append("has no live elevation")
    if variant.on_record and not (answer.decision_id and answer.receipt):
        wrong.append("has no decision_id or receipt")
    if wrong:
        raise WrongAnswersError(f"{variant.name}: the answer {' and '.join(wrong)}:\n{answer}")


def check_load(variant, load, answer_bytes):
    """Check that a load was answered in full: all messages had the size that a right one has.

    Raises:
        WrongAnswersError: calls failed, or the sizes do not add up.
    """
    expected = load.requests * (FRAME.size + answer_bytes)
    if load.succeeded != load.requests or load.data_bytes != expected:
        raise WrongAnswersError(
            f"{variant.name}: of {load.requests} calls {load.succeeded} got HTTP 200, with"
            f" {load.data_bytes} bytes of messages; right answers have {expected}"
        )


def check_record(variant, lines, calls):
    """Check that the decision log has each call once, as ALLOWED for ELEVATED.

    Raises:
        WrongAnswersError: it does not.
    """
    entries = [orjson.loads(line) for line in lines]
    decided = Counter((entry["decision"], entry["reason"]) for entry in entries)
    distinct = len({entry["decision_id"] for entry in entries})
    if decided != {("allowed", "elevated"): calls} or distinct != calls:
        raise WrongAnswersError(
            f"{variant.name}: {calls} calls, and in the decision log {distinct} decisions:"
            f" {dict(decided)}"
        )
