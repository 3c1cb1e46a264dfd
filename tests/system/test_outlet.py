"""A way out that never blocks, whatever it leads to."""

import os
import socket
from contextlib import closing, suppress
from itertools import pairwise
from select import PIPE_BUF

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepup.system import outlet as module
from stepup.system.outlet import Outlet, portions


@pytest.fixture
def pipe():
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb", 0) as source, os.fdopen(writer, "wb", 0) as sink:
        yield source, sink


@pytest.fixture
def sockets():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield theirs, ours


@pytest.fixture
def terminal():
    leader, follower = os.openpty()
    with os.fdopen(leader, "rb", 0) as source, os.fdopen(follower, "wb", 0) as sink:
        yield source, sink


@pytest.fixture
def strangers_pipe(pipe, monkeypatch):
    """One that cannot be opened a second time, as after `sudo -u stepup`."""

    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(module.os, "open", refuse)
    return pipe


@pytest.mark.parametrize("way", ["pipe", "sockets", "terminal", "strangers_pipe"])
def test_s18_nothing_that_is_full_blocks_and_its_flags_stay(way, request):
    _, sink = request.getfixturevalue(way)
    with closing(Outlet.to(sink)) as outlet:
        outlet.check()
        portion = b"x" * (PIPE_BUF - 1) + b"\n"

        def fill():
            for _ in range(10_000):
                outlet.write(portion)

        def check_when_full():
            # The kernel may still move what it holds to a terminal, which makes room once more.
            for _ in range(10_000):
                with suppress(BlockingIOError):
                    fill()
                outlet.check()

        with pytest.raises(BlockingIOError):
            fill()
        with pytest.raises(BlockingIOError):
            check_when_full()
    assert os.get_blocking(sink.fileno())


@pytest.mark.parametrize("way", ["pipe", "sockets", "strangers_pipe"])
def test_s18_where_nobody_reads_any_more_it_is_an_error_and_no_signal(way, request):
    source, sink = request.getfixturevalue(way)
    with closing(Outlet.to(sink)) as outlet:
        source.close()
        with pytest.raises(BrokenPipeError):
            outlet.check()
        with pytest.raises(BrokenPipeError):
            outlet.write(b"x")


def test_what_is_open_for_reading_only_is_refused(pipe):
    source, _ = pipe
    with pytest.raises(OSError, match="not open for writing"):
        Outlet.to(source)


def test_a_check_leaves_a_file_as_it_is(tmp_path):
    path = tmp_path / "log"
    with path.open("wb") as file, closing(Outlet.to(file)) as outlet:
        outlet.write(b"1\n")
        outlet.check()
    assert path.read_bytes() == b"1\n"


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
