"""Redis twice: a fake, whose clock a test moves, and a real server."""

import pytest
from fakeredis import FakeAsyncRedis
from support.fixtures import advance

from stepup.stores.embedded_valkey import EmbeddedValkey
from stepup.stores.redis import connect

__all__ = ["advance", "client", "fake", "real", "valkey"]


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
    await client.aclose()


@pytest.fixture
async def real(valkey):
    client = connect(valkey.url)
    await client.flushall()
    yield client
    await client.aclose()


@pytest.fixture(params=["fake", "real"])
def client(request):
    return request.getfixturevalue(request.param)
