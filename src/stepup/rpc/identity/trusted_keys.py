"""Keeps the keys of an issuer fresh."""

import asyncio
from contextlib import AbstractContextManager

import structlog
from joserfc.jwk import KeySet
from prometheus_client import Counter

from stepup.rpc.identity.jwks import JwksError, JwksSource, usable_keys
from stepup.service.ports import Clock

KEEP_SECONDS = 3600.0
"""How long keys count while their source fails, so that an issuer's outage is not ours at once."""
FETCH_SECONDS = 10.0
"""The longest wait for a fetch, whatever its source does."""
RETRY_SECONDS = 10.0
"""The pause before the next fetch after a failure, or for a token with an unknown key."""

_log = structlog.get_logger(__name__)
_failures = Counter(
    "stepup_jwks_refresh_failures",
    "Failed attempts to fetch an issuer's keys; the earlier keys are kept for a while.",
    ["source"],
)


class TrustedKeys:
    """Holds the keys of a source. `poll` keeps them fresh, so that tokens do not wait for a fetch.

    If a JWKS has no usable key, the issuer has no keys. A withdrawn key counts until the next
    refresh: for `refresh_seconds` of the source and the time of one fetch. While the source fails
    or is not polled, keys count for at most `keep_seconds`.
    """

    def __init__(
        self,
        source: JwksSource,
        clock: Clock,
        *,
        keep_seconds: float = KEEP_SECONDS,
        fetch_seconds: float = FETCH_SECONDS,
    ) -> None:
        self._source = source
        self._clock = clock
        self._keep_seconds = keep_seconds
        self._fetch_seconds = fetch_seconds
        self._document = b""
        self._keys: KeySet | None = None
        self._fetched_at = self._asked_at = float("-inf")
        self._fetch: asyncio.Task[None] | None = None
        self._problem: str | None = None
        # The series exists from the first scrape, so that an alert sees the first failure as an
        # increase.
        self._failures = _failures.labels(str(source))

    def current(self) -> KeySet | None:
        """The keys; None if they are unknown or too old, empty if the issuer has none.

        The object stays the same while the keys stay the same.
        """
        age = self._clock.monotonic() - self._fetched_at
        return self._keys if age <= self._keep_seconds else None

    async def poll(self) -> None:
        """Refresh the keys if they are due. Call it about once a second; it never raises."""
        pause = RETRY_SECONDS if self._problem else self._source.refresh_seconds
        if self._waited(pause):
            await self._refresh()

    async def beyond(
        self, known: KeySet | None, waiting: AbstractContextManager[None]
    ) -> KeySet | None:
        """Return the keys for a token whose key is not among `known`; fetch them if necessary.

        An issuer that rotates keys may sign with a new key before the next poll. But any client can
        invent a key id. So all calls together fetch once in `RETRY_SECONDS`, and calls that arrive
        during a fetch share its result. A call enters `waiting` while it waits for the fetch;
        `waiting` may raise, to refuse the wait.
        """
        has_newer = self.current() is not known
        pause = min(RETRY_SECONDS, self._source.refresh_seconds)
        # Another call or a poll may have begun a fetch, which may bring the key.
        if not has_newer and (self._fetch or self._waited(pause)):
            with waiting:
                await self._refresh()
        return self.current()

    def _waited(self, seconds: float) -> bool:
        return self._clock.monotonic() - self._asked_at >= seconds

    async def _refresh(self) -> None:
        if self._fetch is None:
            self._asked_at = self._clock.monotonic()
            self._fetch = asyncio.create_task(self._fetch_once())
        # A call that is cancelled must not cancel the fetch of the others.
        await asyncio.shield(self._fetch)

    async def _fetch_once(self) -> None:
        try:
            async with asyncio.timeout(self._fetch_seconds):
                document = await self._source.fetch()
            if document != self._document:
                self._keys = usable_keys(document)
                self._document = document
                if not self._keys:
                    _log.error("jwks_has_no_usable_key", source=str(self._source))
        except TimeoutError:
            self._failed("does not answer in time")
        except JwksError as error:
            self._failed(str(error))
        except Exception as error:  # noqa: BLE001  # after a bug, callers still get an answer
            _log.error("jwks_fetch_broke", source=str(self._source), exc_info=error)
            self._failed("cannot be fetched")
        else:
            # The time of the request, because the answer may have waited.
            self._fetched_at = self._asked_at
            self._problem = None
        finally:
            self._fetch = None

    def _failed(self, problem: str) -> None:
        self._failures.inc()
        if problem != self._problem:
            _log.warning("jwks_not_refreshed", source=str(self._source), problem=problem)
        self._problem = problem
