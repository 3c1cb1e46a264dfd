"""How cost grows: the same load on a crowd of one, and on a million elevations."""

import asyncio
import random
import statistics
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

from stepup.keys.source import KeySource
from tools.bench.answers import check_record
from tools.bench.callers import Console
from tools.bench.crowd import Crowd
from tools.bench.figures import paired_ratio
from tools.bench.flood import Call, flood
from tools.bench.servers import Memory, cpu_seconds, memory, serving
from tools.bench.store import store
from tools.bench.variants import Access, Variant

RIGHT_ANSWER = bytes((0x08, 1, 0x10, 6))
"""Decision ALLOWED, reason ELEVATED: the first fields of the message."""
_METHOD = "/stepup.v1.StepUpService/CheckStepUp"
_TOKENS = 64
_VARIANT = Variant("growth", ("stepup",), on_record=True)


@dataclass(frozen=True)
class Effort:
    """How long is measured."""

    repetitions: int
    calls: int
    """In each repetition."""


@dataclass(frozen=True)
class Load:
    """One measurement."""

    rps: float
    cpu_us: float
    """The server's processor time for each call."""


@dataclass
class Grown:
    """What a crowd costs."""

    crowd: Crowd
    bytes_per_elevation: float
    loads: list[Load] = field(default_factory=list)
    memory: Memory | None = None
    calls: int = 0


def measure(directory, crowds, command, effort, say):
    """Measure crowds in turns, each on a server and a store of its own.

    Before that each server is asked about every tenant once, as one is that runs for long, and as
    often as in a measurement.
    """
    chance = random.Random(1)  # noqa: S311  # the same people in every measurement
    with ExitStack() as stack:
        grounds = [
            stack.enter_context(_ground(directory / str(n), crowd, command, effort.calls, say))
            for n, crowd in enumerate(crowds)
        ]
        for number in range(effort.repetitions):
            for grown, ask, _pid in grounds:
                people = chance.choices(range(grown.crowd.elevations), k=effort.calls)
                load = ask(people)
                grown.loads.append(load)
                say(
                    f"{number + 1}/{effort.repetitions} {grown.crowd}: {load.rps:,.0f} calls/s,"
                    f" {load.cpu_us:.1f} µs for each"
                )
        for grown, _ask, pid in grounds:
            grown.memory = memory(pid)
    return [grown for grown, _ask, _pid in grounds]


def document(one, many, about):
    """The content of `growth.json`.

    The ratio by processor time is the ratio of throughput for a server with a core to itself;
    measured throughput also depends on the load generator and the store, on the other core.
    """
    by_processor_time = paired_ratio(
        [load.cpu_us for load in one.loads], [load.cpu_us for load in many.loads]
    )
    rps = paired_ratio([load.rps for load in many.loads], [load.rps for load in one.loads])
    return {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        **about,
        "crowds": [
            {
                "elevations": grown.crowd.elevations,
                "tenants": grown.crowd.tenants,
                "callers": grown.crowd.callers,
                "rps": [round(load.rps, 1) for load in grown.loads],
                "median_rps": round(statistics.median(load.rps for load in grown.loads), 1),
                "cpu_us": [round(load.cpu_us, 1) for load in grown.loads],
                "median_cpu_us": round(statistics.median(load.cpu_us for load in grown.loads), 1),
                "worker_resident_mb": round(grown.memory.resident_bytes / 1e6, 1),
                "worker_own_mb": round(grown.memory.own_bytes / 1e6, 1),
                "verified_answers": grown.calls,
            }
            for grown in (one, many)
        ],
        "store_bytes_per_elevation": round(many.bytes_per_elevation),
        "ratios": {
            "throughput by processor time: many / one": round(by_processor_time, 3),
            "rps: many / one": round(rps, 3),
        },
    }


@contextmanager
def _ground(directory, crowd, command, calls, say):
    (directory / "data").mkdir(parents=True, mode=0o700)
    with store(directory) as address:
        say(f"making {crowd}")
        asyncio.run(crowd.enable(f"sqlite:///{directory / 'data' / 'stepup.db'}"))
        source = KeySource(directory / "data" / "keys.json")
        source.create_if_missing(datetime.now(UTC))
        keys = source.ring()
        grown = Grown(crowd, crowd.elevate(address, keys))
        console = Console(directory, address, others=crowd.callers - 1)
        subjects = ["console", *(f"service-{n}" for n in range(min(crowd.callers, _TOKENS) - 1))]
        tokens = tuple(map(console.token, subjects))
        config = console.config(Access.TOKEN)
        with serving((*command, "--config", config), directory) as server:
            call = Call(server.address, _METHOD, tokens, RIGHT_ANSWER)

            def ask(people):
                grown.calls += len(people)
                before = cpu_seconds(server.pid)
                flooded = flood(call, map(crowd.message, people))
                spent = cpu_seconds(server.pid) - before
                return Load(flooded.rps, 1e6 * spent / len(people))

            ask(range(crowd.tenants))
            ask([n % crowd.elevations for n in range(calls)])
            yield grown, ask, server.pid
    with (directory / "data" / "decisions.jsonl").open("rb") as lines:
        check_record(_VARIANT, lines, grown.calls)
