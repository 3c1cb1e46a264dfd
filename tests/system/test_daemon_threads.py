"""S18: blocking work has a deadline, and never keeps the process from ending."""

import asyncio
import threading

import pytest

from stepup.system.daemon_threads import await_within, call_within

PATIENCE_SECONDS = 5


def wait_within(seconds, work):
    return asyncio.run(await_within(seconds, work))


WAYS = pytest.mark.parametrize("within", [call_within, wait_within])


@WAYS
def test_s18_what_takes_too_long_is_not_waited_for(within):
    done = threading.Event()
    with pytest.raises(TimeoutError):
        within(0.01, lambda: done.wait(PATIENCE_SECONDS))
    assert not done.is_set()
    [thread] = [each for each in threading.enumerate() if each.name == "stepup-deadline"]
    assert thread.daemon
    done.set()
    thread.join(PATIENCE_SECONDS)
    assert not thread.is_alive()
