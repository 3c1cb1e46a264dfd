"""The measurement: every variant once a round, as many rounds as asked for."""

import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path

from tools.bench import answers, h2load
from tools.bench.answers import WrongAnswersError
from tools.bench.figures import Latencies
from tools.bench.probe import probing
from tools.bench.servers import cpu_seconds, refusals, serving

_FIRST_REQUESTS = 2000


@dataclass(frozen=True)
class Run:
    """One life of one server."""

    one_at_a_time: Latencies
    rps: float | None = None
    """Calls per second at full speed; None where there is no load."""
    at_half: Latencies | None = None
    """At half of that, in an open loop."""
    cpu_us: float | None = None
    """Processor time for each call at full speed, of the server alone."""


@dataclass(frozen=True)
class Effort:
    """How long is measured."""

    repetitions: int = 5
    seconds: float = 5.0
    """Of full speed, and of half speed, in each run."""
    probes: int = 2000
    """Calls of the latency probe in each run."""


@dataclass
class Results:
    """All runs, by variant."""

    runs: dict[str, list[Run]] = field(default_factory=dict)
    calls: int = 0
    """How many answers were found to be right."""


def measure(stage, variants, effort, say):
    """Measure the variants in turns: A B A B.

    Raises:
        WrongAnswersError: a variant answered wrongly.
    """
    results = Results({variant.name: [] for variant in variants})
    for number in range(effort.repetitions):
        for variant in variants:
            stage.elevate()
            try:
                run, calls = _run(stage, variant, effort)
            except WrongAnswersError as error:
                error.add_note(f"Errors by the server's log: {refusals(stage.directory)}")
                raise
            results.runs[variant.name].append(run)
            results.calls += calls
            rps = f"{run.rps:,.0f} calls/s, " if run.rps else ""
            say(
                f"{number + 1}/{effort.repetitions} {variant.name}: {rps}"
                f"p50 {run.one_at_a_time.p50_ms:.2f} ms"
            )
    return results


def _run(stage, variant, effort):
    stage.record.unlink(missing_ok=True)
    with serving(stage.command(variant), stage.directory) as server:
        with probing(server.address, variant, stage) as probe:
            answer_bytes = probe.answer_bytes()
            one_at_a_time = Latencies.of(probe.latencies_ms(effort.probes))
            calls = probe.calls
        run = Run(one_at_a_time)
        if variant.is_loaded:
            target = stage.target(variant, server.address)
            figures, loaded = _loaded(variant, server, target, answer_bytes, effort)
            run = replace(run, **figures)
            calls += loaded
    if variant.on_record:
        with stage.record.open("rb") as lines:
            answers.check_record(variant, lines, calls)
    return run, calls


def _loaded(variant, server, target, answer_bytes, effort):
    loads = []

    def load(command):
        loads.append(h2load.run(command))
        answers.check_load(variant, loads[-1], answer_bytes)
        return loads[-1].rps

    # The first ones warm it up, and tell how many calls the wanted time takes.
    rps = load(h2load.at_full_speed(target, _FIRST_REQUESTS))
    rps = load(h2load.at_full_speed(target, _requests(rps, 1.0)))
    requests, before = _requests(rps, effort.seconds), cpu_seconds(server.pid)
    rps = load(h2load.at_full_speed(target, requests))
    cpu_us = (cpu_seconds(server.pid) - before) / requests * 1e6
    with tempfile.NamedTemporaryFile() as log:
        requests = _requests(rps / 2, effort.seconds)
        load(h2load.paced(target, requests, rps / 2, log.name))
        at_half = Latencies.of(h2load.latencies_ms(Path(log.name).read_text().splitlines()))
    figures = {"rps": rps, "at_half": at_half, "cpu_us": cpu_us}
    return figures, sum(load.requests for load in loads)


def _requests(rps, seconds):
    return max(h2load.IN_FLIGHT, round(rps * seconds))
