"""The settings: frozen, validated once. Flags win over the environment, that over the file.

Environment variables are named `STEPUP_<SECTION>__<FIELD>`: `STEPUP_SERVER__LISTEN`.
"""

import codecs
import os
import re
import tomllib
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, Self, cast

from platformdirs import user_state_path
from pydantic import AfterValidator, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from stepup.domain.callers import Callers
from stepup.domain.errors import InvalidValueError
from stepup.domain.operations import SHIPPED, Catalogue, Category, Operation, OperationId
from stepup.domain.text import Title
from stepup.domain.totp import Label
from stepup.settings.callers import CallerSettings, TlsSettings, TokenIssuerSettings, callers_of
from stepup.settings.names import malformed_variables, problems, unknown_variables, variable
from stepup.settings.section import A_PATH, Section, SettingPath, checked
from stepup.stores.redis.url import parse_url as parse_redis_url
from stepup.stores.sql.engine import parse_url as parse_database_url
from stepup.stores.sql.limits import Limits
from stepup.system.loopback import is_loopback
from stepup.telemetry.logs import Format


class ConfigurationError(Exception):
    """The configuration cannot be used; the message has a line per problem, and no values."""


class UnusableFileError(ConfigurationError):
    """A file that the configuration names cannot be used, at least not on this machine."""


