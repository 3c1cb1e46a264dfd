"""Calls that wait for challenges: their memory, how soon they learn an answer, checks beside."""

import asyncio
import sys
import time
from contextlib import AsyncExitStack
from statistics import quantiles

import grpc

from stepup.stores.sql import upgrade
from stepup.v1 import actor_pb2, step_up_service_pb2
from stepup.v1 import challenge_service_pb2 as challenges
from stepup.v1.challenge_service_pb2_grpc import ChallengeServiceStub
from stepup.v1.step_up_service_pb2_grpc import StepUpServiceStub
from tools.bench.machine import OTHERS_CORE, SERVER_CORE
from tools.bench.servers import cpu_seconds, memory, serving

# The benchmark is one caller, and a worker lets one caller wait 500 times.
_WITHOUT_LIMIT = (
    "from stepup.service.challenges import waits; waits.MAX_OF_CALLER = 10**6;"
    " from stepup.__main__ import main; main()"
)
_PER_CONNECTION = 90
"""A server accepts 100 calls on a connection."""
_PER_TENANT = 500
_AT_ONCE = 8
_ANSWERS = 1000
"""How many of the waits get an answer, at most."""
_ANSWERS_PER_SECOND = 40


def measure(directory, url, *, waits, seconds):
    """Wait at one server, and answer at the same one and at another one.

    Args:
        directory: an empty one.
        url: the database, empty.
        waits: how many calls wait.
        seconds: how long checks are made, each time.
    """
    asyncio.run(upgrade(url))
    with (
        _server(directory / "waiting", url, SERVER_CORE) as waited_at,
        _server(directory / "other", url, OTHERS_CORE) as other,
    ):
        return asyncio.run(_measure(waited_at, other, waits, seconds))


def _server(directory, url, core):
    data = directory / "data"
    data.mkdir(parents=True, mode=0o700)
    config = directory / "stepup.toml"
    config.write_text(f'[storage]\ndatabase_url = "{url}"\n')
    arguments = ("serve", "--listen", "127.0.0.1:0", "--insecure", "--data-dir", data)
    command = (sys.executable, "-c", _WITHOUT_LIMIT, *arguments, "--config", config)
    return serving(command, directory, core)


async def _measure(waited_at, other, waits, seconds):
    async with AsyncExitStack() as stack:

        async def channel(server):
            # Else all channels share one connection.
            options = (("grpc.use_local_subchannel_pool", 1),)
            made = grpc.aio.insecure_channel(server.address, options=options)
            return await stack.enter_async_context(made)

        checks = StepUpServiceStub(await channel(waited_at))
        answering = {
            "same worker": ChallengeServiceStub(await channel(waited_at)),
            "another worker": ChallengeServiceStub(await channel(other)),
        }
        await _checks(checks, seconds)  # warm
        without = [await _checks(checks, seconds)]
        stubs = [
            ChallengeServiceStub(await channel(waited_at)) for _ in range(0, waits, _PER_CONNECTION)
        ]
        requests = [await _create(answering["another worker"], number) for number in range(waits)]
        before = memory(waited_at.pid).own_bytes
        calls = []
        for number, request in enumerate(requests):
            call = stubs[number // _PER_CONNECTION].AwaitChallenge(request)
            await call.read()
            calls.append(call)
        per_wait = (memory(waited_at.pid).own_bytes - before) / waits
        with_waits = [await _checks(checks, seconds)]
        began, used = time.monotonic(), cpu_seconds(waited_at.pid)
        await asyncio.sleep(seconds)
        idle = (cpu_seconds(waited_at.pid) - used) / (time.monotonic() - began)
        halves = {
            "another worker": range(0, min(waits, _ANSWERS), 2),
            "same worker": range(1, min(waits, _ANSWERS), 2),
        }
        notices = {
            where: await _answer(answering[where], [(requests[n], calls[n]) for n in half])
            for where, half in halves.items()
        }
        without.append(await _checks(checks, seconds))
    return {
        "waits": waits,
        "kb_per_wait": round(per_wait / 1e3, 1),
        "cores_used_by_waits": round(idle, 3),
        "notice_ms": {where: _summary(found) for where, found in notices.items()},
        "checks_without": without,
        "checks_with": with_waits,
    }


async def _create(stub, number):
    actor = _actor(f"tenant-{number // _PER_TENANT}", f"user-{number}")
    item = challenges.NewChallengeItem(
        operation="response.run_osquery", target="host-1", label="Host 1"
    )
    created = await stub.CreateChallenge(
        challenges.CreateChallengeRequest(actor=actor, items=[item], message="Find the file")
    )
    return challenges.AwaitChallengeRequest(
        actor=actor, challenge_id=created.challenge.challenge_id
    )


async def _answer(stub, waiting):
    """Decline challenges at a steady pace; return the seconds until each wait got the state."""
    found = []

    async def decline(request, call):
        reading = asyncio.ensure_future(call.read())
        declined = await stub.DeclineChallenge(
            challenges.DeclineChallengeRequest(
                actor=request.actor, challenge_id=request.challenge_id
            )
        )
        answered = time.monotonic()
        assert (await reading).challenge.state == declined.challenge.state
        found.append(time.monotonic() - answered)

    async with asyncio.TaskGroup() as group:
        for request, call in waiting:
            group.create_task(decline(request, call))
            await asyncio.sleep(1 / _ANSWERS_PER_SECOND)
    return found


async def _checks(stub, seconds):
    """Make checks one after the other, some at once; return how many a second, and their p99."""
    ending, took = time.monotonic() + seconds, []
    request = step_up_service_pb2.CheckStepUpRequest(
        actor=_actor("acme", "bob"), operation="response.run_osquery"
    )

    async def check():
        while time.monotonic() < ending:
            began = time.monotonic()
            await stub.CheckStepUp(request)
            took.append(time.monotonic() - began)

    await asyncio.gather(*(check() for _ in range(_AT_ONCE)))
    return {"per_second": round(len(took) / seconds), "p99_ms": _summary(took)["p99"]}


def _summary(seconds):
    cuts = quantiles(seconds, n=100)
    return {
        "p50": round(1e3 * cuts[49], 1),
        "p99": round(1e3 * cuts[98], 1),
        "max": round(1e3 * max(seconds), 1),
    }


def _actor(tenant_id, user_id):
    return actor_pb2.ActorContext(
        tenant_id=tenant_id, user_id=user_id, session_id=f"session-of-{user_id}"
    )
