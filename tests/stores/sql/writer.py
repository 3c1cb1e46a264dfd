"""A program that commits pairs of records, says so, and is killed.

With a limit of file size as its argument it writes until the disk is full, and once more when there
is room again.
"""

import asyncio
import os
import resource
import signal
import sys
from datetime import UTC, datetime

from stepup.domain.actor import CallerId, TenantId, UserId
from stepup.domain.audit import Event, EventKind
from stepup.domain.changes import PolicyChanged
from stepup.domain.errors import StoreUnavailableError
from stepup.stores.sql import SqlDatabase

ACME = TenantId("acme")
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


async def write_pair(records):
    details = {"padding": "x" * 500}
    event = Event(
        ACME, EventKind.POLICY_CHANGED, NOW, CallerId("c"), UserId("alice"), details=details
    )
    chained = await records.audit.append(event)
    await records.changes.announce(PolicyChanged(ACME, chained.sequence), NOW)
    return chained.sequence


def say(word):
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()


async def commit(database):
    async with database.transaction() as records:
        sequence = await write_pair(records)
    say(sequence)


async def until_killed(database):
    while True:
        await commit(database)


async def half(database):
    async with database.transaction() as records:
        await write_pair(records)
        say("half")
        await asyncio.Event().wait()


async def until_full(database, limit):
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        await until_killed(database)
    except StoreUnavailableError:
        say("full")
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    await commit(database)
    await database.close()


async def main(mode):
    database = SqlDatabase(os.environ["STEPUP_TEST_URL"])
    if mode == "until-killed":
        await until_killed(database)
    elif mode == "half":
        await half(database)
    else:
        await until_full(database, int(mode))


asyncio.run(main(sys.argv[1]))
