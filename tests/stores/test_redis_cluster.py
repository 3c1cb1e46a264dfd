"""What only a real cluster shows: whom the loss of a server concerns (S17)."""

import asyncio
from uuid import uuid4

import pytest
from stepup_tests.keys import fresh_ring
from stepup_tests.valkey_cluster import valkey_cluster
from stepup_tests.valkey_server import wait_until

from stepup.domain.actor import TenantId, UserId
from stepup.domain.elevation import Outcome, Verification
from stepup.domain.errors import StoreUnavailableError
from stepup.service.ports import RequestKey
from stepup.stores.redis import RedisRecordedOutcomes, connect
from stepup.stores.redis.batched_reads import reads_of
from stepup.stores.redis.keyspace import outcome_key

NAMES = [f"{{{number}}}" for number in range(60)]
FINGERPRINT = b"fingerprint"
KEYS = fresh_ring()


@pytest.fixture
def cluster(tmp_path):
    with valkey_cluster(tmp_path, replicas=False) as cluster:
        yield cluster


@pytest.fixture
async def client(cluster):
    client = connect(cluster.redis_url)
    yield client
    await client.aclose()


def keys(name):
    return [f"e{name}", f"r{name}"]


async def read_all(reads, names):
    return await asyncio.gather(*(reads.read(keys(name)) for name in names), return_exceptions=True)


def parted(cluster, server):
    """The names that lie on a server, and the others."""
    of_server = {name for name in NAMES if cluster.master_of(f"e{name}") is server}
    assert of_server
    assert of_server != set(NAMES)
    return sorted(of_server), sorted(set(NAMES) - of_server)


def a_request_on(cluster, server):
    while True:
        key = RequestKey(TenantId("acme"), UserId(uuid4().hex), uuid4())
        if cluster.master_of(outcome_key(key)) is server:
            return key


@pytest.mark.parametrize("lose", ["kill", "freeze"])
async def test_s17_a_lost_server_concerns_its_own_slots_only(cluster, client, lose):
    reads, outcomes = reads_of(client), RedisRecordedOutcomes(client, KEYS)
    lost, others = parted(cluster, cluster.servers[2])
    request = a_request_on(cluster, cluster.servers[0])
    requests = [a_request_on(cluster, server) for server in cluster.servers]
    await read_all(reads, NAMES)
    getattr(cluster.servers[2], lose)()
    for _ in range(5):
        of_lost = asyncio.create_task(read_all(reads, lost))
        claimed = asyncio.gather(
            *(outcomes.claim(request, FINGERPRINT) for request in requests), return_exceptions=True
        )
        assert await read_all(reads, others) == [[None, None]] * len(others)
        await outcomes.record(request, FINGERPRINT, Verification(Outcome.REJECTED))
        # A server that is killed refuses at once; a frozen one is given up after a while.
        assert lose == "kill" or not of_lost.done()
        assert {type(outcome) for outcome in await of_lost} == {StoreUnavailableError}
        assert type((await claimed)[2]) is StoreUnavailableError
    cluster.servers[2].thaw()


async def test_reads_alone_find_the_new_master(tmp_path):
    with valkey_cluster(tmp_path) as cluster:
        client = connect(cluster.redis_url)
        reads = reads_of(client)
        await client.set("e{x}", "value")
        cluster.master_of("e{x}").client.wait(1, 5000)
        assert await reads.read(["e{x}"]) == [b"value"]
        cluster.kill_master("e{x}")
        async with asyncio.timeout(20):
            assert await once_available(lambda: reads.read(["e{x}"])) == [b"value"]
        await client.aclose()


async def once_available(call):
    while True:
        try:
            return await call()
        except StoreUnavailableError:
            await asyncio.sleep(0.05)


async def test_more_calls_than_connections_wait_for_their_turn(cluster):
    client = connect(cluster.redis_url, max_connections=2)
    outcomes = RedisRecordedOutcomes(client, KEYS)
    # On a busy machine all have to end within the second after which a call gives up.
    requests = [a_request_on(cluster, cluster.servers[0]) for _ in range(20)]
    try:
        claims = await asyncio.gather(*(outcomes.claim(each, FINGERPRINT) for each in requests))
        assert claims == [None] * 20
        connections = cluster.servers[0].client.client_list(_type="normal")
        assert len(connections) <= 2 + 2  # the test's own, and that which is asked about slots
    finally:
        await client.aclose()


async def test_a_call_that_is_given_up_closes_no_connection_of_others(cluster, client):
    """redis-py would close all, when it is interrupted as it asks for the slots."""
    outcomes, reads = RedisRecordedOutcomes(client, KEYS), reads_of(client)
    _, others = parted(cluster, cluster.servers[2])
    on_lost = a_request_on(cluster, cluster.servers[2])
    await read_all(reads, NAMES)
    before = {each["id"] for each in cluster.servers[0].client.client_list(_type="normal")}
    cluster.servers[2].freeze()
    for _ in range(3):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await outcomes.claim(on_lost, FINGERPRINT)
    assert await read_all(reads, others) == [[None, None]] * len(others)
    after = {each["id"] for each in cluster.servers[0].client.client_list(_type="normal")}
    assert before <= after
    cluster.servers[2].thaw()


async def test_where_no_server_is_it_is_unavailable():
    client = connect("redis+cluster://127.0.0.1:1,127.0.0.1:2")
    outcomes = RedisRecordedOutcomes(client, KEYS)
    for _ in range(2):
        with pytest.raises(StoreUnavailableError):
            await outcomes.claim(RequestKey(TenantId("a"), UserId("b"), uuid4()), FINGERPRINT)
        with pytest.raises(StoreUnavailableError):
            await reads_of(client).read(["e{x}"])
    await client.aclose()


async def test_a_cluster_that_is_found_down_is_used_again(cluster, client):
    """It then answers no command at all; redis-py closes all connections."""
    reads, request = reads_of(client), a_request_on(cluster, cluster.servers[0])
    await read_all(reads, NAMES)
    for server in cluster.servers:
        server.client.config_set("cluster-require-full-coverage", "yes")
    cluster.servers[2].kill()
    wait_until(lambda: _says_it_is_down(cluster.servers[0]), "the cluster is down")
    outcomes = await read_all(reads, NAMES)
    assert {type(outcome) for outcome in outcomes} == {StoreUnavailableError}
    with pytest.raises(StoreUnavailableError):
        await RedisRecordedOutcomes(client, KEYS).claim(request, FINGERPRINT)
    cluster.servers[2].start()
    for name in NAMES:
        async with asyncio.timeout(20):
            assert await once_available(lambda name=name: reads.read(keys(name))) == [None, None]


def _says_it_is_down(server):
    return server.client.execute_command("CLUSTER INFO")["cluster_state"] == "fail"
