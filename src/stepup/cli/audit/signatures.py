"""Verifies the signatures of heads and checkpoints with one public key, or with the key ring."""

from functools import cached_property
from pathlib import Path

from stepup.cli.output import failure
from stepup.keys import public
from stepup.keys.public import PublicKeyError
from stepup.keys.ring import KeyRing
from stepup.service.ports import HeadSignatures
from stepup.settings import Settings
from stepup.wiring.keys import read_keys


def signatures_of(settings: Settings, public_key: Path | None) -> HeadSignatures:
    """Return a verifier with a public key; without one, with the key ring of the settings.

    Raises:
        typer.Exit: the file cannot be read, or has no public key; status 2.
    """
    if public_key is None:
        return _RingSignatures(settings)
    try:
        return _PublicKeySignatures(public.parse(public_key.read_bytes()))
    except PublicKeyError as error:
        raise failure(f"{public_key}: {error}") from error
    except OSError as error:
        raise failure(f"{public_key}: cannot be read: {error.strerror}") from error


class _PublicKeySignatures:
    """Implements `HeadSignatures` with one key, for every key id."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def signature_problem(self, _key_id: str, message: bytes, signature: bytes) -> str | None:
        return public.signature_problem(self._key, signature, message)


class _RingSignatures:
    """Implements `HeadSignatures` with the key ring, which is read for the first signature.

    An auditor without a key ring can verify chains without signatures.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    @cached_property
    def _ring(self) -> KeyRing:
        return read_keys(self._settings)

    def signature_problem(self, key_id: str, message: bytes, signature: bytes) -> str | None:
        return self._ring.signature_problem(key_id, message, signature)
