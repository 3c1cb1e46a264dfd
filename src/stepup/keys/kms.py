"""Key management services: they wrap the keys of a ring, so that its file alone opens nothing."""

import os
import threading
from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol
from urllib.parse import urlsplit

from stepup.system.daemon_threads import call_within
from stepup.system.distribution import missing_extra
from stepup.system.loopback import is_loopback

TIMEOUT_SECONDS = 5.0
_MAX_CALLS = 4
"""How many calls of Vault may be under way, also those that nobody waits for any longer."""
_calls = threading.BoundedSemaphore(_MAX_CALLS)
_VAULT = "vault:"


class KeyWrapperError(Exception):
    """A key was not wrapped or unwrapped. The message says why, and has no key (S11)."""


class KeyWrapper(Protocol):
    """Wraps and unwraps key material. It may block for as long as `TIMEOUT_SECONDS`."""

    def wrap(self, key: bytes) -> str:
        """Encrypt a key.

        Raises:
            KeyWrapperError: the service refuses, is not reachable, or does not answer in time.
        """
        ...

    def unwrap(self, wrapped: str) -> bytes:
        """Decrypt what `wrap` gave.

        Raises:
            KeyWrapperError: as above, or it was altered or wrapped by another key.
        """
        ...


def wrapper_named(name: str | None) -> KeyWrapper:
    """The service that a key file names in `wrapped_by`: `vault:<mount>/<transit key>`.

    Raises:
        KeyWrapperError: there is no such service, or it is not set up.
    """
    service, _, rest = (name or "").partition(":")
    mount, _, key = rest.rpartition("/")
    if service != "vault" or not mount or not key:
        raise KeyWrapperError('"wrapped_by" must be vault:<mount>/<transit key>')
    return VaultTransit.from_environment(mount, key, os.environ)


@dataclass(frozen=True, slots=True)
class VaultTransit:
    """HashiCorp Vault's transit secrets engine: the key that wraps never leaves Vault.

    Args:
        mount: where the engine is mounted.
        key: the name of the transit key.
        address: Vault's URL, or that of a Vault Agent, which authenticates by itself.
        namespace: a namespace of Vault Enterprise.
        timeout: how many seconds an answer may take.
    """

    mount: str
    key: str
    address: str
    namespace: str | None = None
    timeout: float = TIMEOUT_SECONDS

    @classmethod
    def from_environment(
        cls, mount: str, key: str, environment: Mapping[str, str]
    ) -> "VaultTransit":
        """As the environment says, in the variables of Vault's own tools.

        `VAULT_ADDR`, `VAULT_NAMESPACE`; the token is taken from `VAULT_TOKEN` or `~/.vault-token`
        at each call, a private CA from `VAULT_CACERT`.

        Raises:
            KeyWrapperError: `VAULT_ADDR` is not set.
        """
        address = environment.get("VAULT_ADDR")
        if not address:
            raise KeyWrapperError("VAULT_ADDR is not set")
        return cls(mount, key, address, environment.get("VAULT_NAMESPACE"))

    def wrap(self, key: bytes) -> str:
        """Encrypt a key: `vault:v<version>:...`.

        Raises:
            KeyWrapperError: Vault refuses, is sealed, or does not answer in time.
        """
        wrapped = self._ask("encrypt_data", "ciphertext", plaintext=b64encode(key).decode())
        if not wrapped.startswith(_VAULT):
            raise KeyWrapperError("Vault's answer is not what it should be")
        return wrapped

    def unwrap(self, wrapped: str) -> bytes:
        """Decrypt what `wrap` gave.

        Raises:
            KeyWrapperError: as above, or it was altered or wrapped by another key.
        """
        try:
            return b64decode(
                self._ask("decrypt_data", "plaintext", ciphertext=wrapped), validate=True
            )
        except ValueError:
            raise KeyWrapperError("Vault's answer is not what it should be") from None

    def _ask(self, method: str, wanted: str, **given: str) -> str:
        try:
            import hvac  # noqa: PLC0415  # an extra: who has no wrapped keys needs none of it
            from requests.exceptions import RequestException, Timeout  # noqa: PLC0415
        except ImportError:
            raise KeyWrapperError(f"Vault {missing_extra('vault')}") from None
        reasons = {
            hvac.exceptions.Forbidden: "Vault denies permission (403)",
            hvac.exceptions.InvalidRequest: "Vault does not take the ciphertext or the key (400)",
            hvac.exceptions.InvalidPath: "Vault has no such mount or key (404)",
            hvac.exceptions.VaultDown: "Vault is sealed or down (503)",
            hvac.exceptions.VaultError: "Vault fails",
            Timeout: f"Vault does not answer within {self.timeout:g} s",
            TimeoutError: f"Vault does not answer within {self.timeout:g} s",
            RequestException: "Vault cannot be reached",
            OSError: "Vault's token or certificate files cannot be read",
        }
        try:
            # The timeout of `requests` counts for each read: a server that drips would not meet it.
            answer = call_within(self.timeout, partial(self._call_if_few, hvac, method, given))
        except tuple(reasons) as error:
            # Not chained: an answer could be in it (S11).
            reason = next(text for kind, text in reasons.items() if isinstance(error, kind))
            raise KeyWrapperError(reason) from None
        match answer:
            case {"data": {**data}} if isinstance(data.get(wanted), str):
                return str(data[wanted])
        raise KeyWrapperError("Vault's answer is not what it should be")

    def _call_if_few(self, hvac: Any, method: str, given: Mapping[str, str]) -> Any:
        """Call Vault, unless it keeps too many threads waiting already."""
        if not _calls.acquire(blocking=False):
            raise TimeoutError
        try:
            return self._call(hvac, method, given)
        finally:
            _calls.release()

    def _call(self, hvac: Any, method: str, given: Mapping[str, str]) -> Any:
        host = urlsplit(self.address).hostname or ""
        # Through a proxy the keys of the ring would pass in plaintext.
        proxies = {"no_proxy": host} if is_loopback(host) else None
        client = hvac.Client(
            url=self.address, namespace=self.namespace, timeout=self.timeout, proxies=proxies
        )
        try:
            transit = client.secrets.transit
            return getattr(transit, method)(name=self.key, mount_point=self.mount, **given)
        finally:
            client.adapter.close()
