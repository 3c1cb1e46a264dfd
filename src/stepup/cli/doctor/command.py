"""`stepup doctor`: try what a server, or a connection of `stepup ctl`, needs."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from stepup.cli.ctl.connection import Options, complete_profile, connection_of
from stepup.cli.ctl.profiles import ProfileError
from stepup.cli.doctor.findings import Finding, examined, examined_in_turn, exit_with
from stepup.cli.options import ConfigFile, DataDir, problems_reported, settings_of
from stepup.cli.output import failure
from stepup.system.core_silence import core_log_silent


def doctor(
    *,
    config_file: ConfigFile = None,
    data_dir: DataDir = None,
    profile: Annotated[
        str | None,
        typer.Option(
            autocompletion=complete_profile,
            help="Try this connection of `stepup ctl`, not a server's.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Write JSON, for programs.")] = False,
) -> None:
    """Try everything that a server needs, and say what is wrong and what to do.

    The server need not run, and nothing is changed, except for rows and keys that the trial removes
    at once. With --profile, try a connection of `stepup ctl` instead. The exit code is 0 without an
    error, 1 with an error, 2 if the configuration cannot be read.
    """
    if profile is None:
        found = examined_server(config_file, data_dir)
    elif config_file is not None or data_dir is not None:
        raise failure("--profile: the connection of an operator has no --config and no --data-dir")
    else:
        with core_log_silent():
            found = _examined_connection(profile)
    exit_with(found, as_json=as_json)


def examined_server(config_file: Path | None, data_dir: str | None) -> list[Finding]:
    """The findings about a server.

    Raises:
        typer.Exit: the configuration cannot be read; status 2.
    """
    from stepup.cli.doctor.server import examinations_of_server  # noqa: PLC0415  # of a server

    settings = settings_of(config_file, storage={"data_dir": data_dir})
    return asyncio.run(examined(examinations_of_server(settings)))


def _examined_connection(name: str) -> list[Finding]:
    from stepup.cli.doctor.connection import OperatorConnection  # noqa: PLC0415  # of an operator

    try:
        profile = connection_of(Options(profile=name))
    except ProfileError as error:
        raise failure(error) from error
    with problems_reported():
        connection = OperatorConnection.of(profile)
    return asyncio.run(examined_in_turn(connection.examinations()))
