from itertools import pairwise
from select import PIPE_BUF

from hypothesis import given
from hypothesis import strategies as st

from stepup.system.portions import portions

LINES = st.lists(st.integers(0, 2 * PIPE_BUF).map(lambda size: b"x" * size + b"\n"))


@given(LINES)
def test_portions_are_the_lines_in_order(lines):
    assert b"".join(portions(lines)) == b"".join(lines)


@given(LINES)
def test_a_portion_of_several_lines_goes_into_a_pipe_in_one_piece(lines):
    assert all(len(each) <= PIPE_BUF or each.count(b"\n") == 1 for each in portions(lines))


@given(LINES)
def test_no_line_is_in_two_portions(lines):
    assert all(each.endswith(b"\n") for each in portions(lines))


@given(LINES)
def test_there_are_no_more_portions_than_need_be(lines):
    for portion, following in pairwise(portions(lines)):
        first_line = following.partition(b"\n")[0] + b"\n"
        assert len(portion) + len(first_line) > PIPE_BUF
