"""How cost grows: the same load on a crowd of one, and on a million elevations."""

import asyncio
import random
import statistics
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from bench.answers import check_record
from bench.callers import Console
from bench.crowd import Crowd
from bench.figures import paired_ratio
from bench.flood import Call, flood
from bench.servers import resident_bytes, serving
from bench.store import store
from bench.variants import Access, Variant

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


@dataclass
class Grown:
    """What a crowd costs."""

    crowd: Crowd
    bytes_per_elevation: float
    rps: list[float] = field(default_factory=list)
    resident_bytes: int = 0
    calls: int = 0


def measure(directory, crowds, command, effort, say):
    """Measure crowds in turns, each on a server and a store of its own.

    Before that each server is asked about every tenant once, as one is that runs for long.
    """
    chance = random.Random(1)  # noqa: S311  # the same people in every measurement
    with ExitStack() as stack:
        grounds = [
            stack.enter_context(_ground(directory / str(n), crowd, command, say))
            for n, crowd in enumerate(crowds)
        ]
        for number in range(effort.repetitions):
            for grown, ask, _pid in grounds:
                people = chance.choices(range(grown.crowd.elevations), k=effort.calls)
                grown.rps.append(ask(people))
                say(
                    f"{number + 1}/{effort.repetitions} {grown.crowd}: {grown.rps[-1]:,.0f} calls/s"
                )
        for grown, _ask, pid in grounds:
            grown.resident_bytes = resident_bytes(pid)
    return [grown for grown, _ask, _pid in grounds]


def document(one, many):
    """The content of `growth.json`."""
    return {
        "crowds": [
            {
                "elevations": grown.crowd.elevations,
                "tenants": grown.crowd.tenants,
                "callers": grown.crowd.callers,
                "rps": [round(rps, 1) for rps in grown.rps],
                "median_rps": round(statistics.median(grown.rps), 1),
                "worker_mb": round(grown.resident_bytes / 1e6, 1),
                "verified_answers": grown.calls,
            }
            for grown in (one, many)
        ],
        "store_bytes_per_elevation": round(many.bytes_per_elevation),
        "ratios": {"rps: many / one": round(paired_ratio(many.rps, one.rps), 3)},
    }


@contextmanager
def _ground(directory, crowd, command, say):
    (directory / "data").mkdir(parents=True, mode=0o700)
    with store(directory) as address:
        say(f"making {crowd}")
        asyncio.run(crowd.enable(f"sqlite:///{directory / 'data' / 'stepup.db'}"))
        grown = Grown(crowd, crowd.elevate(address))
        console = Console(directory, address, others=crowd.callers - 1)
        subjects = ["console", *(f"service-{n}" for n in range(min(crowd.callers, _TOKENS) - 1))]
        tokens = tuple(map(console.token, subjects))
        config = console.config(Access.TOKEN)
        with serving((*command, "--config", config), directory) as server:
            call = Call(server.address, _METHOD, tokens, RIGHT_ANSWER)

            def ask(people):
                grown.calls += len(people)
                return flood(call, map(crowd.message, people)).rps

            ask(range(crowd.tenants))
            yield grown, ask, server.pid
    with (directory / "data" / "decisions.jsonl").open("rb") as lines:
        check_record(_VARIANT, lines, grown.calls)
