"""Two workers against one: the same store, database and decision log, a port each.

On two cores the load generator and the store take time from the two workers, so throughput says
little. So this benchmark compares the workers' processor time for each call: two workers with a
core each would answer twice the calls, reduced by the additional cost of a call.
"""

import subprocess
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from statistics import median

from tools.bench import answers, h2load
from tools.bench.figures import paired_ratio
from tools.bench.machine import OTHERS_CORE, SERVER_CORE, pinned
from tools.bench.probe import probing
from tools.bench.servers import cpu_seconds, serving
from tools.bench.variants import Variant

WANTED = 1.8
CAPACITY = "capacity by processor time: two workers / one"
_SERVE = ("{stepup}", "serve", "--config", "{config}", "--listen", "127.0.0.1:0")
_VARIANT = Variant("workers", (*_SERVE, "--engine", "core"), on_record=True)
_ANY_CORE = f"{SERVER_CORE},{OTHERS_CORE}"
_WARM_UP_REQUESTS = 10_000


@dataclass(frozen=True)
class Effort:
    """How long is measured."""

    repetitions: int
    calls: int
    """Of each worker, in each repetition."""


@dataclass(frozen=True)
class Run:
    """So many workers under load, each with 64 calls in flight."""

    rps: float
    """Of all together."""
    cpu_us: float
    """Processor time of the workers for each call."""


def measure(stage, effort, say):
    """Measure one worker and two in turns; returns the runs by the number of workers.

    Raises:
        WrongAnswersError: an answer was wrong.
    """
    runs = {1: [], 2: []}
    for number in range(effort.repetitions):
        for workers, measured in runs.items():
            stage.elevate()
            run = _run(stage, workers, effort.calls)
            measured.append(run)
            say(
                f"{number + 1}/{effort.repetitions} workers {workers}: {run.rps:,.0f} calls/s,"
                f" {run.cpu_us:.1f} µs for each"
            )
    return runs


def document(runs, effort, about):
    """The content of `workers.json`."""
    one, two = runs[1], runs[2]
    capacity = 2 * paired_ratio([run.cpu_us for run in one], [run.cpu_us for run in two])
    return {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        **about,
        "load": {
            "in_flight_for_each_worker": h2load.IN_FLIGHT,
            "repetitions": effort.repetitions,
            "verified_answers": effort.repetitions * effort.calls * sum(runs),
        },
        "workers": {
            str(workers): {
                "rps": [round(run.rps, 1) for run in measured],
                "cpu_us": [round(run.cpu_us, 1) for run in measured],
                "median_cpu_us": round(median(run.cpu_us for run in measured), 1),
            }
            for workers, measured in runs.items()
        },
        "ratios": {
            CAPACITY: round(capacity, 3),
            "rps: two workers / one, with the load generator beside them": round(
                paired_ratio([run.rps for run in two], [run.rps for run in one]), 3
            ),
        },
        "met": {f"{CAPACITY} >= {WANTED}": capacity >= WANTED},
    }


def _run(stage, workers, calls):
    stage.record.unlink(missing_ok=True)
    with ExitStack() as stack:
        servers = [
            stack.enter_context(serving(stage.command(_VARIANT), stage.directory, _ANY_CORE))
            for _ in range(workers)
        ]
        with probing(servers[0].address, _VARIANT, stage) as probe:
            answer_bytes = probe.answer_bytes()

        def load(requests):
            return _load(stage, servers, requests, answer_bytes)

        load(_WARM_UP_REQUESTS)
        before = sum(cpu_seconds(server.pid) for server in servers)
        rps = load(calls)
        after = sum(cpu_seconds(server.pid) for server in servers)
    with stage.record.open("rb") as lines:
        everything = 1 + workers * (_WARM_UP_REQUESTS + calls)
        answers.check_record(_VARIANT, lines, everything)
    return Run(rps, 1e6 * (after - before) / (workers * calls))


def _load(stage, servers, requests, answer_bytes):
    """Load all servers at once; returns the calls per second of all."""
    commands = [
        h2load.at_full_speed(stage.target(_VARIANT, server.address), requests) for server in servers
    ]
    processes = [
        subprocess.Popen(pinned(command, _ANY_CORE), stdout=subprocess.PIPE, text=True)
        for command in commands
    ]
    loads = [h2load.parsed(process.communicate()[0]) for process in processes]
    for each in loads:
        answers.check_load(_VARIANT, each, answer_bytes)
    return sum(each.rps for each in loads)
