"""The benchmark: `python -m tools.bench run` measures checks, others measure the rest."""

import itertools
import os
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import orjson
import typer
from rich.console import Console
from stepup_tests.e2e.processes import PROGRAMS
from stepup_tests.engines import ENGINE
from stepup_tests.places import ROOT
from stepup_tests.proxy import use_no_proxy_on_loopback

from tools.bench import (
    cerbos,
    machine,
    people,
    picture,
    report,
    revocations,
    rows,
    stacks,
    verify_report,
    yardstick,
)
from tools.bench import client as clients
from tools.bench import growth as growing
from tools.bench import profile as profiling
from tools.bench import soak as soaking
from tools.bench import verify as verifying
from tools.bench import waits as waiting
from tools.bench import workers as crews
from tools.bench.crowd import Crowd
from tools.bench.postgres import postgres
from tools.bench.rounds import Effort, measure
from tools.bench.stage import Stage
from tools.bench.store import PROGRAM, store
from tools.bench.variants import RATIOS, VARIANTS

use_no_proxy_on_loopback()
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
_console = Console(highlight=False)

_SERVE = (PROGRAMS / "stepup", "serve", "--listen", "127.0.0.1:0")

Only = Annotated[str, typer.Option(help="The variants, with commas; all by default.")]


@app.command()
def run(
    only: Only = "",
    repetitions: Annotated[int, typer.Option(help="How often each is measured.")] = 5,
    seconds: Annotated[float, typer.Option(help="How long a run is, at full and half load.")] = 5,
    before: Annotated[
        Path | None, typer.Option(help="`stepup` of another checkout, to compare with.")
    ] = None,
    output: Annotated[Path, typer.Option(help="Where the results go.")] = ROOT / "docs" / "bench",
) -> None:
    """Measure throughput and latency of the variants, in turns."""
    machine.prepare()
    effort = Effort(repetitions, seconds)
    with _stage(before) as stage:
        variants = _runnable(stage, only)
        results = measure(stage, variants, effort, _console.print)
    go = yardstick.versions() if any(v.name.startswith("go-") for v in variants) else None
    about = {"machine": machine.machine(), "versions": machine.versions(PROGRAM, go)}
    if any(v.name.startswith("cerbos") for v in variants):
        about["versions"]["cerbos"] = cerbos.VERSION
    document = report.document(results, variants, RATIOS, effort, about)
    _write(output, "latest.json", _written(document))
    _write(output, "latest.svg", picture.svg(document).encode())
    for table in report.tables(document, RATIOS):
        _console.print(table)
    _console.print(f"{results.calls:,} answers, all of them right; written to {output}")


@app.command()
def profile(
    variant: Annotated[str, typer.Argument(help="The variant; one in Python.")] = "aio-check",
    seconds: Annotated[float, typer.Option(help="How long each profiler samples.")] = 10,
    output: Annotated[Path, typer.Option(help="Where the profile goes.")] = ROOT / ".bench",
) -> None:
    """Show where the time of a call goes, in a server under full load."""
    machine.prepare()
    directory = output / variant
    directory.mkdir(parents=True, exist_ok=True)
    with _stage() as stage:
        [chosen] = _runnable(stage, variant)
        with profiling.under_load(stage, chosen) as pid:
            lines = profiling.sample_stacks(pid, seconds, directory)
            objects = profiling.by_object(pid, seconds, directory)
    sampled = list(stacks.of_the_loop(lines))
    shares = {
        "The event loop's thread, by module of ours": stacks.by_module(sampled),
        "The event loop's thread, by function of ours": stacks.by_function(sampled),
        "The event loop's thread, by library": stacks.by_library(sampled),
        "The whole process, by library": objects or {"perf cannot tell": 0.0},
    }
    with (directory / "profile.txt").open("w") as file:
        for title, named in shares.items():
            for console in (_console, Console(file=file, width=100)):
                console.print(report.shares_table(title, named))
    _console.print(f"written to {directory}; a picture of it is flamegraph.svg")


@app.command()
def growth(
    elevations: Annotated[int, typer.Option(help="Elevations of the many.")] = 1_000_000,
    tenants: Annotated[int, typer.Option(help="Their tenants.")] = 100_000,
    callers: Annotated[int, typer.Option(help="Callers that are registered.")] = 1_000,
    *,
    repetitions: Annotated[int, typer.Option(help="How often each is measured.")] = 5,
    calls: Annotated[int, typer.Option(help="How many calls are a measurement.")] = 20_000,
    output: Annotated[Path, typer.Option(help="Where the results go.")] = ROOT / "docs" / "bench",
) -> None:
    """Measure how cost grows with elevations, tenants and callers, against one of each."""
    machine.prepare()
    crowds = (Crowd(1, 1, 1), Crowd(elevations, tenants, callers))
    effort = growing.Effort(repetitions, calls)
    with tempfile.TemporaryDirectory(prefix="bench-", dir="/tmp") as name:
        grown = growing.measure(Path(name), crowds, _SERVE, effort, _console.print)
    about = {"machine": machine.machine(), "versions": machine.versions(PROGRAM)}
    written = _written(growing.document(*grown, about))
    _write(output, "growth.json", written)
    _console.print(written.decode())


