"""The key ring that the settings name."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from prometheus_client import Counter

from stepup.keys.following import ReloadingKeys
from stepup.keys.ring import KeyRing, KeyRingError
from stepup.keys.source import KeySource
from stepup.service.ports import Clock
from stepup.settings import ConfigurationError, Settings

_failures = Counter(
    "stepup_key_ring_reload_failures", "Changes of the key file that could not be taken over."
)


def key_source_of(settings: Settings) -> KeySource:
    """Where the key ring is: the configured place, or the data directory."""
    storage = settings.storage
    if storage.keys_variable is not None:
        return KeySource(Path(), storage.keys_variable)  # there is no file, and perhaps no home
    return KeySource(
        storage.keys_file or storage.in_data_dir("keys.json"),
        group_readable=storage.keys_group_readable,
    )


def load_keys(settings: Settings) -> KeyRing:
    """The configured key ring as it is now, or that of the data directory, made if need be.

    Raises:
        ConfigurationError: it cannot be used.
    """
    with _key_problems_named():
        _make_keys(settings)
        return KeyRing.of(key_source_of(settings).content())


def follow_keys(settings: Settings, clock: Clock) -> KeyRing | ReloadingKeys:
    """The same for a server: it follows the file, and so takes part in a rotation by itself."""
    with _key_problems_named():
        _make_keys(settings)
        return key_source_of(settings).keys(clock, _failures.inc)


def _make_keys(settings: Settings) -> None:
    storage = settings.storage
    if storage.keys_file is None and storage.keys_variable is None:
        KeyRing.load_or_create(
            storage.in_data_dir("keys.json"), group_readable=storage.keys_group_readable
        )


@contextmanager
def _key_problems_named() -> Iterator[None]:
    try:
        yield
    except (KeyRingError, OSError) as error:
        raise ConfigurationError(f"storage.keys_file: {error}") from error
