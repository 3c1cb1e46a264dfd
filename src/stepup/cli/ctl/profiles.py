"""The profiles of `stepup ctl`: named connections in a TOML file, which holds no secret.

    default = "production"

    [profiles.production]
    address = "stepup.prod:50051"
    tls_ca = "ca.crt"
    certificate = "sam.crt"
    key = "sam.key"
    tenant = "acme"
    operator = "sam@platform.example"

A path is relative to the directory of the file; `~` is the home directory.
"""

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Final

from stepup.cli.ctl.file_modes import refuse_if_others_write

DEFAULT_ADDRESS: Final = "127.0.0.1:50051"
FILE_VARIABLE: Final = "STEPUP_CTL_CONFIG"
_SECRETS: Final = {
    "token": "token_file names a file with the token",
    "password": "a caller has a certificate with its key, or a token_file",
}


class ProfileError(Exception):
    """The file of profiles cannot be used; the message names the file and the entry."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """Where a server is, who calls, and for whom. None means that the profile does not say.

    Attributes:
        name: the name of the profile in the file; None for a connection from elsewhere.
        address: HOST:PORT of the server, or unix:/PATH.
        tls_ca: a PEM file with the authorities of the server's certificate.
        certificate: a PEM file with the caller's certificate.
        key: a PEM file with the private key of the certificate.
        token_file: a file with a bearer token.
        insecure: whether calls carry no credentials, to a trial server on this machine.
        insecure_network_is_trusted: whether this server may be on a private network, where
            everybody can read and alter the calls.
        tenant: the business in which the operator acts.
        operator: the name of the operator, for the record.
    """

    name: str | None = field(default=None, compare=False)
    address: str | None = None
    tls_ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    token_file: Path | None = None
    insecure: bool | None = None
    insecure_network_is_trusted: bool | None = None
    tenant: str | None = None
    operator: str | None = None

    @property
    def target(self) -> str:
        """The server that calls reach."""
        return DEFAULT_ADDRESS if self.address is None else self.address


@dataclass(frozen=True, slots=True)
class Profiles:
    """The content of the file: the profiles by name, and the name of the default."""

    default: str | None = None
    by_name: Mapping[str, Profile] = field(default_factory=dict)


_KINDS: Final = {
    each.name: (Path if each.type == Path | None else bool if each.type == bool | None else str)
    for each in fields(Profile)
    if each.name != "name"
}


def profiles_file() -> Path:
    """The file of profiles: `STEPUP_CTL_CONFIG`, or `ctl.toml` in the user's directory."""
    if named := os.environ.get(FILE_VARIABLE):
        return Path(named)
    import platformdirs  # noqa: PLC0415  # it takes a while

    return platformdirs.user_config_path("stepup") / "ctl.toml"


def read_profiles(file: Path) -> Profiles:
    """Read the file of profiles. A file that does not exist has none.

    Raises:
        ProfileError: the file cannot be read, everybody may write it, or an entry is not valid.
    """
    try:
        refuse_if_others_write(file)
    except ValueError as error:
        raise ProfileError(str(error)) from error
    try:
        content = tomllib.loads(file.read_text("utf-8"))
    except FileNotFoundError:
        return Profiles()
    except OSError as error:
        raise ProfileError(f"{file}: {error.strerror}") from error
    except ValueError as error:  # of UTF-8 or TOML, whose messages name a place
        raise ProfileError(f"{file}: not TOML: {error}") from error
    try:
        return _profiles(content, file.absolute().parent)
    except ProfileError as error:
        raise ProfileError(f"{file}: {error}") from error


def profile_named(name: str | None, file: Path) -> Profile:
    """The profile of this name, or else the default profile; an empty one if there is no default.

    Raises:
        ProfileError: as `read_profiles`, or no profile has the name.
    """
    profiles = read_profiles(file)
    if name is None:
        name = profiles.default
    if name is None:
        return Profile()
    if name not in profiles.by_name:
        known = ", ".join(sorted(profiles.by_name)) or "none"
        raise ProfileError(f"{file}: no profile is named {name!r}; the profiles are: {known}")
    return profiles.by_name[name]


def _profiles(content: Mapping[str, Any], directory: Path) -> Profiles:
    if unknown := content.keys() - {"default", "profiles"}:
        raise ProfileError(f"{min(unknown)}: unknown; the file has `default` and `profiles`")
    default, tables = content.get("default"), content.get("profiles", {})
    if not isinstance(tables, dict) or not all(isinstance(each, dict) for each in tables.values()):
        raise ProfileError("profiles: must be tables, such as [profiles.production]")
    if default is not None and default not in tables:
        raise ProfileError(f"default: no profile is named {default!r}")
    by_name = {name: _profile(name, table, directory) for name, table in tables.items()}
    return Profiles(default, by_name)


def _profile(name: str, table: Mapping[str, Any], directory: Path) -> Profile:
    values: dict[str, Any] = {}
    for key, value in table.items():
        place = f"profiles.{name}.{key}"
        if key in _SECRETS:
            raise ProfileError(f"{place}: a profile holds no secret: {_SECRETS[key]}")
        if key not in _KINDS:
            raise ProfileError(f"{place}: unknown; a profile has {', '.join(_KINDS)}")
        values[key] = _value(place, _KINDS[key], value, directory)
    profile = Profile(name=name, **values)
    if profile.insecure_network_is_trusted and not profile.insecure:
        raise ProfileError(
            f"profiles.{name}.insecure_network_is_trusted: is only for `insecure = true`"
        )
    return profile


def _value(place: str, kind: type, value: object, directory: Path) -> object:
    if kind is bool:
        if not isinstance(value, bool):
            raise ProfileError(f"{place}: must be true or false")
        return value
    if not isinstance(value, str) or not value:
        raise ProfileError(f"{place}: must be a string")
    if kind is not Path:
        return value
    try:
        return directory / Path(value).expanduser()
    except RuntimeError as error:
        raise ProfileError(f"{place}: this user has no home directory") from error
