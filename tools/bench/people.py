"""How fast the people of a large business are listed: over gRPC, from PostgreSQL."""

import asyncio
import sys
import time
from datetime import UTC, datetime, timedelta

import grpc
from sqlalchemy import insert, literal, select, text
from sqlalchemy.ext.asyncio import create_async_engine

from stepup.domain.actor import SessionHash, TenantId, UserId
from stepup.domain.authenticator import Authenticator, ResetCodeRecord, SealedSecret
from stepup.domain.enrollment import PendingEnrollment
from stepup.domain.person import MAX_ASKED
from stepup.domain.policy import Policy
from stepup.domain.throttle import FAILURES_UNTIL_SUSPENSION, Throttle
from stepup.domain.totp import Label
from stepup.stores.sql import SqlDatabase, tables, upgrade
from stepup.v1 import actor_pb2
from stepup.v1 import people_service_pb2 as people
from stepup.v1.people_service_pb2_grpc import PeopleServiceStub
from tools.bench.figures import percentile
from tools.bench.machine import SERVER_CORE
from tools.bench.servers import serving

TENANT = TenantId("acme")
_OTHER_TENANTS = 9
"""Businesses of the same size in the same tables."""
_DAYS = 30
_AT_ONCE = 1000
_SEALED = SealedSecret("key", bytes(64))
_LOCKED = Throttle(5, (), datetime.now(UTC) + timedelta(hours=1))
_SUSPENDED = Throttle(FAILURES_UNTIL_SUSPENSION, (), datetime.now(UTC))
_ADMINISTRATOR = actor_pb2.ActorContext(
    tenant_id=TENANT, user_id="root", session_id="s-1", role=actor_pb2.ROLE_MASTER_ADMINISTRATOR
)


def measure(directory, url, *, number, rounds):
    """Generate a month of a business, and read all pages of every list at a server.

    Of ten people, seven have an authenticator, two were asked daily and never had one, and one was
    asked daily and had one before. One in a hundred is locked, and one in a thousand suspended; one
    in two hundred has an open wizard.

    Args:
        directory: an empty one.
        url: the database, empty.
        number: how many people the business has.
        rounds: how often each page is read.
    """
    asyncio.run(_fill(url, number))
    data = directory / "data"
    data.mkdir(parents=True, mode=0o700)
    config = directory / "stepup.toml"
    config.write_text(f'[storage]\ndatabase_url = "{url}"\n')
    arguments = ("serve", "--listen", "127.0.0.1:0", "--insecure", "--data-dir", data)
    command = (sys.executable, "-m", "stepup", *arguments, "--config", config)
    with serving(command, directory, SERVER_CORE) as server:
        read = asyncio.run(_read_lists(server.address, rounds))
    return {"people": number, "tenants": 1 + _OTHER_TENANTS, **read}


async def _fill(url, number):
    await upgrade(url)
    now = datetime.now(UTC)
    users = {UserId(f"user-{each:05}@acme.example"): each for each in range(number)}
    asked = [user for user, each in users.items() if each % 10 >= 7]
    database = SqlDatabase(url)
    for some in _portions(list(users)):
        async with database.transaction() as records:
            for user in some:
                await _store(records, user, users[user], now)
    for day in range(_DAYS, 0, -1):
        at = now - timedelta(days=day)
        for some in _portions(asked):
            async with database.transaction() as records:
                await records.asked.note(TENANT, dict.fromkeys(some, at), MAX_ASKED)
    async with database.transaction() as records:
        policy = Policy(TENANT, True, {}, 1, now, enroll_by=now + timedelta(days=1))
        await records.policies.save(policy)
    await database.close()
    await _copy(url)


def _portions(values):
    return (values[first : first + _AT_ONCE] for first in range(0, len(values), _AT_ONCE))


async def _store(records, user, number, now):
    place = (TENANT, user, "enrollment-1")
    if number % 10 < 7:
        throttle = (
            _SUSPENDED if number % 1000 == 1 else _LOCKED if number % 100 == 1 else Throttle()
        )
        await records.authenticators.add(Authenticator(*place, _SEALED, now, 1, throttle))
        await records.reset_codes.add(ResetCodeRecord(*place, _SEALED, bytes(32)))
    if number % 10 not in (7, 8):
        await records.accounts.set_mfa_enabled(TENANT, user, enabled=number % 10 < 7)
    if number % 200 == 8:
        wizard = PendingEnrollment(
            TENANT, user, SessionHash("a" * 32), "e", _SEALED, Label("label"), _LOCKED.locked_until
        )
        await records.pending.replace(wizard)


async def _copy(url):
    """Give the people to the other tenants, too; and collect the statistics, as PostgreSQL does."""
    engine = create_async_engine(
        url.replace("postgresql:", "postgresql+asyncpg:"), isolation_level="AUTOCOMMIT"
    )
    async with engine.connect() as connection:
        for table in (
            *(tables.authenticators, tables.reset_codes, tables.accounts, tables.policies),
            *(tables.pending_enrollments, tables.asked_people),
        ):
            rest = [column for column in table.c if column.name != "tenant_id"]
            for other in range(_OTHER_TENANTS):
                rows = select(literal(f"tenant-{other}"), *rest).where(table.c.tenant_id == TENANT)
                names = ["tenant_id", *(column.name for column in rest)]
                await connection.execute(insert(table).from_select(names, rows))
        await connection.execute(text("VACUUM ANALYZE"))
    await engine.dispose()


async def _read_lists(address, rounds):
    async with grpc.aio.insecure_channel(address) as channel:
        stub = PeopleServiceStub(channel)
        states = {
            name.removeprefix("PERSON_STATE_").lower() if state else "all": state
            for name, state in people.PersonState.items()
        }
        # A worker compiles its statements when it first needs them.
        cold = [(await _read_page(stub, _request(state)))[1] for state in states.values()]
        lists = {name: await _read_list(stub, state, rounds) for name, state in states.items()}
        return {"first_pages_of_a_new_worker_ms": _figures(cold), "lists": lists}


async def _read_list(stub, state, rounds):
    """Read all pages of a list, one after the other. The first has the counts as well."""
    first, further, found = [], [], 0
    for _ in range(rounds):
        request, found = _request(state), 0
        while True:
            page, took = await _read_page(stub, request)
            (further if request.page_token else first).append(took)
            found += len(page.people)
            if not page.next_page_token:
                break
            request.page_token = page.next_page_token
    lists = {"people": found, "first_page_ms": _figures(first)}
    return lists | ({"further_pages_ms": _figures(further)} if further else {})


def _request(state):
    return people.ListPeopleRequest(actor=_ADMINISTRATOR, state=state)


async def _read_page(stub, request):
    """Read a page; returns it and the milliseconds that it took."""
    began = time.perf_counter()
    page = await stub.ListPeople(request, timeout=30)
    return page, 1e3 * (time.perf_counter() - began)


def _figures(milliseconds):
    return {
        "pages": len(milliseconds),
        "p50": round(percentile(milliseconds, 50), 1),
        "p95": round(percentile(milliseconds, 95), 1),
        "max": round(max(milliseconds), 1),
    }
