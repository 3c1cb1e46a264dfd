"""The log of grpcio's core while a command for people runs."""

import os

import pytest

from stepup.system.core_silence import core_log_silent


@pytest.fixture(autouse=True)
def _nothing_chosen(monkeypatch):
    for name in ("GRPC_VERBOSITY", "GRPC_TRACE"):
        monkeypatch.delenv(name, raising=False)


def test_the_core_is_silent_in_the_block_only():
    with core_log_silent():
        assert os.environ["GRPC_VERBOSITY"] == "NONE"
    assert "GRPC_VERBOSITY" not in os.environ


@pytest.mark.parametrize("name", ["GRPC_VERBOSITY", "GRPC_TRACE"])
def test_what_an_operator_has_chosen_stays(monkeypatch, name):
    monkeypatch.setenv(name, "chosen")
    before = dict(os.environ)
    with core_log_silent():
        assert dict(os.environ) == before
    assert dict(os.environ) == before
