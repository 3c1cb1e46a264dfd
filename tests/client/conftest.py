import pytest
from stepup_tests.client.either_client import either_client
from stepup_tests.client.scripted_server import NO_RESENDS, scripted_server


@pytest.fixture
def server():
    with scripted_server() as server:
        yield server


@pytest.fixture(params=["async", "sync"])
def kind(request):
    return request.param


@pytest.fixture
async def stepup(kind, server):
    """A client whose channel resends nothing, so that failures are quick."""
    async with either_client(kind, server.address, options=NO_RESENDS) as client:
        yield client