@app.command()
def verify(
    repetitions: Annotated[int, typer.Option(help="How often each is measured.")] = 5,
    calls: Annotated[int, typer.Option(help="How many calls are a measurement.")] = 2_000,
    pieces: Annotated[int, typer.Option(help="How often a piece is done in one.")] = 1_000,
    output: Annotated[Path, typer.Option(help="Where the results go.")] = ROOT / "docs" / "bench",
) -> None:
    """Measure how fast codes are verified, and what each piece of that costs."""
    machine.prepare()
    effort = verifying.Effort(repetitions, calls, pieces)
    with (
        tempfile.TemporaryDirectory(prefix="bench-", dir="/tmp") as name,
        # Else the store would wait for the database's disk, as it does nowhere else.
        tempfile.TemporaryDirectory(prefix="bench-", dir="/dev/shm") as memory,
        postgres() as database,
        store(memory) as address,
    ):
        stores = verifying.Stores(address, database)
        runs = verifying.measure(Path(name), stores, effort, _SERVE, _console.print)
        costs = verifying.measure_pieces(Path(name), stores, effort, _console.print)
        version = database.version()
    about = {"machine": machine.machine(), "versions": machine.versions(PROGRAM)}
    about["versions"] |= {"postgresql": version}
    document = verify_report.document(runs, costs, effort, about)
    _write(output, "verify.json", _written(document))
    for table in verify_report.tables(document):
        _console.print(table)


@app.command()
def workers(
    repetitions: Annotated[int, typer.Option(help="How often each is measured.")] = 5,
    calls: Annotated[int, typer.Option(help="How many calls of a worker are a run.")] = 50_000,
    output: Annotated[Path, typer.Option(help="Where the results go.")] = ROOT / "docs" / "bench",
) -> None:
    """Measure what two workers cost for each call, against one."""
    machine.prepare()
    effort = crews.Effort(repetitions, calls)
    with tempfile.TemporaryDirectory(prefix="bench-", dir="/tmp") as name, store(name) as address:
        runs = crews.measure(Stage(Path(name), address), effort, _console.print)
    about = {"machine": machine.machine(), "versions": machine.versions(PROGRAM)}
    written = _written(crews.document(runs, effort, about))
    _write(output, "workers.json", written)
    _console.print(written.decode())


@app.command(name="rows")
def bytes_of_rows(
    users: Annotated[int, typer.Option(help="People, with one audit event each.")] = 100_000,
    tenants: Annotated[int, typer.Option(help="Their tenants.")] = 1_000,
    output: Annotated[Path, typer.Option(help="Where the results go.")] = ROOT / "docs" / "bench",
) -> None:
    """Measure what users and audit events take of PostgreSQL."""
    with postgres() as database:
        measured = rows.measure(database, users, tenants)
        measured |= {"versions": {"postgresql": database.version()}}
    written = _written(measured)
    _write(output, "rows.json", written)
    _console.print(written.decode())


@app.command(name="people")
def lists_of_people(
    number: Annotated[int, typer.Option(help="The people of the business.")] = 10_000,
    rounds: Annotated[int, typer.Option(help="How often each page is read.")] = 3,
    output: Annotated[Path, typer.Option(help="Where the results go.")] = ROOT / "docs" / "bench",
) -> None:
    """Measure the pages of people of a large business."""
    machine.prepare()
    with tempfile.TemporaryDirectory(prefix="bench-", dir="/tmp") as name, postgres() as database:
        url = database.create("people")
        measured = people.measure(Path(name), url, number=number, rounds=rounds)
        version = database.version()
    about = {"machine": machine.machine(), "versions": machine.versions(PROGRAM)}
    about["versions"] |= {"postgresql": version}
    about["load_average"] = os.getloadavg()
    written = _written(about | measured)
    _write(output, "people.json", written)
    _console.print(written.decode())


@app.command(name="waits")
def waits_for_challenges(
    waits: Annotated[int, typer.Option(help="How many calls wait.")] = 1000,
    seconds: Annotated[float, typer.Option(help="How long checks are made, each time.")] = 5,
    output: Annotated[Path, typer.Option(help="Where the results go.")] = ROOT / "docs" / "bench",
) -> None:
    """Measure calls that wait for challenges, and checks beside them (S26)."""
    machine.prepare()
    with tempfile.TemporaryDirectory(prefix="bench-", dir="/tmp") as name, postgres() as database:
        measured = waiting.measure(
            Path(name), database.create("waits"), waits=waits, seconds=seconds
        )
        version = database.version()
    _console.print(measured)
    about = {"machine": machine.machine(), "versions": machine.versions(PROGRAM)}
    about["versions"] |= {"postgresql": version}
    about["load_average"] = os.getloadavg()
    _write(output, "waits.json", _written(about | measured))


