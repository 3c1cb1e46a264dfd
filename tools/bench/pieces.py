"""What one `VerifyOtp` costs, piece by piece.

The pieces run in this process, on the real stores, as many at a time as a server has in flight; how
long the processes have run is read before and after. The steps of the transaction are measured with
all steps before them: a step costs what it adds.
"""

import asyncio
import os
import time
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median
from uuid import uuid4

import structlog
from stepup_tests.otp import code_at

from stepup.domain.actor import CallerId
from stepup.domain.audit import EventKind
from stepup.domain.elevation import Outcome, Verification
from stepup.domain.totp import OtpCode, StepMatch, match
from stepup.keys.ring import KeyRing
from stepup.service.calls.context import Context
from stepup.service.policy.snapshots import Snapshots
from stepup.service.ports import RequestKey
from stepup.service.step_up.codes import OneTimeCodes
from stepup.service.step_up.elevated import Elevated
from stepup.service.step_up.verify_otp import VerifyOtp, elevate
from stepup.stores.redis import RedisElevations, RedisRecordedOutcomes, connect
from stepup.stores.sql import SqlDatabase
from stepup.system.clock import SystemClock
from stepup.telemetry.log_lines import LinesOfATurn, as_json_line
from tools.bench.h2load import IN_FLIGHT
from tools.bench.machine import OTHERS_CORE, SERVER_CORE
from tools.bench.servers import cpu_seconds

STEPS = (
    "begin, commit",
    "select the authenticator for update",
    "open the secret",
    "compare the code with three",
    "update the authenticator",
    "append to the audit chain: select for update, insert, update",
)
"""Of the transaction, in their order."""
APART = ("put the elevation", "claim the request, record its outcome", "log line")
"""What is not in it."""
WHOLE = "all of the use case"
_NOTHING = "nothing"
_USED_STEPS = range(2, 5)
"""The pieces use up these steps, of 1970: one in the warm-up, and one in each of two pieces."""
_WARM_UP_CALLS = 300


@dataclass(frozen=True)
class Cost:
    """Microseconds of processor time for each call."""

    service_us: float
    database_us: float

    def __sub__(self, other):
        return Cost(self.service_us - other.service_us, self.database_us - other.database_us)


@dataclass(frozen=True)
class Ground:
    """What the pieces work on."""

    directory: Path
    """For a log."""
    database_url: str
    """Where the people are enrolled."""
    store: str
    """Host and port of the store of elevations."""
    ring: KeyRing
    """What seals the secrets."""


def measure(ground, people, repetitions, database_pid):
    """What each piece costs, the median of so many measurements; `WHOLE` is among them.

    Args:
        ground: the stores.
        people: some for each repetition, and none of their codes is used.
        repetitions: how often each piece is measured.
        database_pid: the database server, where it is a process of its own.
    """

    async def run():
        database = SqlDatabase(ground.database_url)
        with (ground.directory / "log").open("wb") as log:
            async with connect(f"redis://{ground.store}/0") as client:
                pieces = Pieces(database, client, ground.ring, log, SystemClock())
                try:
                    return await _measure(pieces, people, repetitions, database_pid)
                finally:
                    await database.close()

    with _on_the_servers_core():
        return asyncio.run(run())


async def _measure(pieces, people, repetitions, database_pid):
    size = len(people) // repetitions
    works = pieces.works()
    costs: dict[str, list[Cost]] = {name: [] for name in works}
    await _each(works[STEPS[-1]], people[:_WARM_UP_CALLS])
    for number in range(repetitions):
        some = people[number * size : (number + 1) * size]
        for name, work in works.items():
            costs[name].append(await _cost(work, some, database_pid))
    medians = {
        name: Cost(
            median(cost.service_us for cost in measured),
            median(cost.database_us for cost in measured),
        )
        for name, measured in costs.items()
    }
    steps = ((step, medians[step] - medians[before]) for before, step in pairwise(works))
    added = {step: cost for step, cost in steps if step in STEPS}
    apart = {name: medians[name] - medians[_NOTHING] for name in (*APART, WHOLE)}
    return added | apart


async def _cost(work, people, database_pid):
    before = time.process_time(), _cpu_seconds(database_pid)
    await _each(work, people)
    after = time.process_time(), _cpu_seconds(database_pid)
    return Cost(
        *(1e6 * (now - then) / len(people) for now, then in zip(after, before, strict=True))
    )


