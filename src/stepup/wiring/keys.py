"""The key ring that the settings name."""

from collections.abc import Iterator
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
    with _setting_named():
        return _existing_source(settings).ring()


def read_keys(settings: Settings) -> KeyRing:
    """Read the key ring, which must exist.

    Raises:
        ConfigurationError: it is missing, or cannot be read; the message names the file.
    """
    with _setting_named():
        return key_source_of(settings).ring()


def follow_keys(settings: Settings, clock: Clock) -> ReloadingKeys:
    """Read the key ring for a server, which follows each rotation of the file.

    Raises:
        ConfigurationError: as `load_keys`.
    """
    with _setting_named():
        return ReloadingKeys(_existing_source(settings), clock, _failures.inc)


def _existing_source(settings: Settings) -> KeySource:
    source = key_source_of(settings)
    if settings.storage.keys_file is None and settings.storage.keys_variable is None:
        source.create_if_missing(SystemClock().now())
    return source


@contextmanager
def _setting_named() -> Iterator[None]:
    try:
        yield
    except KeyRingError as error:
        raise ConfigurationError(f"storage.keys_file: {error}") from error
