"""The key ring that the settings name."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from prometheus_client import Counter

from stepup.keys.file import KeyRingError
from stepup.keys.following import ReloadingKeys
from stepup.keys.ring import KeyRing
from stepup.keys.source import KeySource
from stepup.service.ports import Clock
from stepup.settings import ConfigurationError, Settings
from stepup.system.clock import SystemClock

_failures = Counter(
    "stepup_key_ring_reload_failures", "Changes of the key file that the server could not use."
)


def key_source_of(settings: Settings) -> KeySource:
    """The configured place of the key ring; else the file of the data directory."""
    storage = settings.storage
    if storage.keys_variable is not None:
        # Without a file: there may be no home directory to look for one.
        return KeySource(Path(), storage.keys_variable)
    return KeySource(
        storage.keys_file or storage.in_data_dir("keys.json"),
        group_readable=storage.keys_group_readable,
    )


def load_keys(settings: Settings) -> KeyRing:
    """Read the key ring. A ring of the data directory is made if it is missing.

    Raises:
        ConfigurationError: the ring cannot be read, or made.
    """
    with key_setting_named(settings):
        return _existing_source(settings).ring()


def read_keys(settings: Settings) -> KeyRing:
    """Read the key ring, which must exist.

    Raises:
        ConfigurationError: it is missing, or cannot be read; the message names the file.
    """
    with key_setting_named(settings):
        return key_source_of(settings).ring()


def follow_keys(settings: Settings, clock: Clock) -> ReloadingKeys:
    """Read the key ring for a server, which follows each rotation of the file.

    Raises:
        ConfigurationError: as `load_keys`.
    """
    with key_setting_named(settings):
        return ReloadingKeys(_existing_source(settings), clock, _failures.inc)


def _existing_source(settings: Settings) -> KeySource:
    source = key_source_of(settings)
    if settings.storage.keys_file is None and settings.storage.keys_variable is None:
        source.create_if_missing(SystemClock().now())
    return source


@contextmanager
def key_setting_named(settings: Settings) -> Iterator[None]:
    """Name the setting in the error of a key ring that cannot be read.

    Raises:
        ConfigurationError: in place of `KeyRingError`.
    """
    try:
        yield
    except KeyRingError as error:
        raise ConfigurationError(f"{key_setting_of(settings)}: {error}") from error


def describe_missing_keys(settings: Settings, key_ids: Iterable[str]) -> str:
    """The sentence about keys that seal secrets in the database, and are not in the ring (S6)."""
    return (
        f"{key_setting_of(settings)}: {key_source_of(settings)}: the ring lacks keys that seal"
        f" secrets in the database ({', '.join(sorted(key_ids))}): use the key ring that all"
        " servers of this database share, or restore it"
    )


def key_setting_of(settings: Settings) -> str:
    """The setting that names the place of the key ring."""
    if settings.storage.keys_variable is not None:
        return "storage.keys_variable"
    return "storage.keys_file" if settings.storage.keys_file is not None else "storage.data_dir"