async def _each(work, people):
    remaining = iter(people)

    async def some():
        for person in remaining:
            await work(person)

    await asyncio.gather(*(some() for _ in range(IN_FLIGHT)))


def _cpu_seconds(pid):
    return 0.0 if pid is None else cpu_seconds(pid)


@contextmanager
def _on_the_servers_core():
    os.sched_setaffinity(0, {SERVER_CORE})
    try:
        yield
    finally:
        os.sched_setaffinity(0, {OTHERS_CORE})


class Pieces:
    """The use case and its pieces, each for one person."""

    def __init__(self, database, client, ring, log, clock) -> None:
        self._clock = clock
        self._database = database
        self._elevations = RedisElevations(client, ring)
        self._outcomes = RedisRecordedOutcomes(client, ring)
        self._ring = ring
        elevated = Elevated(self._elevations, Snapshots(database, clock), database)
        codes = OneTimeCodes(database, self._outcomes, ring)
        self._verify = VerifyOtp(codes, elevated)
        self._log = structlog.wrap_logger(
            LinesOfATurn(log), processors=[structlog.processors.add_log_level, as_json_line]
        )

    def works(self):
        """All of them by name, in the order in which the steps add up."""
        steps = {name: self._steps(number) for number, name in enumerate(STEPS, 1)}
        apart = dict(zip(APART, (self._put, self._remember, self._say), strict=True))
        return {_NOTHING: self._nothing, **steps, **apart, WHOLE: self._whole}

    async def _nothing(self, person):
        """What the measurement itself costs."""
        self._context(person)

    def _steps(self, number):
        """The first so many steps of the transaction."""

        async def run(person):
            context = self._context(person)
            async with self._database.transaction() as records:
                transaction = _Transaction(records, context, self._ring)
                for step in transaction.steps[: number - 1]:
                    await step()

        return run

    async def _put(self, person):
        await self._elevations.replace(elevate(self._context(person), "e-1"))

    async def _remember(self, person):
        context = self._context(person)
        key = RequestKey(context.actor.tenant_id, context.actor.user_id, uuid4())
        fingerprint = self._ring.fingerprint("bench", context.actor.session_hash, "000000")
        await self._outcomes.claim(key, fingerprint)
        elevation = elevate(context, "e-1")
        await self._outcomes.record(key, fingerprint, Verification(Outcome.VERIFIED, elevation))

    async def _say(self, person):
        context = self._context(person)
        self._log.info(
            "call",
            method="stepup.v1.StepUpService/VerifyOtp",
            request_id=context.request_id,
            peer="ipv4:127.0.0.1:50000",
            caller=context.caller,
            code="OK",
            reason=None,
            duration_ms=12.345,
        )

    async def _whole(self, person):
        context = self._context(person)
        code = OtpCode(code_at(person.secret.octets, context.now))
        verification = await self._verify(context, code, uuid4())
        is_right = verification.outcome is Outcome.VERIFIED
        assert is_right or person.has_dead_code(context.now, _USED_STEPS), verification

    def _context(self, person):
        now = self._clock.now()
        return Context(CallerId("console"), person.actor, now, uuid4().hex, (), {})


class _Transaction:
    """The steps that `VerifyOtp` takes between begin and commit, for a code that is right."""

    def __init__(self, records, context, ring) -> None:
        self._records = records
        self._context = context
        self._ring = ring
        self.steps = (self._find, self._open, self._compare, self._save, self._append)

    async def _find(self):
        actor = self._context.actor
        self._found = await self._records.authenticators.find_for_update(
            actor.tenant_id, actor.user_id
        )

    async def _open(self):
        found = self._found
        place = found.tenant_id, found.user_id, found.enrollment_id
        self._secret = self._ring.open(found.sealed_secret, *place)

    async def _compare(self):
        used_step = self._found.last_step
        match(self._secret, OtpCode("000000"), self._context.now, used_step=used_step)

    async def _save(self):
        # A step that is used up, but not the one of now, which is left for the whole.
        matched, context = StepMatch(self._found.last_step + 1), self._context
        self._after, _ = self._found.attempted(matched, context.actor.session_hash, context.now)
        await self._records.authenticators.save(self._after)

    async def _append(self):
        event = self._context.event(
            EventKind.OTP_VERIFIED,
            enrollment_id=self._after.enrollment_id,
            step=self._after.last_step,
        )
        await self._records.audit.append(event)
