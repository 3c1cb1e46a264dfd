"""Read the settings and validate them once. Flags win over the environment, that over the file.

Environment variables have names such as `STEPUP_<SECTION>__<FIELD>`: `STEPUP_SERVER__LISTEN`.
Those of the web process begin with `STEPUP_WEB_`.
"""

import codecs
import os
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, TomlConfigSettingsSource

from stepup.settings.names import malformed_variables, problems, unknown_variables, variable
from stepup.settings.root import Settings
from stepup.settings.section import ConfigurationError
from stepup.settings.web import WebSettings

_BYTE_ORDER_MARKS: Final = (codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def load(file: Path | None = None, **flags: dict[str, Any]) -> Settings:
    """Read and validate the settings of a server.

    The flags of the command line come by section and field. A flag that is None was not given.

    Raises:
        ConfigurationError: the file cannot be read, or a setting is unknown or not valid.
    """
    settings: Settings = _read(Settings, file, flags)
    with _problems_of(file):
        # To build a value from several settings is to validate them.
        settings.operations, settings.registered_callers  # noqa: B018
    return settings


def load_web(file: Path | None = None, **flags: Any) -> WebSettings:
    """Read and validate the settings of the web process.

    A flag that is None was not given.

    Raises:
        ConfigurationError: as `load`.
    """
    settings: WebSettings = _read(WebSettings, file, flags)
    return settings


@contextmanager
def _problems_of(file: Path | None) -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise ConfigurationError(f"{file}: {error}") from error
    except OSError as error:
        raise ConfigurationError(f"{file}: cannot be read: {error.strerror}") from error


def _read(model: type[BaseSettings], file: Path | None, flags: Mapping[str, Any]) -> Any:
    class FromFile(model):  # type: ignore[misc, valid-type]
        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003  # pydantic's signature
            file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003  # as above
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            sources = (init_settings, env_settings)
            return (*sources, TomlConfigSettingsSource(settings_cls, file)) if file else sources

    with _problems_of(file):
        if file is not None:
            _demand_readable(file)
        if malformed := malformed_variables(model, os.environ):
            raise ConfigurationError("\n".join(malformed.values()))
        try:
            settings: BaseSettings = FromFile(**_given(flags))
        except ValidationError as error:
            unknown = unknown_variables(model, os.environ, _keys_variable(file))
            raise ConfigurationError(
                "\n".join([*unknown.values(), *problems(model, error, unknown)])
            ) from error
        keys_variable = settings.storage.keys_variable if isinstance(settings, Settings) else None
        if unknown := unknown_variables(model, os.environ, keys_variable):
            raise ConfigurationError("\n".join(unknown.values()))
    return settings


def _given(flags: Mapping[str, Any]) -> dict[str, Any]:
    given = {
        section: {field: value for field, value in fields.items() if value is not None}
        if isinstance(fields, dict)
        else fields
        for section, fields in flags.items()
    }
    return {section: fields for section, fields in given.items() if fields}


def _demand_readable(file: Path) -> None:
    if not file.is_file():
        raise ConfigurationError(f"{file}: no such file")
    with file.open("rb") as opened:
        if opened.read(3).startswith(_BYTE_ORDER_MARKS):
            raise ConfigurationError(
                f"{file}: begins with a byte-order mark: save it as UTF-8 without one"
            )


def in_effect(settings: Settings) -> Iterator[tuple[str, Any]]:
    """Every setting by its name, such as `callers.0.rules.1.tenants.0`; URLs are masked."""
    yield from _flat("", settings.model_dump(mode="json"))


def _flat(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict | list) and value:
        entries = value.items() if isinstance(value, dict) else enumerate(value)
        for name, inner in entries:
            yield from _flat(f"{path}.{name}" if path else f"{name}", inner)
    else:
        yield path, value


def _keys_variable(file: Path | None) -> str | None:
    """The setting `storage.keys_variable`, while other settings are not valid."""
    name = os.environ.get(variable(Settings, ("storage", "keys_variable")))
    if name is None and file is not None:
        with suppress(ValueError, OSError, KeyError, TypeError):
            name = tomllib.loads(file.read_text())["storage"]["keys_variable"]
    return name
