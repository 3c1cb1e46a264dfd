"""Fixtures of pytest: `pytest_plugins = ["stepup.client.testing.fixtures"]` in a conftest.py."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from stepup.client.testing.fake import FakeStepUp
from stepup.client.testing.server import RunningStepUp, running_server


@pytest.fixture
def fake_stepup() -> Iterator[FakeStepUp]:
    """A service in this process, new for each test."""
    with FakeStepUp() as fake:
        yield fake


@pytest.fixture(scope="session")
def stepup_server() -> Iterator[RunningStepUp]:
    """A real server, the same for all tests of a run: give each test a tenant of its own."""
    with running_server() as server:
        yield server
