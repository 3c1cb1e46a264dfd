"""Cerbos's messages are read without its code."""

import pytest

from tools.bench.cerbos import is_allowed, question

RESULT = b"\x12\x0d" + b"\x12\x07" + b"\x0a\x03run" + b"\x10%c" + b"\x1a\x02ok"
"""A response with one result, whose one action has an effect; and a field that is not read."""


def test_the_question_names_the_person_the_operation_and_the_action():
    for name in (b"bob@acme.example", b"analyst", b"response.run_osquery", b"run"):
        assert name in question()


@pytest.mark.parametrize(("effect", "allowed"), [(1, True), (2, False), (0, False)])
def test_only_an_effect_that_allows_is_right(effect, allowed):
    assert is_allowed(RESULT % effect) is allowed


def test_an_answer_without_a_result_is_wrong():
    assert not is_allowed(b"")
