"""How a server starts and serves after many sign-outs, while more of them arrive (S27)."""

import asyncio
import time
from datetime import UTC, datetime, timedelta

import grpc
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from stepup.stores.sql import upgrade
from stepup.v1 import actor_pb2, step_up_service_pb2, step_up_service_pb2_grpc
from tools.bench.machine import SERVER_CORE
from tools.bench.servers import memory, serving

_PER_STATEMENT = 10_000
_ROW = text(
    "INSERT INTO changes (created_at, kind, tenant_id, user_id, session_hash, through) VALUES"
    " (:at, 'session_revoked', 'acme', :user, :session, :at)"
)
SPREADS = (timedelta(minutes=14), timedelta(hours=3))
"""All while elevations may still live, and as long as the feed keeps them by default."""
_CHECKS_PER_SECOND = 20
_SIGN_OUTS_PER_SECOND = 100


def measure(directory, url, command, *, sign_outs, within, seconds):
    """Start a server on a database that holds sign-outs; check and sign out while it serves.

    Args:
        directory: an empty one.
        url: the database, empty and reached by `command`.
        command: starts the server.
        sign_outs: how many the change feed holds, evenly spread.
        within: the time before the start that they are spread over.
        seconds: how long checks and sign-outs are made.
    """
    asyncio.run(_fill(url, sign_outs, within))
    began = time.monotonic()
    with serving(command, directory, SERVER_CORE) as server:
        started = time.monotonic() - began
        resident = memory(server.pid).resident_bytes
        latencies, refused, made = asyncio.run(_load(server.address, seconds))
        later = memory(server.pid).resident_bytes
    return {
        "sign_outs": sign_outs,
        "within_minutes": within.total_seconds() / 60,
        "start_seconds": round(started, 2),
        "resident_mb_after_start": round(resident / 1e6),
        "resident_mb_at_end": round(later / 1e6),
        "checks": len(latencies),
        "checks_refused": refused,
        "sign_outs_meanwhile": made,
        "median_check_ms": round(1e3 * sorted(latencies)[len(latencies) // 2], 1),
        "slowest_check_ms": round(1e3 * max(latencies), 1),
    }


async def _fill(url, sign_outs, within):
    await upgrade(url)
    asynchronous = url.replace("sqlite:", "sqlite+aiosqlite:").replace(
        "postgresql:", "postgresql+asyncpg:"
    )
    engine = create_async_engine(asynchronous)
    now = datetime.now(UTC)
    async with engine.begin() as connection:
        for first in range(0, sign_outs, _PER_STATEMENT):
            rows = [
                {
                    "at": _instant(now - within * (1 - number / sign_outs), url),
                    "user": f"user-{number % 50_000}",
                    "session": f"{number:043d}",
                }
                for number in range(first, min(first + _PER_STATEMENT, sign_outs))
            ]
            await connection.execute(_ROW, rows)
    await engine.dispose()


def _instant(at, url):
    # As the column type `Instant` writes it.
    return at.replace(tzinfo=None).isoformat(" ") if url.startswith("sqlite:") else at


async def _load(address, seconds):
    async with grpc.aio.insecure_channel(address) as channel:
        stub = step_up_service_pb2_grpc.StepUpServiceStub(channel)
        ending = time.monotonic() + seconds
        signing_out = asyncio.create_task(_sign_out(stub, ending))
        latencies, refused = [], 0
        while time.monotonic() < ending:
            asked = time.monotonic()
            try:
                await stub.CheckStepUp(_check(), timeout=30)
            except grpc.aio.AioRpcError:
                refused += 1
            latencies.append(time.monotonic() - asked)
            await asyncio.sleep(1 / _CHECKS_PER_SECOND)
        return latencies, refused, await signing_out


async def _sign_out(stub, ending):
    made = 0
    while time.monotonic() < ending:
        request = step_up_service_pb2.RevokeElevationsRequest(
            actor=_actor(f"user-{made}"),
            scope=step_up_service_pb2.REVOCATION_SCOPE_SESSION,
        )
        await stub.RevokeElevations(request, timeout=30)
        made += 1
        await asyncio.sleep(1 / _SIGN_OUTS_PER_SECOND)
    return made


def _check():
    return step_up_service_pb2.CheckStepUpRequest(
        actor=_actor("bob"), operation="response.run_osquery"
    )


def _actor(user_id):
    return actor_pb2.ActorContext(
        tenant_id="acme", user_id=user_id, session_id=f"session-of-{user_id}"
    )
