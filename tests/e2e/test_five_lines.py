"""The five lines of README.md: whatever happens to the server, the action does not run."""

import asyncio
import os
import re
import signal
from contextlib import asynccontextmanager

import pytest
from stepup_tests.cutting_proxy import cutting_proxy
from stepup_tests.e2e.serving import serving
from stepup_tests.e2e.topologies import DIRECT
from stepup_tests.places import ROOT

from stepup.client import UnavailableError

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.topologies(*DIRECT, reason="Envoy sends the call to another worker"),
]

[PROGRAM] = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)


@pytest.fixture(scope="module")
def killed_server(tmp_path_factory):
    """A server for all tests, which kill it."""
    with serving(tmp_path_factory.mktemp("five-lines")) as server:
        yield server


@pytest.fixture
def server(killed_server):
    if not killed_server.is_running:
        killed_server.start()
    return killed_server


@pytest.fixture
def run(monkeypatch):
    """Runs the five lines against an address; appends the hosts of the action to `ran`."""

    async def run(address, ran, seconds="30"):
        monkeypatch.setenv("STEPUP_CLIENT_TARGET", address)
        monkeypatch.setenv("STEPUP_CLIENT_TIMEOUT", seconds)
        names = {"run_osquery": ran.append}
        try:
            await asyncio.to_thread(exec, PROGRAM, names)
        finally:
            names["stepup"].close()

    return run


def test_five_lines_protect_an_action():
    assert len([line for line in PROGRAM.splitlines() if line]) == 5


async def test_the_action_runs_if_it_is_allowed(server, run):
    ran = []
    await run(server.address, ran)
    assert ran == ["host-7"]


@asynccontextmanager
async def cut(server):
    async with cutting_proxy(server.address) as (proxy, port):
        proxy.cuts = 100
        yield f"127.0.0.1:{port}"
        assert 0 < proxy.has_cut < 100


@asynccontextmanager
async def frozen(server):
    os.kill(server.pid, signal.SIGSTOP)
    try:
        yield server.address
    finally:
        os.kill(server.pid, signal.SIGCONT)


@asynccontextmanager
async def killed(server):
    server.kill()
    yield server.address


@asynccontextmanager
async def killed_in_the_call(server):
    os.kill(server.pid, signal.SIGSTOP)  # the call has arrived, and has no answer
    asyncio.get_running_loop().call_later(0.2, server.kill)
    yield server.address


@pytest.mark.parametrize(
    ("fault", "seconds"),
    [(cut, "30"), (frozen, "0.5"), (killed, "30"), (killed_in_the_call, "30")],
    ids=lambda value: getattr(value, "__name__", ""),
)
async def test_the_action_does_not_run_if_the_server_is(server, run, fault, seconds):
    ran = []
    async with fault(server) as address:
        with pytest.raises(UnavailableError):
            await run(address, ran, seconds)
    assert not ran
