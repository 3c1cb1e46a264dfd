"""Key rings for tests."""

from datetime import UTC, datetime

from stepup.keys.file import KeyFile
from stepup.keys.ring import KeyRing
from stepup.keys.source import KeySource


def fresh_ring():
    """A ring of one random key, which no file has."""
    return KeyRing.of(KeyFile.generated(datetime(2026, 3, 1, 12, tzinfo=UTC)))


def ring_in(path):
    """The ring that a file has now."""
    return KeySource(path).ring()
