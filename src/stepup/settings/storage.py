"""The settings of the stores: the SQL database, Redis, the key ring, the data directory."""

from datetime import timedelta
from pathlib import Path
from typing import Annotated, Final, Self

from platformdirs import user_state_path
from pydantic import AfterValidator, Field, SecretStr, model_validator

from stepup.settings.section import ConfigurationError, Section, SettingPath
from stepup.stores.redis.url import parse_url as parse_redis_url
from stepup.stores.sql.engine import parse_url as parse_database_url
from stepup.stores.sql.limits import Limits

_Seconds = Annotated[float, Field(ge=0.1, le=60)]
_LIMITS: Final = Limits()
_NO_HOME: Final = Path("~/.local/state/stepup")


def _state_directory() -> Path:
    try:
        return user_state_path("stepup")
    except RuntimeError:  # the user has neither HOME nor an entry in the user database
        return _NO_HOME


def _database_url(value: SecretStr) -> SecretStr:
    parse_database_url(value.get_secret_value())
    return value


def _redis_url(value: SecretStr) -> SecretStr:
    parse_redis_url(value.get_secret_value())
    return value


class DatabaseSettings(Section):
    """How many connections a process opens to the SQL database, and how long calls wait for it."""

    connections: Annotated[int, Field(ge=1, le=100)] = _LIMITS.connections
    """How many transactions a process runs at once, and as many reads beside them: on PostgreSQL
    each worker opens twice as many connections, and one more."""
    wait_seconds: _Seconds = _LIMITS.wait.total_seconds()
    """How many seconds a call waits for a free connection, and for a new connection to open."""
    statement_seconds: _Seconds = _LIMITS.statement.total_seconds()
    """How many seconds PostgreSQL may work on a statement (`statement_timeout`)."""
    lock_seconds: _Seconds = _LIMITS.lock.total_seconds()
    """How many seconds a statement may wait for rows that another call has locked
    (`lock_timeout`); at most `statement_seconds`."""

    @model_validator(mode="after")
    def _demand_reachable_lock_timeout(self) -> Self:
        if self.lock_seconds > self.statement_seconds:
            raise ValueError("lock_seconds is more than statement_seconds: it would never count")
        return self

    @property
    def limits(self) -> Limits:
        """The settings as the database takes them."""
        return Limits(
            self.connections,
            timedelta(seconds=self.wait_seconds),
            timedelta(seconds=self.statement_seconds),
            timedelta(seconds=self.lock_seconds),
        )


class StorageSettings(Section):
    """Where state is stored."""

    data_dir: SettingPath = _state_directory()
    """The directory of everything that is embedded: keys, SQLite, Valkey, the decision log. The
    server makes it if something is embedded, and does not touch it otherwise. A user without a home
    directory has to set it."""
    database_url: Annotated[SecretStr, AfterValidator(_database_url)] | None = None
    """`sqlite:///<path>` or `postgresql://<user>@<host>/<database>`; over a network add
    `?ssl=verify-full`, and name the server's authorities in `PGSSLROOTCERT`. Other parameters are
    `host`, `port` and `passfile`. Absent: SQLite in the data directory."""
    database: DatabaseSettings = DatabaseSettings()
    redis_url: Annotated[SecretStr, AfterValidator(_redis_url)] | None = None
    """Of one server: `redis://<host>:6379/0` or `unix:///<path>`. Of Sentinels:
    `redis+sentinel://<host>,<host>/<master>`. Of a cluster: `redis+cluster://<host>,<host>`. With
    `rediss` instead of `redis` over TLS. Absent: an embedded Valkey."""
    keys_file: SettingPath | None = None
    """The file of the key ring. Absent: `keys.json` in the data directory, which the first start
    makes."""
    keys_variable: Annotated[str, Field(min_length=1)] | None = None
    """The name of an environment variable that holds the key ring's text, instead of a file."""
    keys_group_readable: bool = False
    """Whether the group of the key ring's file may read it, wherever the file is: for mounted
    Kubernetes secrets."""

    def in_data_dir(self, name: str) -> Path:
        """The path of something that is embedded.

        Raises:
            ConfigurationError: the settings name no data directory, and the user has no home.
        """
        if self.data_dir == _NO_HOME:
            raise ConfigurationError(
                "storage.data_dir: must be set, because this user has no home directory"
            )
        return self.data_dir / name

    @property
    def embeds_nothing(self) -> bool:
        """Whether database, Redis and key ring are all outside of `data_dir`."""
        has_keys = self.keys_file is not None or self.keys_variable is not None
        return self.database_url is not None and self.redis_url is not None and has_keys
