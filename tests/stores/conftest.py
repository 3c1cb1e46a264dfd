"""Redis: a fake, whose clock a test moves, a real server, servers with Sentinels, and a cluster."""

import pytest
from fakeredis import FakeAsyncRedis
from stepup_tests.fixtures import advance
from stepup_tests.valkey_cluster import valkey_cluster
from stepup_tests.valkey_sentinel import valkey_sentinel

from stepup.stores.embedded_valkey import EmbeddedValkey
from stepup.stores.redis import close, connect

__all__ = ["advance", "client", "cluster_client", "fake", "real", "sentinel_client", "valkey"]


@pytest.fixture(scope="module")
def valkey(tmp_path_factory):
    with EmbeddedValkey(tmp_path_factory.mktemp("valkey")) as valkey:
        yield valkey


@pytest.fixture
async def fake():
    """A server whose clock `advance` moves."""
    client = FakeAsyncRedis()
    await client.flushall()
    yield client
    await close(client)


@pytest.fixture
async def real(valkey):
    client = connect(valkey.url)
    await client.flushall()
    yield client
    await close(client)


@pytest.fixture(scope="module")
def sentinels(tmp_path_factory):
    with valkey_sentinel(tmp_path_factory.mktemp("sentinels")) as sentinels:
        yield sentinels


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with valkey_cluster(tmp_path_factory.mktemp("cluster"), replicas=False) as cluster:
        yield cluster


@pytest.fixture
async def sentinel_client(sentinels):
    client = connect(sentinels.redis_url)
    await client.flushall()
    yield client
    await close(client)


@pytest.fixture
async def cluster_client(cluster):
    client = connect(cluster.redis_url)
    await client.flushall()
    yield client
    await close(client)


@pytest.fixture(params=["fake", "real", "sentinel_client", "cluster_client"])
def client(request):
    return request.getfixturevalue(request.param)
