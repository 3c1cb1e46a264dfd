"""What each start says loudly of settings that weaken a deployment."""

from contextlib import AsyncExitStack

import structlog
from stepup_tests.metrics import metric

from stepup.settings import load
from stepup.wiring.server import _warn_of_weaknesses

GAUGE = "stepup_store_in_plain_text"


async def test_s25_a_start_warns_of_stores_in_plain_text_and_the_metric_shows_it():
    settings = load(storage={"redis_url": "redis://10.0.0.7"}, server={"insecure": True})
    async with AsyncExitStack() as stack:
        with structlog.testing.capture_logs() as lines:
            _warn_of_weaknesses(settings, stack)
        assert metric(GAUGE, store="redis") == 1
    events = {line["event"]: line for line in lines}
    assert "storage.redis_url" in events["store_is_reached_in_plain_text"]["explanation"]
    assert "callers_are_not_authenticated" in events
    assert metric(GAUGE, store="redis") == 0
