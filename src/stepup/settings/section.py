"""The base of every section of the settings, and the types of paths."""

import os
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict

from stepup.domain.errors import InvalidValueError


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
