"""A key ring that follows its file, so that a rotation needs no restart of servers."""

import threading
from collections.abc import Callable, Mapping
from typing import Final

import structlog

from stepup.domain.actor import TenantId, UserId
from stepup.domain.authenticator import ResetCodeRecord, SealedSecret
from stepup.domain.errors import StoreUnavailableError
from stepup.domain.mac_keys import MacKeys
from stepup.domain.reset_code import ResetCode
from stepup.domain.totp import TotpSecret
from stepup.keys.file import KeyFile, KeyRingError
from stepup.keys.ring import KeyRing
from stepup.keys.source import KeySource
from stepup.service.ports import Clock
from stepup.system.file_watch import FileVersions

LOOK_SECONDS: Final = 1.0
"""The longest time until a call notices a change of the file. A look is one `stat`."""
TOKEN_LOOK_SECONDS: Final = 0.1
"""The shortest time between two looks that tokens cause: anybody can make up the id of a key."""
RETRY_SECONDS: Final = 5.0
"""After how long an unusable file is read again although it has not changed.

The key management service may answer again."""

_log = structlog.get_logger(__name__)


class ReloadingKeys:
    """Implements the port `Keys` over a key ring that is read again when its file has changed.

    A file that cannot be used leaves the ring as it is, and is logged once. A key management
    service unwraps new keys on another thread, and no call waits for the service: until then, what
    only the new key opens is unavailable.

    Args:
        source: where the ring is stored. A ring in an environment variable never changes.
        clock: measures the time between two looks at the file.
        on_failure: called, on any thread, each time that a changed file cannot be used.

    Raises:
        KeyRingError: the ring cannot be used now.
    """

    def __init__(
        self, source: KeySource, clock: Clock, on_failure: Callable[[], None] = lambda: None
    ) -> None:
        self._source = source
        self._clock = clock
        self._on_failure = on_failure
        self._unwrapped: Mapping[str, bytes] = {}
        # From the file as it was last read: a thread may still be unwrapping some of these keys.
        self._ids_in_file: frozenset[str] = frozenset()
        self._failed_at: float | None = None
        self._looked_at = clock.monotonic()
        self._watch = source.watch()
        self._ring = self._make_ring(source.read())

    def __repr__(self) -> str:
        return f"ReloadingKeys({str(self._source)!r}, {self._ring!r})"

    @property
    def primary(self) -> str:
        return self._current().primary

    @property
    def receipts(self) -> MacKeys:
        return self._current().receipts

    @property
    def page_tokens(self) -> MacKeys:
        return self._current().page_tokens

    @property
    def stored_values(self) -> MacKeys:
        return self._current().stored_values

    def refresh_for(self, key_id: str) -> None:
        """Look at the file, at most every `TOKEN_LOOK_SECONDS`, if the ring lacks this key."""
        if (
            key_id not in self._ring
            and self._clock.monotonic() - self._looked_at >= TOKEN_LOOK_SECONDS
        ):
            self._look()

    def seal(
        self, secret: TotpSecret, tenant_id: TenantId, user_id: UserId, enrollment_id: str
    ) -> SealedSecret:
        return self._current().seal(secret, tenant_id, user_id, enrollment_id)

    def open(
        self, sealed: SealedSecret, tenant_id: TenantId, user_id: UserId, enrollment_id: str
    ) -> TotpSecret:
        return self._ring_with(sealed.key_id).open(sealed, tenant_id, user_id, enrollment_id)

    def record_reset_code(
        self, code: ResetCode, tenant_id: TenantId, user_id: UserId, enrollment_id: str
    ) -> ResetCodeRecord:
        return self._current().record_reset_code(code, tenant_id, user_id, enrollment_id)

    def is_reset_code(self, code: ResetCode, record: ResetCodeRecord) -> bool:
        return self._ring_with(record.sealed_key.key_id).is_reset_code(code, record)

    def reseal_reset_code(
        self, record: ResetCodeRecord, to: tuple[TenantId, UserId] | None = None
    ) -> ResetCodeRecord:
        return self._ring_with(record.sealed_key.key_id).reseal_reset_code(record, to)

    def fingerprint(self, *parts: str) -> bytes:
        return self._current().fingerprint(*parts)

    def _current(self) -> KeyRing:
        """The ring, after a look at the file if the last look is a second old."""
        if self._clock.monotonic() - self._looked_at >= LOOK_SECONDS:
            self._look()
        return self._ring

    def _ring_with(self, key_id: str) -> KeyRing:
        """The ring, after a look at the file if the ring lacks this key.

        The id comes from the database: only a rotation makes it unknown, so looks are rare.

        Raises:
            StoreUnavailableError: the file has the key, and it is not unwrapped yet. The caller may
                be the event loop, so this method does not wait.
        """
        if key_id not in self._current():
            self._look()
        ring = self._ring
        if key_id not in ring and key_id in self._ids_in_file:
            raise StoreUnavailableError(f"the key {key_id!r} is not unwrapped yet")
        return ring

    def _look(self) -> None:
        now = self._clock.monotonic()
        self._looked_at = now
        is_news = self._watch.look()
        is_due = self._failed_at is not None and now - self._failed_at >= RETRY_SECONDS
        if not is_news and not is_due:
            return
        self._failed_at = None
        try:
            file = self._source.read()
            self._ids_in_file = frozenset(file.keys)
            wrapped = {entry.wrapped for entry in file.keys.values()} - {None}
            if wrapped <= self._unwrapped.keys():
                self._replace_ring(file, if_still=self._watch.versions)
            else:
                self._unwrap(file, is_news=is_news)
        except Exception as error:  # noqa: BLE001  # any error: it is tried again
            self._keep_ring(error, is_news=is_news)

    def _unwrap(self, file: KeyFile, *, is_news: bool) -> None:
        versions = self._watch.versions

        def unwrap() -> None:
            try:
                # The file may have changed since, and the thread of that change may be faster.
                self._replace_ring(file, if_still=versions)
            except Exception as error:  # noqa: BLE001  # any error: it is tried again
                self._keep_ring(error, is_news=is_news)

        threading.Thread(target=unwrap, name="stepup-unwrap", daemon=True).start()

    def _replace_ring(self, file: KeyFile, if_still: FileVersions) -> None:
        ring = self._make_ring(file)
        if if_still == self._watch.versions:
            self._ring = ring
            _log.info("key_ring_reloaded", primary=file.primary, keys=sorted(file.keys))

    def _keep_ring(self, error: Exception, *, is_news: bool) -> None:
        self._failed_at = self._clock.monotonic()
        if is_news:
            is_ours = isinstance(error, (KeyRingError, OSError))
            # The text of another error could have a key (S11).
            problem = str(error) if is_ours else type(error).__name__
            _log.error("key_ring_not_reloaded", problem=problem, in_force=repr(self._ring))
        self._on_failure()

    def _make_ring(self, file: KeyFile) -> KeyRing:
        try:
            material = file.material(self._unwrapped)
            ring = KeyRing(file.primary, material)
        except KeyRingError as error:
            raise KeyRingError(f"{self._source}: {error}") from None
        self._unwrapped = {
            entry.wrapped: material[key_id] for key_id, entry in file.keys.items() if entry.wrapped
        }
        return ring
