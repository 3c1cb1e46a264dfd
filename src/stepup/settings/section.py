"""The base of every section of the settings, its errors, and the types of paths and addresses."""

import os
import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict

from stepup.domain.errors import InvalidValueError

_ADDRESS = re.compile(r"(?:\[[0-9a-fA-F:]+\]|[^:\s]+):([0-9]{1,5})")
_MAX_PORT = 65535


class ConfigurationError(Exception):
    """The configuration cannot be used. The message has a line per problem, and no values (S11)."""


class UnusableFileError(ConfigurationError):
    """A file that the configuration names cannot be used on this machine."""


class Section(BaseModel):
    """A frozen section of the settings. An unknown setting is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)


def checked(make: Any) -> BeforeValidator:
    """A validator that builds a domain type from a setting's text."""

    def check(value: Any) -> Any:
        if not isinstance(value, str):
            raise ValueError("must be text")  # noqa: TRY004  # pydantic reports a ValueError
        try:
            return make(value)
        except InvalidValueError as error:
            raise ValueError(str(error)) from error

    return BeforeValidator(check)


def _usable_path(value: Any) -> Any:
    if isinstance(value, str | Path):
        text = os.fspath(value)
        if not text:
            raise ValueError("must be a path, and is empty")
        if "\0" in text:
            raise ValueError("must be a path, and has a NUL in it")
        if text != text.strip():
            raise ValueError("must be a path, and begins or ends with white space")
        if text.startswith("~"):
            raise ValueError("must be a path in full: ~ stands for no directory here")
    return value


A_PATH = BeforeValidator(_usable_path)
SettingPath = Annotated[Path, A_PATH]
"""A path without typing errors: an empty path would be the current directory."""


def address(value: str) -> str:
    """Return an address HOST:PORT as it is.

    Raises:
        ValueError: the text is not HOST:PORT.
    """
    matched = _ADDRESS.fullmatch(value)
    if matched is None or int(matched[1]) > _MAX_PORT:
        raise ValueError(f"must be a host and a port, HOST:PORT, the port {_MAX_PORT} at most")
    return value


class Listener(Section):
    """A section of something that listens on a host and port."""

    listen: Annotated[str, AfterValidator(address)]
    """HOST:PORT. Port 0 takes a free port, and the log says which."""

    @property
    def host(self) -> str:
        """The host of `listen`, without brackets."""
        return self.listen.rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        """The port of `listen`."""
        return int(self.listen.rpartition(":")[2])

    def address(self, port: int) -> str:
        """HOST:PORT with the port that the operating system assigned."""
        return f"{self.listen.rpartition(':')[0]}:{port}"
