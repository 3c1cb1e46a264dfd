"""What only a real server shows: faults (S17), round trips, memory."""

import asyncio
import os
import signal
from contextlib import asynccontextmanager, suppress

import pytest
from redis.asyncio import Redis
from redis.exceptions import TimeoutError as RedisTimeoutError
from stepup_tests.redis_calls import (
    KEYS,
    NOON,
    address,
    an_elevation,
    assert_unavailable,
    every_call,
)

from stepup.domain.errors import StoreUnavailableError
from stepup.stores.embedded_valkey import EmbeddedValkey
from stepup.stores.redis import RedisElevations, close, connect


@pytest.fixture
def valkey(tmp_path):
    with EmbeddedValkey(tmp_path) as valkey:
        yield valkey


@pytest.fixture
async def client(valkey):
    client = connect(valkey.url)
    yield client
    await close(client)


def kill(pid):
    process = os.pidfd_open(pid)
    os.kill(pid, signal.SIGKILL)
    # Its parent may have taken note of the end already.
    with suppress(ChildProcessError):
        os.waitid(os.P_PIDFD, process, os.WEXITED | os.WNOWAIT)
    os.close(process)


@asynccontextmanager
async def stopped(pid):
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


async def test_a_server_that_stood_still_is_used_again(valkey, client):
    elevations, elevation = RedisElevations(client, KEYS), an_elevation()
    async with stopped(valkey.pid):
        with pytest.raises(StoreUnavailableError):
            await elevations.replace(elevation)
    await elevations.replace(elevation)
    assert await elevations.find(*address(elevation)) == elevation


async def test_waiting_is_bounded_whatever_client_is_given(valkey):
    """The driver's own defaults are 5 seconds and 10 retries."""
    async with Redis.from_url(valkey.url) as client:
        await client.ping()
        async with stopped(valkey.pid), asyncio.timeout(4):
            await assert_unavailable(client)


async def test_a_rate_is_given_up_before_anything_else(valkey, client):
    """Every call of the caller asks for it, and goes on without an answer."""
    async with stopped(valkey.pid):
        calls = {asyncio.create_task(call, name=name) for name, call in every_call(client).items()}
        given_up, others = await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
        assert [call.get_name() for call in given_up] == ["spend"]
        await asyncio.wait(others)
    assert {type(call.exception()) for call in calls} == {StoreUnavailableError}


async def test_a_restarted_server_is_used_at_once_with_all_it_had_acknowledged(valkey, client):
    elevations, kept, revoked = RedisElevations(client, KEYS), an_elevation(1), an_elevation(2)
    await elevations.replace(kept)
    await elevations.replace(revoked)
    await elevations.revoke_user(revoked.tenant_id, revoked.user_id, NOON)
    kill(valkey.pid)
    await asyncio.to_thread(valkey.start)  # meanwhile the loop learns that the connection is gone
    assert await elevations.find(*address(kept)) == kept
    assert await elevations.find(*address(revoked)) is None


async def test_where_no_server_is_it_is_unavailable(tmp_path):
    async with connect(f"unix://{tmp_path / 'none.sock'}") as client:
        await assert_unavailable(client)


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"-OOM full\r\n"])
async def test_a_server_that_speaks_something_else_is_unavailable(tmp_path, answer):
    async def serve(reader, writer):
        await reader.read(1)
        writer.write(answer)
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    path = str(tmp_path / "s")
    async with await asyncio.start_unix_server(serve, path), connect(f"unix://{path}") as client:
        await assert_unavailable(client)


async def test_a_server_that_is_full_is_unavailable(client):
    await client.config_set("maxmemory", "1")
    elevations = RedisElevations(client, KEYS)
    with pytest.raises(StoreUnavailableError):
        await elevations.replace(an_elevation())


async def test_a_cancelled_call_leaves_no_answer_to_the_next(valkey):
    elevations_of = [an_elevation(1), an_elevation(2)]
    async with connect(valkey.url, max_connections=1) as client:
        elevations = RedisElevations(client, KEYS)
        for elevation in elevations_of:
            await elevations.replace(elevation)
        async with stopped(valkey.pid):
            call = asyncio.create_task(elevations.find(*address(elevations_of[0])))
            for _ in range(10):  # turns of the loop: the command is written, no answer comes
                await asyncio.sleep(0)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
        assert await elevations.find(*address(elevations_of[1])) == elevations_of[1]


async def _open_both(client):
    """Open two connections, however long a busy machine takes for that."""
    async with asyncio.timeout(60):
        while True:
            with suppress(RedisTimeoutError):
                await asyncio.gather(client.ping(), client.ping())
                return


async def test_more_calls_than_connections_wait_for_their_turn(valkey):
    async with connect(valkey.url, max_connections=2) as client:
        elevations = RedisElevations(client, KEYS)
        await _open_both(client)
        await asyncio.gather(*(elevations.replace(an_elevation(number)) for number in range(20)))
        assert len(await client.client_list()) == 2


@pytest.mark.parametrize(
    ("call", "command"),
    [
        ("replace", "set"),
        ("find", "mget"),
        ("revoke_session", "del"),
        ("claim", "set"),
        ("record", "set"),
        ("release", "del"),
    ],
)
async def test_a_call_is_one_command(client, call, command):
    calls = every_call(client)
    await client.ping()
    await client.config_resetstat()
    await calls.pop(call)
    statistics = await client.info("commandstats")
    assert statistics.keys() == {f"cmdstat_{command}", "cmdstat_config|resetstat"}
    assert statistics[f"cmdstat_{command}"]["calls"] == 1
    for unused in calls.values():
        unused.close()


async def test_a_rate_is_one_round_trip(client):
    calls = every_call(client)
    await client.ping()
    await client.config_resetstat()
    await calls.pop("spend")
    statistics = await client.info("commandstats")
    sent = statistics.keys() - {f"cmdstat_{inner}" for inner in ("time", "get", "set")}
    assert sent == {"cmdstat_eval", "cmdstat_config|resetstat"}
    assert statistics["cmdstat_eval"]["calls"] == 1
    for unused in calls.values():
        unused.close()


REFUSALS = {
    "OOM": ((("CONFIG", "SET", "maxmemory", "1"),), (("CONFIG", "SET", "maxmemory", "0"),)),
    "READONLY": ((("REPLICAOF", "127.0.0.1", "1"),), (("REPLICAOF", "NO", "ONE"),)),
    "NOREPLICAS": (
        (("CONFIG", "SET", "min-replicas-to-write", "1"),),
        (("CONFIG", "SET", "min-replicas-to-write", "0"),),
    ),
}


@pytest.mark.parametrize("refusal", REFUSALS)
async def test_s17_a_server_that_refuses_writes_is_told_from_one_that_takes_them(client, refusal):
    elevations = RedisElevations(client, KEYS)
    begin, end = REFUSALS[refusal]
    await elevations.check_writes()
    for command in begin:
        await client.execute_command(*command)
    await elevations.ping()
    with pytest.raises(StoreUnavailableError):
        await elevations.check_writes()
    for command in end:
        await client.execute_command(*command)
    await elevations.check_writes()


async def test_connections_that_do_not_close_in_time_do_not_fail_the_end_of_a_server(valkey):
    class Slow(Redis):
        async def aclose(self):
            await super().aclose()
            raise RedisTimeoutError("Timed out closing connection after 0.5")

    await close(Slow.from_url(valkey.url))
