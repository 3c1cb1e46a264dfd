"""Hangups of a serving process: each has its reload, one after the other."""

import asyncio
import gc
import threading
from contextlib import asynccontextmanager

import pytest
import structlog
from prometheus_client import REGISTRY

from stepup.process.serving import exempt_from_collection, reload_on_hangup
from stepup.settings import ConfigurationError
from stepup.system.service_manager import ServiceManager


class Server:
    """Notes what is asked of it; refuses settings that are an error."""

    address = "127.0.0.1:50051"

    def __init__(self):
        self.done = []
        self.reloaded = asyncio.Semaphore(0)

    def reopen_decision_log(self):
        self.done.append("reopened")

    def reload(self, settings):
        if isinstance(settings, Exception):
            raise settings
        self.done.append(settings)
        self.reloaded.release()


class Loading:
    """Loads what it is given, one after the other; each when it may."""

    def __init__(self, *results):
        self._results = iter(results)
        self._begun = threading.Semaphore(0)
        self._may_end = threading.Semaphore(0)

    def __call__(self):
        self._begun.release()
        assert self._may_end.acquire(timeout=10)
        return next(self._results)()

    async def begun(self):
        assert await asyncio.to_thread(self._begun.acquire, timeout=10)

    def go_on(self):
        self._may_end.release()


@asynccontextmanager
async def reloading(server, load, manager=None):
    """Reloads at hangups for as long as the block lasts."""
    hangup = asyncio.Event()
    reloads = reload_on_hangup(hangup, server, load, manager or ServiceManager())
    task = asyncio.create_task(reloads)
    async with asyncio.timeout(20):
        yield hangup
    assert not task.done()
    task.cancel()
    await asyncio.wait([task])


def failures():
    return REGISTRY.get_sample_value("stepup_configuration_reload_failures_total")


async def test_hangups_during_a_reload_have_one_of_their_own_afterwards():
    server, load = Server(), Loading(lambda: "first", lambda: "second")
    async with reloading(server, load) as hangup:
        hangup.set()
        await load.begun()
        hangup.set()
        hangup.set()
        load.go_on()
        await load.begun()
        # Had it begun earlier, the older file could have the last word.
        assert server.done == ["reopened", "first", "reopened"]
        load.go_on()
        await server.reloaded.acquire()
        await server.reloaded.acquire()
    assert server.done == ["reopened", "first", "reopened", "second"]


def cannot_be_loaded():
    raise ConfigurationError("log.level: is loud\nlog.format: is odd")


def breaks():
    raise RecursionError("a value")


@pytest.mark.parametrize(
    ("result", "problems"),
    [
        (cannot_be_loaded, ["log.level: is loud", "log.format: is odd"]),
        (lambda: ConfigurationError("callers: are odd"), ["callers: are odd"]),
        (breaks, ["cannot be read: RecursionError"]),
    ],
    ids=["not valid", "not to be put into effect", "a bug"],
)
async def test_a_failure_is_logged_and_counted_and_the_next_hangup_reloads(result, problems):
    server, load, before = Server(), Loading(result, lambda: "good"), failures()
    with structlog.testing.capture_logs() as lines:
        async with reloading(server, load) as hangup:
            for _ in range(2):
                hangup.set()
                await load.begun()
                load.go_on()
            await server.reloaded.acquire()
    assert lines == [
        {"event": "configuration_not_reloaded", "log_level": "error", "problems": problems}
    ]
    assert failures() == before + 1


@pytest.mark.parametrize(
    ("result", "status"),
    [
        (cannot_be_loaded, "the reload failed: see the log"),
        (lambda: "good", "the configuration was read again"),
    ],
    ids=["refused", "reloaded"],
)
async def test_the_service_manager_sees_when_a_reload_begins_and_how_it_ends(
    notices, result, status
):
    server, load = Server(), Loading(result)
    async with reloading(server, load, ServiceManager(notices.path)) as hangup:
        hangup.set()
        await load.begun()
        begun = await asyncio.to_thread(notices.receive)
        assert begun[0] == "RELOADING=1"
        load.go_on()
        ended = await asyncio.to_thread(notices.receive)
    assert ended == ["READY=1", f"STATUS=serving on 127.0.0.1:50051; {status}"]


def test_what_lives_for_ever_is_looked_at_by_no_collection():
    thresholds = gc.get_threshold()
    try:
        exempt_from_collection()
        assert gc.get_freeze_count() > 10_000
        assert gc.isenabled()  # a cycle that a bug leaves is still found
    finally:
        gc.unfreeze()
        gc.set_threshold(*thresholds)


async def test_s17_a_decision_log_that_breaks_does_not_end_the_reloads(monkeypatch):
    server, load = Server(), Loading(lambda: "good")

    def breaks():
        monkeypatch.undo()
        raise RuntimeError("a bug")

    monkeypatch.setattr(server, "reopen_decision_log", breaks)
    async with reloading(server, load) as hangup:
        hangup.set()
        async with asyncio.timeout(10):
            while hangup.is_set():  # noqa: ASYNC110  # the reload clears it
                await asyncio.sleep(0)
        hangup.set()
        await load.begun()
        load.go_on()
        await server.reloaded.acquire()
    assert server.done == ["reopened", "good"]
