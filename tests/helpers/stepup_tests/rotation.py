"""Rings of a rotation: that of a worker that has seen it, and that of one that has not yet."""

from stepup.keys.ring import KeyRing

_OLD, _NEW = {"old": bytes(32)}, {"new": bytes([1] * 32)}


def rotated_ring():
    """The ring whose primary key is the new one."""
    return KeyRing("new", _OLD | _NEW)


class LateRing:
    """The old ring, until a key is asked for that a rotation has added: as a file is followed."""

    def __init__(self):
        self._ring = KeyRing("old", _OLD)

    def __getattr__(self, name):
        return getattr(self._ring, name)

    def refresh_for(self, key_id):
        if key_id == "new":
            self._ring = rotated_ring()