_ADDRESS = re.compile(r"(?:\[[0-9a-fA-F:]+\]|[^:\s]+):([0-9]{1,5})")
_MAX_PORT = 65535
_UNIX = "unix:"
_SOCKET_PATH = re.compile(r"(?:/[A-Za-z0-9._@+-]+)+")
_MAX_SOCKET_PATH = 107  # unix(7)
_MARKS = (codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_Seconds = Annotated[float, Field(ge=0.1, le=60)]
_LIMITS = Limits()
_NO_HOME = Path("~/.local/state/stepup")


def _state_directory() -> Path:
    try:
        return user_state_path("stepup")
    except RuntimeError:  # neither HOME nor an entry of the user
        return _NO_HOME


def _address(value: str) -> str:
    matched = _ADDRESS.fullmatch(value)
    if matched is None or int(matched[1]) > _MAX_PORT:
        raise ValueError(f"must be a host and a port, HOST:PORT, the port {_MAX_PORT} at most")
    return value


def _server_address(value: str) -> str:
    if not value.startswith(_UNIX):
        return _address(value)
    path = value.removeprefix(_UNIX)
    # gRPC reads a URI: other characters would stand for something else.
    if not _SOCKET_PATH.fullmatch(path) or len(path) > _MAX_SOCKET_PATH:
        raise ValueError(
            "must be HOST:PORT, or unix:/PATH with an absolute path of letters, digits and ._@+-,"
            f" {_MAX_SOCKET_PATH} characters at most"
        )
    return value


def _collector(value: str) -> str:
    scheme, _, address = value.partition("://")
    if scheme not in {"http", "https"} or re.search("[@/?#]", address):
        raise ValueError("must be http://HOST:PORT or https://HOST:PORT")
    _address(address)
    return value


def _database_url(value: SecretStr) -> SecretStr:
    parse_database_url(value.get_secret_value())
    return value


def _redis_url(value: SecretStr) -> SecretStr:
    parse_redis_url(value.get_secret_value())
    return value


class _Listener(Section):
    """Something that listens."""

    listen: Annotated[str, AfterValidator(_address)]
    """HOST:PORT; port 0 takes a free one, and the log says which."""

    @property
    def host(self) -> str:
        """The host of `listen`, without brackets."""
        return self.listen.rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        """The port of `listen`."""
        return int(self.listen.rpartition(":")[2])

    def address(self, port: int) -> str:
        """Where it listens, HOST:PORT, once it has a port."""
        return f"{self.listen.rpartition(':')[0]}:{port}"


class ServerSettings(_Listener):
    """Where and how the gRPC server listens."""

    listen: Annotated[str, AfterValidator(_server_address)] = "127.0.0.1:50051"
    """HOST:PORT; port 0 takes a free one. Without `[tls]` it must be a loopback address. Or
    `unix:/PATH`, a socket: see [unix sockets](operating.md#unix-sockets)."""
    socket_group_may_connect: bool = False
    """Whether the group of a unix socket may connect to it (mode 0660), and not only its owner
    (0600)."""
    insecure: bool = False
    """Whether to serve callers without credentials, for a trial on this machine: see
    [callers](operating.md#callers)."""
    insecure_anyone_on_the_network_is_trusted: bool = False
    """Whether to serve callers without credentials and without TLS on any address: whoever reaches
    it may do everything. Never for real tenants: see [callers](operating.md#callers)."""
    engine: Literal["auto", "core", "aio"] = "auto"
    """What carries the calls: `core` is several times as fast as `aio`, and only for versions of
    grpcio that it is tested with; `auto` takes it for those. See
    [engines](operating.md#engines)."""
    workers: Annotated[int, Field(ge=1, le=64)] = 1
    """How many processes serve, one per core: see [workers](operating.md#workers)."""
    drain_seconds: Annotated[float, Field(ge=0, le=300)] = 10.0
    """How many seconds calls in flight may take to finish after SIGTERM."""
    max_connection_age: Annotated[
        timedelta, Field(ge=timedelta(seconds=10), le=timedelta(hours=1))
    ] = timedelta(hours=1)
    """After how long clients have to connect again, give or take a tenth: then they may come to
    another server. Client certificates are checked when a connection opens, so it is an hour at
    most. See [connections](operating.md#connections)."""

    @model_validator(mode="after")
    def _workers_share_a_port(self) -> Self:
        if self.socket is not None and self.workers > 1:
            raise ValueError("workers: several cannot listen on one unix socket: use HOST:PORT")
        return self

    @property
    def socket(self) -> Path | None:
        """The path of the unix socket; None where it listens on a host and port."""
        path = self.listen.removeprefix(_UNIX)
        return None if path == self.listen else Path(path)

    @property
    def is_local(self) -> bool:
        """Whether only programs on this machine can reach it."""
        return self.socket is not None or is_loopback(self.host)


class MetricsSettings(_Listener):
    """Where metrics are served to Prometheus, over HTTP without credentials."""


class ProbesSettings(_Listener):
    """Where an orchestrator's probes are answered, over HTTP without credentials."""


class TracesSettings(Section):
    """Where [traces](operating.md#traces) are exported to, over OTLP; needs the extra `otel`."""

    endpoint: Annotated[str, AfterValidator(_collector)]
    """`http://host:port`, or `https://host:port` for TLS."""
    ca_file: SettingPath | None = None
    """The authorities of its certificate. Absent: what `OTEL_EXPORTER_OTLP_CERTIFICATE` names, or
    the system's."""
    sample_ratio: Annotated[float, Field(ge=0, le=1)] = 1.0
    """Of the calls whose caller sends no `traceparent`, the share that begins a trace. For all
    others the caller says whether theirs is recorded."""

    @model_validator(mode="after")
    def _authorities_are_for_tls(self) -> Self:
        if self.ca_file is not None and not self.has_tls:
            raise ValueError("ca_file needs an endpoint with https")
        return self

    @property
    def has_tls(self) -> bool:
        """Whether the collector has to prove who it is."""
        return self.endpoint.startswith("https://")


class DatabaseSettings(Section):
    """What a slow SQL database may take, and how long calls put up with it."""

    connections: Annotated[int, Field(ge=1, le=100)] = _LIMITS.connections
    """How many transactions, and as many reads beside them, go on at once in a process: on
    PostgreSQL each worker opens twice as many connections, and one more."""
    wait_seconds: _Seconds = _LIMITS.wait.total_seconds()
    """How many seconds to wait for a free connection, and for a new one to open."""
    statement_seconds: _Seconds = _LIMITS.statement.total_seconds()
    """How many seconds PostgreSQL may work on a statement (`statement_timeout`)."""
    lock_seconds: _Seconds = _LIMITS.lock.total_seconds()
    """How many seconds a statement may wait for what another call has locked (`lock_timeout`); at
    most `statement_seconds`."""

    @model_validator(mode="after")
    def _locks_are_given_up_first(self) -> Self:
        if self.lock_seconds > self.statement_seconds:
            raise ValueError("lock_seconds is more than statement_seconds: it would never count")
        return self

    @property
    def limits(self) -> Limits:
        """The same as the database wants it."""
        return Limits(
            self.connections,
            timedelta(seconds=self.wait_seconds),
            timedelta(seconds=self.statement_seconds),
            timedelta(seconds=self.lock_seconds),
        )


class StorageSettings(Section):
    """Where state lives."""

    data_dir: SettingPath = _state_directory()
    """The directory of everything that is embedded: keys, SQLite, Valkey, the decision log. It is
    made where something is embedded, and not touched otherwise. A user without a home directory
    has to set it."""
    database_url: Annotated[SecretStr, AfterValidator(_database_url)] | None = None
    """`sqlite:///<path>` or `postgresql://<user>@<host>/<database>`; over a network
    `?ssl=verify-full`, with the server's authorities in `PGSSLROOTCERT`; other parameters are
    `host`, `port` and `passfile`. Absent: SQLite in the data directory."""
    database: DatabaseSettings = DatabaseSettings()
    redis_url: Annotated[SecretStr, AfterValidator(_redis_url)] | None = None
    """Of one server: `redis://<host>:6379/0` or `unix:///<path>`. Of Sentinels:
    `redis+sentinel://<host>,<host>/<master>`. Of a cluster: `redis+cluster://<host>,<host>`. With
    `rediss` instead of `redis` over TLS. Absent: an embedded Valkey."""
    keys_file: SettingPath | None = None
    """The key ring. Absent: `keys.json` in the data directory, made at the first start."""
    keys_variable: Annotated[str, Field(min_length=1)] | None = None
    """The name of an environment variable that holds the key ring's text, instead of a file."""
    keys_group_readable: bool = False
    """Whether the key ring's file may be readable by its group, too, wherever it is: for mounted
    Kubernetes secrets."""

    def in_data_dir(self, name: str) -> Path:
        """The path of something that is embedded.

        Raises:
            ConfigurationError: no data directory is configured, and our user has no home.
        """
        if self.data_dir == _NO_HOME:
            raise ConfigurationError(
                "storage.data_dir: has to be set, because this user has no home directory"
            )
        return self.data_dir / name

    @property
    def embeds_nothing(self) -> bool:
        """Whether database, Redis and key ring are all somewhere else than in `data_dir`."""
        has_keys = self.keys_file is not None or self.keys_variable is not None
        return self.database_url is not None and self.redis_url is not None and has_keys


class IdentitySettings(Section):
    """What ids of tenants and users mean: see [ids](operating.md#ids)."""

    fold_case: bool = False
    """Whether ids of tenants and users are not case-sensitive: they are folded to lower case
    (ASCII), also in the rules of callers. Stored ids are folded at the next start, for good."""
    unknown_tenants: Literal["allow", "refuse"] = "allow"
    """What happens to calls for a tenant that was never given a policy: with `refuse` they are
    errors (UNKNOWN_TENANT), but for those of PolicyService."""


class VerificationSettings(Section):
    """How codes are checked."""

    issuer: Annotated[Label, checked(Label)] = Label("stepup")
    """What authenticator apps show above the account, followed by the tenant's id. It serves the
    tenants whose policy names no issuer."""
    back_steps: Annotated[int, Field(ge=0, le=1)] = 0
    """How many past 30-second steps are accepted. 1 is weaker (S1), for clocks that lag; the log
    says `codes_of_the_step_before_are_accepted` at each start."""
    retry_window: Annotated[timedelta, Field(gt=timedelta(), le=timedelta(hours=24))] = timedelta(
        minutes=60
    )
    """How long after the first authorisation a receipt proves a retry."""


class CategorySettings(Section):
    """A category that an operator adds to the catalogue."""

    id: str
    """What its operations' ids begin with."""
    title: Annotated[Title, checked(Title)]
    """What a console shows."""


class OperationSettings(Section):
    """An operation that an operator adds to the catalogue."""

    id: Annotated[OperationId, checked(OperationId)]
    """`<category>.<name>`. In the category `response` it is a response action: exemptions apply."""
    title: Annotated[Title, checked(Title)]
    """What a console shows."""


class CatalogueSettings(Section):
    """What is added to the shipped catalogue."""

    categories: tuple[CategorySettings, ...] = ()
    operations: tuple[OperationSettings, ...] = ()


class LogSettings(Section):
    """What is written about calls and decisions."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """The least level of what is logged."""
    format: Format = "json"
    """One JSON object per line, or lines for people."""
    decisions: Annotated[Path | Literal["-"], A_PATH] | None = None
    """The decision log's file; `-` is standard output. Absent: `decisions.jsonl` in the data
    directory."""


class Settings(BaseSettings):
    """All settings of a server."""

    model_config = SettingsConfigDict(
        frozen=True, extra="forbid", env_prefix="STEPUP_", env_nested_delimiter="__"
    )

    server: ServerSettings = ServerSettings()
    storage: StorageSettings = StorageSettings()
    identity: IdentitySettings = IdentitySettings()
    verification: VerificationSettings = VerificationSettings()
    catalogue: CatalogueSettings = CatalogueSettings()
    log: LogSettings = LogSettings()
    metrics: MetricsSettings | None = None
    """Absent: they are not served."""
    probes: ProbesSettings | None = None
    """Absent: they are not answered."""
    traces: TracesSettings | None = None
    """Absent: they are not exported."""
    tls: TlsSettings | None = None
    token_issuers: tuple[TokenIssuerSettings, ...] = ()
    callers: tuple[CallerSettings, ...] = ()

    @model_validator(mode="after")
    def _callers_have_credentials(self) -> Self:
        if self.tls is not None and self.tls.client_ca is None and not self.token_issuers:
            raise ValueError(
                "tls.client_ca: callers must have credentials: set it, or token_issuers"
            )
        if self.callers and not self.authenticates_callers:
            raise ValueError(
                "callers: the server identifies them by tls or token_issuers: configure one"
            )
        return self

    @property
    def authenticates_callers(self) -> bool:
        """Whether callers have to have credentials."""
        return self.tls is not None or bool(self.token_issuers)

    @property
    def registered_callers(self) -> Callers:
        """The callers with their rules.

        Raises:
            ConfigurationError: a wildcard stands in the middle, a tenant begins or ends with a
                blank, a rate is out of its limits, or a name or identity stands twice.
        """
        try:
            return callers_of(self.callers, fold_case=self.identity.fold_case)
        except InvalidValueError as error:
            raise ConfigurationError(f"callers: {error}") from error

    @property
    def operations(self) -> Catalogue:
        """The catalogue with the operator's additions.

        Raises:
            ConfigurationError: an addition stands twice, or lacks its category.
        """
        try:
            return SHIPPED.extended(
                [Category(entry.id, entry.title) for entry in self.catalogue.categories],
                [Operation(entry.id, entry.title) for entry in self.catalogue.operations],
            )
        except InvalidValueError as error:
            raise ConfigurationError(f"catalogue: {error}") from error


def load(file: Path | None = None, **flags: dict[str, Any]) -> Settings:
    """Read and validate the settings.

    Args:
        file: a TOML file; None where there is none.
        flags: what the command line says, by section and field.

    Raises:
        ConfigurationError: the file cannot be read, or a setting is unknown or not valid.
    """

    class FromFile(Settings):
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

    try:
        if file is not None and not file.is_file():
            raise ConfigurationError(f"{file}: no such file")
        if file is not None:
            _demand_no_mark(file)
        if malformed := malformed_variables(Settings, os.environ):
            raise ConfigurationError("\n".join(malformed.values()))
        try:
            settings = FromFile(**cast("dict[str, Any]", flags))
        except ValidationError as error:
            unknown = unknown_variables(Settings, os.environ, _keys_variable(file))
            raise ConfigurationError(
                "\n".join([*unknown.values(), *problems(Settings, error, unknown)])
            ) from error
        keys_variable = settings.storage.keys_variable
        if unknown := unknown_variables(Settings, os.environ, keys_variable):
            raise ConfigurationError("\n".join(unknown.values()))
        # What is made of several settings is validated by making it.
        settings.operations, settings.registered_callers  # noqa: B018
    except ValueError as error:
        raise ConfigurationError(f"{file}: {error}") from error
    except OSError as error:
        raise ConfigurationError(f"{file}: cannot be read: {error.strerror}") from error
    return settings


def _demand_no_mark(file: Path) -> None:
    with file.open("rb") as opened:
        if opened.read(3).startswith(_MARKS):
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
    """The setting `storage.keys_variable`, where others are not valid."""
    name = os.environ.get(variable(("storage", "keys_variable")))
    if name is None and file is not None:
        with suppress(ValueError, OSError, KeyError, TypeError):
            name = tomllib.loads(file.read_text())["storage"]["keys_variable"]
    return name
