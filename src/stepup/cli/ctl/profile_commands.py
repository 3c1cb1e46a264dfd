"""`stepup ctl profile`: the named connections of this user."""

from dataclasses import asdict
from typing import Annotated

import typer

from stepup.cli import output
from stepup.cli.ctl.connection import Options, complete_profile, connection_of
from stepup.cli.ctl.profiles import (
    Profile,
    ProfileError,
    Profiles,
    profiles_file,
    read_profiles,
)
from stepup.cli.output import failure

app = typer.Typer(help="The named connections in ctl.toml.", no_args_is_help=True)
_AsJson = Annotated[bool, typer.Option("--json", help="Write JSON, for programs.")]


@app.command("list")
def list_(*, as_json: _AsJson = False) -> None:
    """List the profiles; the default has a star."""
    profiles = _read()
    if as_json:
        for name, profile in sorted(profiles.by_name.items()):
            output.write_json({"name": name, "default": name == profiles.default} | _said(profile))
        return
    file = profiles_file()
    output.write_table(
        ("", "profile", "address", "tenant", "operator"),
        [
            (
                "*" if name == profiles.default else "",
                name,
                profile.address or "",
                profile.tenant or "",
                profile.operator or "",
            )
            for name, profile in sorted(profiles.by_name.items())
        ],
        empty=f"{file} {'has no profile' if file.exists() else 'does not exist'}",
    )


@app.command()
def show(
    name: Annotated[
        str | None,
        typer.Argument(
            autocompletion=complete_profile,
            help="Default: the connection of commands without options.",
        ),
    ] = None,
    *,
    as_json: _AsJson = False,
) -> None:
    """Show a profile, or the connection of commands without options."""
    try:
        said = _said(connection_of(Options(profile=name)))
    except ProfileError as error:
        raise failure(error) from error
    if as_json:
        output.write_json(said)
    else:
        output.write_table(("setting", "value"), said.items())


def _read() -> Profiles:
    try:
        return read_profiles(profiles_file())
    except ProfileError as error:
        raise failure(error) from error


def _said(profile: Profile) -> dict[str, object]:
    return {
        name: value if isinstance(value, bool) else str(value)
        for name, value in asdict(profile).items()
        if value is not None and name != "name"
    }
