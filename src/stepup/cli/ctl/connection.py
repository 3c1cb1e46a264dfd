"""The options that every command of `stepup ctl` has: where the server is, who acts, and why."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from stepup.cli.ctl.profiles import (
    DEFAULT_ADDRESS,
    Profile,
    ProfileError,
    profile_named,
    profiles_file,
    read_profiles,
)
from stepup.cli.output import write_problem

PROFILE_VARIABLE: Final = "STEPUP_CTL_PROFILE"
_VARIABLES: Final[Mapping[str, tuple[str, type]]] = {
    "address": ("STEPUP_CLIENT_TARGET", str),
    "tls_ca": ("STEPUP_CLIENT_AUTHORITIES", Path),
    "certificate": ("STEPUP_CLIENT_CERTIFICATE", Path),
    "key": ("STEPUP_CLIENT_PRIVATE_KEY", Path),
    "token_file": ("STEPUP_CLIENT_TOKEN_FILE", Path),
}
# No option trusts a network: a profile has to say so.
_OPTIONS: Final = (*_VARIABLES, "insecure")
_CONNECTION: Final = "Connection"
_RECORD: Final = "On record"


def _option(*names: str, panel: str = _CONNECTION, **facts: Any) -> Any:
    return typer.Option(*names, rich_help_panel=panel, **facts)


def _or_variable(setting: str, help: str) -> Any:  # noqa: A002  # typer's name
    # typer does not read the variable: it would mix it with options and profiles.
    return _option(help=f"{help} Or {_VARIABLES[setting][0]}.")


def complete_profile(incomplete: str) -> list[str]:
    """The names of profiles that begin with a text, for a shell."""
    try:
        names = read_profiles(profiles_file()).by_name
    except ProfileError:  # a shell has no place for problems
        return []
    return sorted(name for name in names if name.startswith(incomplete))


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The common options. None means that an option was not given, and the profile counts."""

    profile: Annotated[
        str | None,
        _option(
            autocompletion=complete_profile,
            help=f"A profile of ctl.toml, with the connection. Or {PROFILE_VARIABLE}.",
        ),
    ] = None
    address: Annotated[
        str | None,
        _or_variable(
            "address", f"HOST:PORT of the server, or unix:/PATH. Default: {DEFAULT_ADDRESS}."
        ),
    ] = None
    tls_ca: Annotated[
        Path | None,
        _or_variable("tls_ca", "A PEM file with the authorities of the server's certificate."),
    ] = None
    certificate: Annotated[
        Path | None, _or_variable("certificate", "A PEM file with your certificate.")
    ] = None
    key: Annotated[
        Path | None, _or_variable("key", "A PEM file with the private key of your certificate.")
    ] = None
    token_file: Annotated[
        Path | None, _or_variable("token_file", "A file with a bearer token.")
    ] = None
    insecure: Annotated[
        bool | None,
        _option("--insecure", help="Send no credentials, to a trial server on this machine."),
    ] = None
    tenant: Annotated[str | None, _option(panel=_RECORD, help="The business in which you act.")] = (
        None
    )
    operator: Annotated[
        str | None, _option(panel=_RECORD, help="Your name: 1 to 128 characters.")
    ] = None
    reason: Annotated[
        str | None,
        _option(panel=_RECORD, help="Why you act: 1 to 500 characters. A terminal asks for it."),
    ] = None
    as_json: Annotated[bool, typer.Option("--json", help="Write JSON, for programs.")] = False


def connection_of(options: Options) -> Profile:
    """The connection of a command: from one source, since a mixture calls as another or elsewhere.

    The first source that says anything counts alone: the options; the profile that is named; the
    variables of the environment; the default profile. Only tenant and operator may be options
    besides a profile. Standard error says if the environment counts.

    Raises:
        ProfileError: two sources are given, the source names no server, or the file of profiles
            cannot be used or does not have the profile.
    """
    source = _source(options)
    return replace(
        source,
        tenant=source.tenant if options.tenant is None else options.tenant,
        operator=source.operator if options.operator is None else options.operator,
    )


def _source(options: Options) -> Profile:
    given = {name: value for name in _OPTIONS if (value := getattr(options, name)) is not None}
    named = os.environ.get(PROFILE_VARIABLE)
    variables = {
        name: kind(os.environ[variable])
        for name, (variable, kind) in _VARIABLES.items()
        if os.environ.get(variable)
    }
    if given:
        option = f"--{min(given).replace('_', '-')}"
        if options.profile is not None:
            raise ProfileError(f"give {option} or --profile: one of them has the whole connection")
        if "address" not in given and (
            named or variables or read_profiles(profiles_file()).default
        ):
            raise ProfileError(
                f"give --address with {option}: options take no part of a connection from a profile"
                " or from the environment"
            )
        return Profile(**given)
    if options.profile is not None:
        return profile_named(options.profile, profiles_file())
    if named:
        write_problem(f"stepup: {PROFILE_VARIABLE} names the profile {named}")
        return profile_named(named, profiles_file())
    if not variables:
        return profile_named(None, profiles_file())
    names = ", ".join(_VARIABLES[name][0] for name in variables)
    if "address" not in variables:
        raise ProfileError(
            f"the environment has {names}, and no {_VARIABLES['address'][0]}: set all of the"
            " connection there, or give --profile"
        )
    write_problem(f"stepup: the connection to {variables['address']} is from {names}")
    return Profile(**variables)
