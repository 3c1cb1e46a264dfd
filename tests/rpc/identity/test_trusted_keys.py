"""S15: an issuer's keys are fresh; when they cannot be, for a bounded time the old ones count."""

import asyncio
from contextlib import contextmanager, nullcontext

import pytest
from stepup_tests.identity.tokens import Published, key, public
from stepup_tests.metrics import metric
from structlog.testing import capture_logs

from stepup.domain.errors import OverloadedError
from stepup.rpc.identity.trusted_keys import TrustedKeys

FAILURES = "stepup_jwks_refresh_failures_total"


@pytest.fixture
def source(request):
    return Published(public(key("k1")), request.node.name)


@pytest.fixture
async def keys(source, clock):
    keys = TrustedKeys(source, clock, keep_seconds=3600)
    await keys.poll()
    return keys


def ids(keys):
    current = keys.current()
    return None if current is None else [known.kid for known in current]


async def test_keys_are_fetched_when_they_are_due_and_not_before(keys, source, clock):
    source.document = public(key("k2"))
    clock.advance(seconds=299)
    await keys.poll()
    assert ids(keys) == ["k1"]
    clock.advance(seconds=1)
    await keys.poll()
    assert ids(keys) == ["k2"]


async def test_the_same_document_is_the_same_set_of_keys(keys, source, clock):
    before = keys.current()
    clock.advance(seconds=300)
    await keys.poll()
    assert source.fetches == 2
    assert keys.current() is before


async def test_a_failed_refresh_keeps_the_keys_for_a_bounded_time(keys, source, clock):
    source.problem = "does not answer"
    for _ in range(360):
        clock.advance(seconds=10)
        await keys.poll()
    assert ids(keys) == ["k1"]
    clock.advance(seconds=1)
    assert keys.current() is None


async def test_what_is_not_polled_is_not_trusted_for_longer(keys, clock):
    clock.advance(seconds=3601)
    assert keys.current() is None


async def test_a_failed_refresh_is_tried_again_soon(keys, source, clock):
    source.problem = "does not answer"
    clock.advance(seconds=300)
    await keys.poll()
    source.problem, source.document = None, public(key("k2"))
    clock.advance(seconds=9)
    await keys.poll()
    assert ids(keys) == ["k1"]
    clock.advance(seconds=1)
    await keys.poll()
    assert ids(keys) == ["k2"]


async def test_a_failure_is_counted_each_time_and_logged_once(keys, source, clock):
    with capture_logs() as logs:
        for problem in ("does not answer", "does not answer", "answers with the status 500"):
            source.problem = problem
            clock.advance(seconds=300)
            await keys.poll()
    assert metric(FAILURES, source=source.name) == 3
    assert [entry["problem"] for entry in logs] == [
        "does not answer",
        "answers with the status 500",
    ]


@pytest.mark.parametrize("document", [b"", b"[]", b"{}", b'{"keys": 1}', b"\xff", b"[" * 100_000])
async def test_a_document_that_is_no_key_set_keeps_the_keys(keys, source, clock, document):
    source.document = document
    clock.advance(seconds=300)
    with capture_logs() as logs:
        await keys.poll()
    assert ids(keys) == ["k1"]
    assert [entry["problem"] for entry in logs] == ["has no JWKS"]


@pytest.mark.parametrize("document", [b'{"keys": []}', b'{"keys": [{"kty": "oct", "k": "c2U"}]}'])
async def test_s15_an_issuer_that_has_withdrawn_every_key_has_none(keys, source, clock, document):
    source.document = document
    clock.advance(seconds=300)
    with capture_logs() as logs:
        await keys.poll()
    assert ids(keys) == []
    assert [entry["event"] for entry in logs] == ["jwks_has_no_usable_key"]
    source.document = public(key("k2"))
    clock.advance(seconds=300)
    await keys.poll()
    assert ids(keys) == ["k2"]


async def test_s18_a_fetch_that_does_not_end_is_given_up_and_followed_by_another(clock):
    source = Waiting(public(key("k1")))
    keys = TrustedKeys(source, clock, fetch_seconds=0.01)
    waiting = [keys.poll(), keys.beyond(None, nullcontext())]
    with capture_logs() as logs:
        await asyncio.wait_for(asyncio.gather(*waiting), 5)
    assert ids(keys) is None
    assert [entry["problem"] for entry in logs] == ["does not answer in time"]
    source.answer.set()
    clock.advance(seconds=10)
    await keys.poll()
    assert ids(keys) == ["k1"]


async def test_a_call_that_may_not_wait_is_refused_and_spoils_no_fetch(keys, source, clock):
    @contextmanager
    def full():
        raise OverloadedError("full")
        yield

    clock.advance(seconds=10)
    with pytest.raises(OverloadedError):
        await keys.beyond(keys.current(), full())
    assert source.fetches == 1
    await keys.beyond(None, full())  # newer ones are here: nothing to wait for


async def test_a_bug_in_a_source_is_a_failure_like_others(keys, source, clock):
    source.document = None
    clock.advance(seconds=300)
    with capture_logs() as logs:
        await keys.poll()
    assert ids(keys) == ["k1"]
    assert [entry["event"] for entry in logs] == ["jwks_fetch_broke", "jwks_not_refreshed"]
    assert logs[-1]["problem"] == "cannot be fetched"


async def test_s18_a_flood_of_unknown_keys_makes_one_fetch(keys, source, clock):
    clock.advance(seconds=10)
    for _ in range(3):
        await asyncio.gather(*[keys.beyond(keys.current(), nullcontext()) for _ in range(200)])
    assert source.fetches == 2
    clock.advance(seconds=9)
    await keys.beyond(keys.current(), nullcontext())
    assert source.fetches == 2
    clock.advance(seconds=1)
    await keys.beyond(keys.current(), nullcontext())
    assert source.fetches == 3


async def test_a_flood_of_unknown_keys_does_not_put_off_the_regular_refresh_of_a_failing_source(
    keys, source, clock
):
    source.problem = "does not answer"
    for _ in range(30):
        clock.advance(seconds=10)
        await keys.beyond(keys.current(), nullcontext())
    source.problem, source.document = None, public(key("k2"))
    clock.advance(seconds=10)
    await keys.poll()
    assert ids(keys) == ["k2"]


async def test_whoever_saw_older_keys_gets_the_newer_ones_without_a_fetch(keys, source, clock):
    older = keys.current()
    source.document = public(key("k2"))
    clock.advance(seconds=300)
    await keys.poll()
    assert await keys.beyond(older, nullcontext()) is keys.current()
    assert source.fetches == 2


class Waiting(Published):
    """Answers when the test says so."""

    def __init__(self, document):
        super().__init__(document)
        self.answer = asyncio.Event()
        self.asked = asyncio.Event()

    async def fetch(self):
        document = await super().fetch()
        self.asked.set()
        await self.answer.wait()
        return document


async def test_a_caller_that_hangs_up_does_not_spoil_the_fetch_for_others(clock):
    source = Waiting(public(key("k1")))
    keys = TrustedKeys(source, clock)
    impatient = asyncio.create_task(keys.beyond(None, nullcontext()))
    patient = asyncio.create_task(keys.beyond(None, nullcontext()))
    await source.asked.wait()
    impatient.cancel()
    source.answer.set()
    assert [known.kid for known in await patient] == ["k1"]
    assert (source.fetches, impatient.cancelled()) == (1, True)
