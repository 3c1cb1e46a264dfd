"""The road of one check: the Python functions that a warm, elevated `CheckStepUp` calls.

The server runs in this process, as `stepup serve` wires it: core engine, tokens, Redis over TCP, a
decision log in a file. A client on another thread makes the calls, and is not counted.
"""

import asyncio
import dis
import os
import sys
import tempfile
from collections import Counter
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Annotated

import typer
from stepup_tests.stubs import connect

from stepup.process.serving import exempt_from_collection
from stepup.settings import load
from stepup.telemetry.logs import configure_logging
from stepup.v1 import step_up_service_pb2 as pb
from stepup.wiring.server import running
from tools.bench.callers import Console
from tools.bench.h2load import IN_FLIGHT
from tools.bench.person import Person
from tools.bench.store import store
from tools.bench.variants import Access

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

_WARM_UP_CALLS = 300
_CALL_SECONDS = 10
_LISTED = 0.02
"""How often for each call a function is entered that is listed; all are counted."""
_ENTERED = 0.5
"""How often for each call a module is entered that lies on the road: polls of the feed do not."""


class Profile:
    """Counts, on the thread that starts it, how often Python functions are called and resumed."""

    def __init__(self) -> None:
        self.called: Counter[tuple[str, str]] = Counter()
        """By module and qualified name."""
        self.resumed = 0
        """Coroutines and generators that continue after a wait."""

    def __enter__(self):
        sys.setprofile(self._count)
        return self

    def __exit__(self, *_):
        sys.setprofile(None)

    def _count(self, frame, event, _argument):
        if event != "call":  # it has others for functions in C, and for returns
            return
        if frame.f_lasti > _first_step(frame.f_code):
            self.resumed += 1
        else:
            self.called[frame.f_globals.get("__name__", "?"), frame.f_code.co_qualname] += 1


@cache
def _first_step(code):
    return next(step.offset for step in dis.get_instructions(code) if step.opname == "RESUME")


@app.command()
def main(
    calls: Annotated[int, typer.Option(help="How many calls are averaged.")] = 2000,
    in_flight: Annotated[int, typer.Option(help="How many calls are made at a time.")] = IN_FLIGHT,
) -> None:
    """Print how many Python functions one check calls, and in which modules."""
    with (
        tempfile.TemporaryDirectory(prefix="stepup-road-") as directory,
        store(directory) as address,
    ):
        console = Console(Path(directory), address)
        with _standard_error_in(Path(directory) / "stderr"):
            configure_logging("info", "json")
            profile = asyncio.run(_measure(console, calls, in_flight))
    modules = Counter()
    for function, times in profile.called.most_common():
        modules[function[0]] += times
        if times >= _LISTED * calls:
            print(f"{times / calls:8.2f}  {':'.join(function)}")  # noqa: T201
    ours = {name: times for name, times in modules.items() if name.startswith("stepup.")}
    on_the_road = sorted(name for name, times in ours.items() if times >= _ENTERED * calls)
    print("\nmodules of stepup:", *on_the_road, sep="\n  ")  # noqa: T201
    print(  # noqa: T201
        f"\n{sum(modules.values()) / calls:.1f} Python calls,"
        f" {sum(ours.values()) / calls:.1f} of them of stepup in {len(on_the_road)} modules;"
        f" {profile.resumed / calls:.1f} resumptions"
    )


@contextmanager
def _standard_error_in(file):
    """Have the lines of the log in a file, as in production, and not on a terminal."""
    terminal = os.dup(2)
    with file.open("wb") as log:
        os.dup2(log.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(terminal, 2)
            os.close(terminal)


async def _measure(console, calls, in_flight):
    settings = load(
        console.config(Access.TOKEN), server={"listen": "127.0.0.1:0", "engine": "core"}
    )
    async with running(settings) as server:
        exempt_from_collection()
        with connect(server.address) as client:
            metadata, person = console.metadata(Access.TOKEN), Person()
            await asyncio.to_thread(person.elevate, client, metadata)

            def check(times):
                question = person.question
                for first in range(0, times, in_flight):
                    some = [
                        client.step_up.CheckStepUp.future(
                            question, timeout=_CALL_SECONDS, metadata=metadata
                        )
                        for _ in range(min(in_flight, times - first))
                    ]
                    assert all(call.result().reason == pb.DECISION_REASON_ELEVATED for call in some)

            await asyncio.to_thread(check, _WARM_UP_CALLS)
            with Profile() as profile:
                await asyncio.to_thread(check, calls)
    return profile


if __name__ == "__main__":
    app()
