"""Servers to drive, and programs to drive them with."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from uuid import uuid4

import pytest
from stepup_tests.e2e.clients import BufCurl, Client, GrpCurl
from stepup_tests.e2e.collector import Collector, collecting
from stepup_tests.e2e.processes import ServerProcess
from stepup_tests.e2e.serving import serving
from stepup_tests.e2e.topologies import TOPOLOGY, Session
from stepup_tests.postgres import directory_of_session

StartServer = Callable[..., ServerProcess]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for marker in item.iter_markers("topologies"):
            if TOPOLOGY not in marker.args:
                item.add_marker(
                    pytest.mark.skip(reason=f"not on {TOPOLOGY}: {marker.kwargs['reason']}")
                )


@pytest.fixture(scope="session", autouse=True)
def topology(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[None]:
    """What all servers stand on."""
    with Session(directory_of_session(request.config, tmp_path_factory)):
        yield


@pytest.fixture(scope="session")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """The server of all tests that leave it running; each has a tenant of its own."""
    with serving(tmp_path_factory.mktemp("shared")) as server:
        yield server


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    """A server of the test's own, to kill for instance."""
    with serving(tmp_path) as own:
        yield own


@pytest.fixture
def start_server(tmp_path: Path) -> Iterator[StartServer]:
    """Starts a server of the test's own with further arguments."""
    with ExitStack() as stack:
        yield lambda *arguments, **options: stack.enter_context(
            serving(tmp_path, *arguments, **options)
        )


@pytest.fixture
def collector() -> Iterator[Collector]:
    """Where servers may export traces to."""
    with collecting() as collector:
        yield collector


@pytest.fixture(params=[GrpCurl, BufCurl], ids=["grpcurl", "buf"])
def client(request: pytest.FixtureRequest, shared_server: ServerProcess) -> Client:
    """Each of the programs, one after the other."""
    return request.param(shared_server)


@pytest.fixture
def grpcurl(shared_server: ServerProcess) -> GrpCurl:
    """One program, where the other could tell nothing new."""
    return GrpCurl(shared_server)


@pytest.fixture
def tenant() -> str:
    """A business that nobody has seen before."""
    return f"tenant-{uuid4().hex[:12]}"
