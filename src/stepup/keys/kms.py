"""Key management services: they wrap the keys of a ring, so that its file alone opens nothing."""

import os
import threading
from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from stepup.system.daemon_threads import call_within
from stepup.system.distribution import missing_extra
from stepup.system.loopback import is_loopback

TIMEOUT_SECONDS = 5.0
_MAX_CALLS = 4
"""How many calls of Vault may run at once, with those that have timed out and still run."""
_calls = threading.BoundedSemaphore(_MAX_CALLS)
_VAULT = "vault:"


class KeyWrapperError(Exception):
    """A key was not wrapped or unwrapped. The message says why, and has no key (S11)."""


def wrapper_named(name: str | None) -> "VaultTransit":
    """The service that a key file names in `wrapped_by`: `vault:<mount>/<transit key>`.

    Raises:
        KeyWrapperError: the name has another form, or the environment does not say where Vault is.
    """
    service, _, rest = (name or "").partition(":")
    mount, _, key = rest.rpartition("/")
    if service != "vault" or not mount or not key:
        raise KeyWrapperError('"wrapped_by" must be vault:<mount>/<transit key>')
    return VaultTransit.from_environment(mount, key, os.environ)


@dataclass(frozen=True, slots=True)
class VaultTransit:
    """Wraps keys by HashiCorp Vault's transit secrets engine: its key never leaves Vault.

    A call may block for `timeout` seconds.

    Args:
        address: Vault's URL, or that of a Vault Agent, which authenticates by itself.
        namespace: a namespace of Vault Enterprise.
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
        """Read the variables of Vault's own tools: `VAULT_ADDR` and `VAULT_NAMESPACE`.

        Each call reads its token from `VAULT_TOKEN` or `~/.vault-token`, and a private CA from
        `VAULT_CACERT`.

        Raises:
            KeyWrapperError: `VAULT_ADDR` is not set.
        """
        address = environment.get("VAULT_ADDR")
        if not address:
            raise KeyWrapperError("VAULT_ADDR is not set: set it to the URL of Vault")
        return cls(mount, key, address, environment.get("VAULT_NAMESPACE"))

    def wrap(self, key: bytes) -> str:
        """Encrypt a key: `vault:v<version>:...`.

        Raises:
            KeyWrapperError: Vault refuses, is sealed, or does not answer in time.
        """
        wrapped = self._ask("encrypt_data", "ciphertext", plaintext=b64encode(key).decode())
        if not wrapped.startswith(_VAULT):
            raise KeyWrapperError("Vault answered in an unexpected form")
        return wrapped

    def unwrap(self, wrapped: str) -> bytes:
        """Decrypt a wrapped key.

        Raises:
            KeyWrapperError: as `wrap`; or the wrapped key was altered, or another key wrapped it.
        """
        try:
            return b64decode(
                self._ask("decrypt_data", "plaintext", ciphertext=wrapped), validate=True
            )
        except ValueError:
            raise KeyWrapperError("Vault answered in an unexpected form") from None

    def _ask(self, method: str, wanted: str, **given: str) -> str:
        try:
            import hvac  # noqa: PLC0415  # an extra, for wrapped keys only
            from requests.exceptions import RequestException, Timeout  # noqa: PLC0415
        except ImportError:
            raise KeyWrapperError(f"Vault {missing_extra('vault')}") from None
        reasons = {
            hvac.exceptions.Forbidden: "Vault denies permission (403)",
            hvac.exceptions.InvalidRequest: "Vault rejects the ciphertext or the key (400)",
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
            # Without the error that led here, which could have an answer of Vault (S11).
            reason = next(text for kind, text in reasons.items() if isinstance(error, kind))
            raise KeyWrapperError(reason) from None
        match answer:
            case {"data": {**data}} if isinstance(data.get(wanted), str):
                return str(data[wanted])
        raise KeyWrapperError("Vault answered in an unexpected form")

    def _call_if_few(self, hvac: Any, method: str, given: Mapping[str, str]) -> Any:
        """Call Vault, unless too many calls wait for it already."""
        if not _calls.acquire(blocking=False):
            raise TimeoutError
        try:
            return self._call(hvac, method, given)
        finally:
            _calls.release()

    def _call(self, hvac: Any, method: str, given: Mapping[str, str]) -> Any:
        host = urlsplit(self.address).hostname or ""
        # A proxy would read the keys of the ring in plaintext.
        proxies = {"no_proxy": host} if is_loopback(host) else None
        client = hvac.Client(
            url=self.address, namespace=self.namespace, timeout=self.timeout, proxies=proxies
        )
        try:
            transit = client.secrets.transit
            return getattr(transit, method)(name=self.key, mount_point=self.mount, **given)
        finally:
            client.adapter.close()
