"""The options that every command of `stepup ctl` has: where the server is, who acts, and why."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from stepup.cli.ctl.profiles import (
    Profile,
    ProfileError,
    profile_named,
    profiles_file,
    read_profiles,
)

DEFAULT_ADDRESS: Final = "127.0.0.1:50051"
_CONNECTION: Final = "Connection"
_RECORD: Final = "On record"


def _option(*names: str, panel: str = _CONNECTION, **facts: Any) -> Any:
    return typer.Option(*names, rich_help_panel=panel, **facts)


def _complete_profile(incomplete: str) -> list[str]:
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
            envvar="STEPUP_CTL_PROFILE",
            autocompletion=_complete_profile,
            help="A profile of ctl.toml, for the options that you leave out.",
        ),
    ] = None
    address: Annotated[
        str | None,
        _option(
            envvar="STEPUP_CLIENT_TARGET",
            help=f"HOST:PORT of the server, or unix:/PATH. Default: {DEFAULT_ADDRESS}.",
        ),
    ] = None
    tls_ca: Annotated[
        Path | None,
        _option(
            envvar="STEPUP_CLIENT_AUTHORITIES",
            help="A PEM file with the authorities of the server's certificate.",
        ),
    ] = None
    certificate: Annotated[
        Path | None,
        _option(envvar="STEPUP_CLIENT_CERTIFICATE", help="A PEM file with your certificate."),
    ] = None
    key: Annotated[
        Path | None,
        _option(
            envvar="STEPUP_CLIENT_PRIVATE_KEY",
            help="A PEM file with the private key of your certificate.",
        ),
    ] = None
    token_file: Annotated[
        Path | None,
        _option(envvar="STEPUP_CLIENT_TOKEN_FILE", help="A file with a bearer token."),
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

    def merged(self) -> Profile:
        """The options, and what the profile says where an option is not given.

        Raises:
            ProfileError: the file of profiles cannot be used, or has no profile of this name.
        """
        chosen = profile_named(self.profile, profiles_file())
        # No option trusts a network: a profile has to say so.
        values = {each.name: getattr(self, each.name, None) for each in fields(Profile)}
        return Profile(
            **{
                name: getattr(chosen, name) if value is None else value
                for name, value in values.items()
            }
        )
