import pytest
from stepup_tests.client.scripted import either_client, scripted_server


@pytest.fixture
def server():
    with scripted_server() as server:
        yield server


@pytest.fixture(params=["async", "sync"])
def kind(request):
    return request.param


@pytest.fixture
async def stepup(kind, server):
    async with either_client(kind, server.address, timeout=5) as client:
        yield client
