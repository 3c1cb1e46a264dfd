"""What every section of the settings is: frozen, and strict about names."""

from typing import Any

from pydantic import BaseModel, BeforeValidator, ConfigDict

from stepup.domain.errors import InvalidValueError


class Section(BaseModel):
    """A section; an unknown setting in it is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)


def checked(make: Any) -> BeforeValidator:
    """Let a domain type that is made of text check a setting."""

    def check(value: Any) -> Any:
        if not isinstance(value, str):
            raise ValueError("must be text")  # noqa: TRY004  # pydantic reports a ValueError
        try:
            return make(value)
        except InvalidValueError as error:
            raise ValueError(str(error)) from error

    return BeforeValidator(check)