@app.command(name="revocations")
def starts_after_revocations(
    sign_outs: Annotated[int, typer.Option(help="How many the feed holds.")] = 1_000_000,
    seconds: Annotated[float, typer.Option(help="How long a server is asked.")] = 15,
    output: Annotated[Path, typer.Option(help="Where the results go.")] = ROOT / "docs" / "bench",
) -> None:
    """Measure how a server starts and serves after many sign-outs (S27)."""
    machine.prepare()
    runs = []
    with tempfile.TemporaryDirectory(prefix="bench-", dir="/tmp") as name, postgres() as database:
        for number, (within, is_sqlite) in enumerate(
            itertools.product(revocations.SPREADS, (True, False))
        ):
            directory = Path(name) / str(number)
            data = directory / "data"
            data.mkdir(parents=True, mode=0o700)
            command = (*_SERVE, "--insecure", "--data-dir", data)
            if is_sqlite:
                url = f"sqlite:///{data / 'stepup.db'}"
            else:
                url = database.create(f"revocations-{number}")
                config = directory / "stepup.toml"
                config.write_text(f'[storage]\ndatabase_url = "{url}"\n')
                command = (*command, "--config", config)
            measured = revocations.measure(
                directory, url, command, sign_outs=sign_outs, within=within, seconds=seconds
            )
            runs.append({"database": "sqlite" if is_sqlite else "postgresql"} | measured)
            _console.print(runs[-1])
        version = database.version()
    about = {"machine": machine.machine(), "versions": machine.versions(PROGRAM)}
    about["versions"] |= {"postgresql": version}
    _write(output, "revocations.json", _written(about | {"runs": runs}))


@app.command(name="client")
def checks_of_clients(
    rounds: Annotated[int, typer.Option(help="How often each side is measured.")] = 15,
    calls: Annotated[int, typer.Option(help="How many calls a round has.")] = 1000,
) -> None:
    """Compare `check` of the clients with the generated stub."""
    for cost in clients.measure(rounds, calls):
        _console.print(
            f"{cost.name}: stub {cost.stub:.0f} us, client {cost.client:.0f} us,"
            f" {cost.ratio:.3f} times"
        )


@app.command()
def soak(
    calls: Annotated[int, typer.Option(help="How many; a multiple of 10,000.")] = 1_000_000,
) -> None:
    """Call a server a million times in every way, and demand that it keeps nothing."""
    machine.prepare()
    with tempfile.TemporaryDirectory(prefix="soak-", dir="/tmp") as name:
        command = (*_SERVE, "--insecure")
        began = time.monotonic()
        growth = soaking.MAX_GROWTH_BYTES_AIO if ENGINE == "aio" else soaking.MAX_GROWTH_BYTES
        rounds = calls // soaking.PER_ROUND
        soaking.soak(command, Path(name), rounds, growth, _console.print)
    _console.print(
        f"{calls:,} calls on {ENGINE} in {time.monotonic() - began:,.0f} s: nothing is kept"
    )


def _write(directory, name, content):
    directory.mkdir(parents=True, exist_ok=True)
    (directory / name).write_bytes(content)


def _written(document):
    return orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


@contextmanager
def _stage(before=None):
    with tempfile.TemporaryDirectory(prefix="bench-", dir="/tmp") as name:
        directory = Path(name)
        with store(directory) as address:
            yield Stage(
                directory, address, go=_go(directory / "go"), cerbos=_cerbos(), before=before
            )


def _go(directory):
    """The yardstick in Go; None where it cannot be built, after saying why."""
    missing = yardstick.missing_packages()
    if missing:
        _console.print(f"Without the Go yardstick: apt-get install {' '.join(missing)}")
        return None
    return yardstick.build(directory)


def _cerbos():
    """Cerbos PDP, installed once; None without npm, after saying so."""
    program = cerbos.install(ROOT / ".bench")
    if program is None:
        _console.print("Without Cerbos: npm is missing (apt-get install npm)")
    return program


def _runnable(stage, only):
    names = only.split(",") if only else [variant.name for variant in VARIANTS]
    unknown = set(names) - {variant.name for variant in VARIANTS}
    if unknown:
        raise typer.BadParameter(f"there are no variants {', '.join(sorted(unknown))}")
    return [variant for variant in VARIANTS if variant.name in names and stage.can_run(variant)]


if __name__ == "__main__":
    app()
