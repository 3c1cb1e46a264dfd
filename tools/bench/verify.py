"""How fast codes are verified, and what it costs: every call has the right code of somebody new."""

import asyncio
import os
import random
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime

from stepup_tests.e2e.authenticator_app import seconds_left_at_least

from stepup.keys.source import KeySource
from tools.bench import pieces
from tools.bench.callers import Console
from tools.bench.enrolled import attempts, enrol
from tools.bench.figures import Latencies
from tools.bench.flood import Call, flood
from tools.bench.h2load import CONNECTIONS, IN_FLIGHT
from tools.bench.pieces import Cost, Ground
from tools.bench.postgres import Postgres
from tools.bench.servers import cpu_seconds, serving
from tools.bench.variants import Access

VERIFIED = bytes((0x08, 1))
"""The outcome, which is the first field of the message."""
_METHOD = "/stepup.v1.StepUpService/VerifyOtp"
_WARM_UP_CALLS = 500
_WARM_UP = (1, 4, 16, IN_FLIGHT)
"""How many of them are in flight."""
_SLOWEST_RPS = 150
"""A measurement must end in the 30 seconds of a code: it begins only while they last."""
_SHORTEST_SECONDS = 10
_SPARE_PEOPLE = 10
"""They replace those whose code is dead when it is their turn (`Enrolled.has_dead_code`)."""


@dataclass(frozen=True)
class Case:
    """A database, and how many tenants share it: each has one audit chain, which is locked."""

    name: str
    on_postgres: bool
    tenants: int


ON_POSTGRES = Case("postgresql", on_postgres=True, tenants=100)
ON_SQLITE = Case("sqlite", on_postgres=False, tenants=100)
CASES = (ON_POSTGRES, Case("postgresql-one-tenant", on_postgres=True, tenants=1), ON_SQLITE)


@dataclass(frozen=True)
class Effort:
    """How long is measured."""

    repetitions: int
    calls: int
    """In each repetition, each with a person of its own."""
    pieces: int
    """How often each piece is measured in one, by as many people."""


@dataclass(frozen=True)
class Run:
    """One load."""

    rps: float
    latencies: Latencies
    cost: Cost


@dataclass(frozen=True)
class Stores:
    """Where the cases keep their state: host and port of Redis, and a PostgreSQL server."""

    redis: str
    postgres: Postgres


def measure(directory, stores, effort, command, say):
    """Measure the cases in turns, each on a server and a database of its own.

    Raises:
        WrongAnswersError: a code was not VERIFIED.
    """
    with ExitStack() as stack:
        grounds = [_Ground(directory / case.name, case, stores) for case in CASES]
        for ground in grounds:
            say(f"enrolling people for {ground.case.name}")
            ground.enrol(_WARM_UP_CALLS + effort.repetitions * effort.calls + _SPARE_PEOPLE)
            ground.serve(command, stack)
            ground.warm_up()
        runs = {case.name: [] for case in CASES}
        for number in range(effort.repetitions):
            for ground in grounds:
                run = ground.verify(effort.calls)
                runs[ground.case.name].append(run)
                say(
                    f"{number + 1}/{effort.repetitions} {ground.case.name}: {run.rps:,.0f} calls/s,"
                    f" service {run.cost.service_us:.0f} µs, database {run.cost.database_us:.0f} µs"
                )
    return runs


def measure_pieces(directory, stores, effort, say):
    """What the pieces cost, on PostgreSQL and on SQLite: `pieces.measure` of each."""
    costs = {}
    for case in (ON_POSTGRES, ON_SQLITE):
        say(f"measuring the pieces on {case.name}")
        ground = _Ground(directory / f"pieces-{case.name}", case, stores)
        ground.enrol(effort.repetitions * effort.pieces)
        costs[case.name] = ground.pieces(effort.repetitions)
    return costs


class _Ground:
    """A database with people, and a server on it."""

    def __init__(self, directory, case, stores) -> None:
        self.case = case
        self._directory = directory
        self._stores = stores
        data = directory / "data"
        data.mkdir(parents=True, mode=0o700)
        source = KeySource(data / "keys.json")
        source.create_if_missing(datetime.now(UTC))
        self._ring = source.ring()
        self._url = f"sqlite:///{data / 'stepup.db'}"
        if case.on_postgres:
            self._url = stores.postgres.create(directory.name)

    def enrol(self, number):
        """Enrol `number` people; each verification takes one of them."""
        everybody = asyncio.run(enrol(self._url, self._ring, number, self.case.tenants))
        # Otherwise the disk would write during the measurement.
        os.sync()
        # In random order, so that the next person is of another tenant.
        random.Random(1).shuffle(everybody)  # noqa: S311  # the same in every measurement
        self._everybody = iter(everybody)

    def serve(self, command, stack):
        """Start a server."""
        console = Console(self._directory, self._stores.redis, database_url=self._url)
        config = console.config(Access.TOKEN)
        self._server = stack.enter_context(serving((*command, "--config", config), self._directory))
        self._call = Call(self._server.address, _METHOD, (console.token("console"),), VERIFIED)

    def warm_up(self):
        """Let the server build its statements and open its connections, some at a time."""
        for in_flight in _WARM_UP:
            calls = self._attempts(_WARM_UP_CALLS // len(_WARM_UP))
            flood(self._call, calls, min(in_flight, CONNECTIONS), in_flight)

    def verify(self, calls):
        """Verify a code of each of the next people."""
        messages = self._attempts(calls)
        before = self._cpu_seconds()
        flooded = flood(self._call, messages, CONNECTIONS, IN_FLIGHT)
        after = self._cpu_seconds()
        spent = (now - then for now, then in zip(after, before, strict=True))
        cost = Cost(*(1e6 * seconds / calls for seconds in spent))
        return Run(flooded.rps, Latencies.of(flooded.latencies_ms), cost)

    def pieces(self, repetitions):
        """What each piece costs, of as many people as there are."""
        pid = self._stores.postgres.pid if self.case.on_postgres else None
        return pieces.measure(
            Ground(self._directory, self._url, self._stores.redis, self._ring),
            list(self._everybody),
            repetitions,
            pid,
        )

    def _attempts(self, calls):
        seconds_left_at_least(max(calls / _SLOWEST_RPS, _SHORTEST_SECONDS))
        return attempts(self._everybody, calls, datetime.now(UTC))

    def _cpu_seconds(self):
        database = cpu_seconds(self._stores.postgres.pid) if self.case.on_postgres else 0.0
        return cpu_seconds(self._server.pid), database
