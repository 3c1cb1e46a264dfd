"""Fixtures for the directories of tests that need an application; their conftest imports them."""

import time

import pytest

from stepup_tests.wire import Client, served
from stepup_tests.world import made_for_one_test, migrated_template


@pytest.fixture(scope="session")
def template(tmp_path_factory):
    return migrated_template(tmp_path_factory.mktemp("template"))


@pytest.fixture
async def world(tmp_path, template):
    async with made_for_one_test(tmp_path, template) as made:
        yield made


@pytest.fixture
def clock(world):
    return world.clock


@pytest.fixture
async def worker(world):
    return await world.worker()


@pytest.fixture
async def running(worker):
    async with served(worker) as server:
        yield server


@pytest.fixture
async def client(running):
    client = Client(running.target)
    yield client
    await client.close()


@pytest.fixture
def advance(monkeypatch):
    """Moves the clock of fake Redis servers: `time.time` of this process."""
    # Whole seconds: what a test adds comes out exact.
    now = [float(int(time.time()))]
    monkeypatch.setattr(time, "time", lambda: now[0])

    def advance(by):
        now[0] += by.total_seconds()

    return advance
