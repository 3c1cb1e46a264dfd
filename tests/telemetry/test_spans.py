"""W3C Trace Context, level 1, section 3.2: what is a traceparent, and what is ignored."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepup.telemetry.spans import TraceParent, trace_parent_of

TRACE = "0af7651916cd43dd8448eb211c80319c"
SPAN = "b7ad6b7169203331"
VALID = f"00-{TRACE}-{SPAN}-01"


def parsed(*given, key="traceparent"):
    metadata = [("x-request-id", "r-1"), *((key, each) for each in given), ("other", VALID)]
    return trace_parent_of(metadata)


@pytest.mark.parametrize(
    ("flags", "is_sampled"),
    [("00", False), ("01", True), ("02", False), ("03", True), ("fe", False), ("ff", True)],
)
def test_the_lowest_flag_says_whether_it_is_recorded_and_no_other_counts(flags, is_sampled):
    assert parsed(f"00-{TRACE}-{SPAN}-{flags}") == TraceParent(TRACE, SPAN, is_sampled)


@pytest.mark.parametrize(
    "given",
    [
        "",
        f"00-{TRACE}-{SPAN}",
        f"00-{TRACE}-{SPAN}-1",
        f"00-{TRACE}-{SPAN}-0x",
        f"00-{TRACE}-{SPAN}-01-extra",
        f"01-{TRACE}-{SPAN}-01",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-0A",
        f"00-{TRACE[1:]}-{SPAN}-01",
        f"00-{TRACE[:-1]}g-{SPAN}-01",
        f"00_{TRACE}_{SPAN}_01",
        f"00-{TRACE[:-1]}\N{FULLWIDTH DIGIT ONE}-{SPAN}-01",
        f"00-{TRACE[:-1]}\N{ARABIC-INDIC DIGIT ONE}-{SPAN}-01",
        f" {VALID}",
        f"{VALID}\n",
        f"{VALID},{VALID}",
        VALID.encode(),
    ],
)
def test_s18_anything_else_is_ignored(given):
    assert parsed(given) is None


def test_a_call_that_says_nothing_has_none():
    assert parsed() is None
    assert parsed(VALID, key="traceparent-bin") is None


def test_of_two_nobody_knows_which_counts_so_that_none_does():
    assert parsed(VALID, VALID) is None


@given(st.integers(1, 2**128 - 1), st.integers(1, 2**64 - 1), st.integers(0, 255))
def test_every_valid_one_is_read_as_it_was_written(trace, span, flags):
    found = parsed(f"00-{trace:032x}-{span:016x}-{flags:02x}")
    assert (int(found.trace_id, 16), int(found.span_id, 16)) == (trace, span)
    assert found.is_sampled == bool(flags % 2)


@given(st.text(max_size=80) | st.text("0123456789abcdef-", max_size=60) | st.binary(max_size=60))
def test_s18_whatever_is_sent_is_read_or_ignored(given):
    found = parsed(given)
    assert found is None or given.startswith(f"00-{found.trace_id}-{found.span_id}-")
