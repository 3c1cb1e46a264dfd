"""The keys of an issuer, as fresh as they have to be."""

import asyncio
from contextlib import AbstractContextManager

import structlog
from joserfc.jwk import KeySet
from prometheus_client import Counter

from stepup.rpc.identity.jwks import JwksError, JwksSource, usable_keys
from stepup.service.ports import Clock

KEEP_SECONDS = 3600.0
"""How long keys count when their source fails: an outage of the issuer must not be ours at once."""
FETCH_SECONDS = 10.0
"""How long a fetch is waited for, whatever its source does."""
RETRY_SECONDS = 10.0
"""How soon a source is asked again after it failed, or because a token names a key not known."""

_log = structlog.get_logger(__name__)
_failures = Counter(
    "stepup_jwks_refresh_failures",
    "Failed attempts to fetch an issuer's keys; the earlier ones are kept for a while.",
    ["source"],
)


class TrustedKeys:
    """Holds the keys of a source; `poll` keeps them fresh, and no check of a token waits for it.

    A JWKS without a usable key counts like any other: then the issuer has no keys. A key that the
    issuer withdraws counts until the next refresh, so for `refresh_seconds` of the source and the
    time of one fetch; while the source fails, for `keep_seconds` at the most. After that no key
    counts: what is not polled is not trusted for longer either.
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
        # From the first scrape on, so that an alert sees the first failure as an increase.
        self._failures = _failures.labels(str(source))

    def current(self) -> KeySet | None:
        """The keys; None when they are not known, or too old. Without any it is an empty set.

        It is the same object for as long as the keys are the same.
        """
        age = self._clock.monotonic() - self._fetched_at
        return self._keys if age <= self._keep_seconds else None

    async def poll(self) -> None:
        """Refresh the keys if it is time; to be called every second or so. It never fails."""
        pause = RETRY_SECONDS if self._problem else self._source.refresh_seconds
        if self._waited(pause):
            await self._refresh()

    async def beyond(
        self, known: KeySet | None, waiting: AbstractContextManager[None]
    ) -> KeySet | None:
        """The keys, after a token named one that is not among those `known`.

        An issuer that rotates may sign with a new key before the next poll. But anybody can make up
        a key id, so that all such calls together ask the source once in `RETRY_SECONDS`, and those
        that come while it is being asked share the answer.

        Args:
            known: the keys that the caller has seen.
            waiting: is entered while the call waits for the source. It may raise, to refuse that.
        """
        newer_is_here = self.current() is not known
        # A fetch under way was begun by another such call, or by a poll: it may bring the key.
        if not newer_is_here and (self._fetch or self._waited(self._pause_on_demand())):
            with waiting:
                await self._refresh()
        return self.current()

    def _pause_on_demand(self) -> float:
        return min(RETRY_SECONDS, self._source.refresh_seconds)

    def _waited(self, seconds: float) -> bool:
        return self._clock.monotonic() - self._asked_at >= seconds

    async def _refresh(self) -> None:
        if self._fetch is None:
            self._asked_at = self._clock.monotonic()
            self._fetch = asyncio.create_task(self._fetch_once())
        # A caller that hangs up must not spoil the fetch for the others.
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
        except Exception as error:  # noqa: BLE001  # a bug must not leave callers without an answer
            _log.error("jwks_fetch_broke", source=str(self._source), exc_info=error)
            self._failed("cannot be fetched")
        else:
            # Of when it was asked for, since the answer may have waited.
            self._fetched_at = self._asked_at
            self._problem = None
        finally:
            self._fetch = None

    def _failed(self, problem: str) -> None:
        self._failures.inc()
        if problem != self._problem:
            _log.warning("jwks_not_refreshed", source=str(self._source), problem=problem)
        self._problem = problem
