"""Keys are rotated by the commands for that while a server process verifies codes (S6)."""

import asyncio
import json
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from itertools import cycle

import grpc
import pytest
from stepup_tests.e2e.enrolled import enrolled
from stepup_tests.e2e.guarded import configured
from stepup_tests.e2e.processes import PROGRAMS, environment
from stepup_tests.e2e.sql import executed
from stepup_tests.otp import code_at

from stepup.domain.elevation import LIFETIME
from stepup.domain.totp import TotpSecret
from stepup.v1 import actor_pb2, step_up_service_pb2, step_up_service_pb2_grpc

pytestmark = pytest.mark.e2e

# A code that arrives when its 30 seconds are over is still good; a key whose receipts are no longer
# good can be retired.
SETTINGS = '[verification]\nback_steps = 1\nretry_window = "PT1S"\n'
CONNECTIONS = 8
WAVE = 40
# In all, and one wave at the end: a code for each of 1,000 people.
WAVES = {"add": 4, "promote": 4, "rewrap": 12, "retire": 4}
PEOPLE = [f"user-{number}" for number in range(WAVE * (sum(WAVES.values()) + 1))]
SECRET = TotpSecret.generate()


@pytest.fixture
def arguments(tmp_path):
    return configured(tmp_path, SETTINGS)


@pytest.fixture
def server(start_server, arguments):
    """A server that finds everybody enrolled."""
    server = start_server(*arguments)
    enrolled(server, "acme", dict.fromkeys(PEOPLE, SECRET))
    return server


@pytest.fixture
async def next_wave(server):
    """Lets the next people give their codes, all at once; returns what became of them."""
    people = iter(PEOPLE)
    async with AsyncExitStack() as stack:
        channels = [
            await stack.enter_async_context(
                grpc.aio.insecure_channel(server.address, [("grpc.use_local_subchannel_pool", 1)])
            )
            for _ in range(CONNECTIONS)
        ]
        stubs = cycle(step_up_service_pb2_grpc.StepUpServiceStub(each) for each in channels)

        async def verified(person):
            code = code_at(SECRET.octets, datetime.now(UTC))
            server.secrets.note({"code": code})
            actor = actor_pb2.ActorContext(
                tenant_id="acme", user_id=person, session_id=f"{person}-monday"
            )
            request = step_up_service_pb2.VerifyOtpRequest(actor=actor, code=code)
            response = await next(stubs).VerifyOtp(request, timeout=60)
            return step_up_service_pb2.Outcome.Name(response.outcome)

        async def next_wave():
            calls = [verified(next(people)) for _ in range(WAVE)]
            return await asyncio.gather(*calls, return_exceptions=True)

        yield next_wave


@pytest.fixture
def keys(server, arguments, tmp_path):
    """Runs a command on the server's keys; returns what it prints."""

    async def keys(*command):
        process = await asyncio.create_subprocess_exec(
            *(PROGRAMS / "stepup", "keys", *command),
            *(*arguments, "--data-dir", server.data_dir),
            env=environment(tmp_path, server.temporary),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        output, errors = await process.communicate()
        assert process.returncode == 0, errors.decode()
        return output.decode()

    return keys


def ring(server):
    """The key ring as it is in the file."""
    return json.loads((server.data_dir / "keys.json").read_text())


def let_elevations_expire(server, key_id):
    """Write into the file that a key was demoted as long ago as elevations live."""
    file = ring(server)
    key = file["keys"][key_id]
    key["demoted_at"] = (datetime.fromisoformat(key["demoted_at"]) - LIFETIME).isoformat()
    (server.data_dir / "keys.json").write_text(json.dumps(file))


async def is_half_done(server, rewrap):
    """Wait until a rewrap has sealed something, but not everything, anew."""
    count = "SELECT count(DISTINCT key_id) FROM authenticators"
    while await executed(server.site.database_url, count) != [(2,)]:
        assert not rewrap.done()
        await asyncio.sleep(0.01)


@pytest.mark.slow
async def test_s6_a_rotation_during_1000_verifications_fails_none(server, next_wave, keys):
    old, outcomes = ring(server)["primary"], []

    async def during(name, *arguments):
        command = asyncio.create_task(keys(name, *arguments))
        if name == "rewrap":
            await is_half_done(server, command)
        for _ in range(WAVES[name]):
            outcomes.extend(await next_wave())
            await asyncio.wait([command], timeout=0.1)
        return await command

    await during("add")
    [new] = ring(server)["keys"].keys() - {old}
    await during("promote", new)
    await during("rewrap")
    status = {key["id"]: key for key in json.loads(await keys("status", "--json"))}
    for kind in ("authenticators", "reset_codes"):
        assert (status[old][kind], status[new][kind]) == (0, 1000)
    assert not status[old]["can_be_retired"]  # live elevations may have its MAC (S25)
    let_elevations_expire(server, old)
    await during("retire", old)
    outcomes.extend(await next_wave())

    assert len(outcomes) == len(PEOPLE) == 1000
    assert set(outcomes) == {"OUTCOME_VERIFIED"}
    assert ring(server)["keys"].keys() == {new}
