"""Opens the stores that the settings name: those of production, or embedded ones."""

import asyncio
import sys
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import structlog

from stepup.service.ports import (
    CallerRates,
    Clock,
    Database,
    DecisionLog,
    Elevations,
    Keys,
    PortalSessions,
    RecordedOutcomes,
)
from stepup.service.upkeep.background import repeat
from stepup.settings import ConfigurationError, Settings, UnusableFileError
from stepup.stores.decision_log import JsonLinesDecisionLog
from stepup.stores.embedded_valkey import EmbeddedValkey, EmbeddedValkeyError
from stepup.stores.redis import (
    RedisCallerRates,
    RedisElevations,
    RedisPortalSessions,
    RedisRecordedOutcomes,
    close,
    connect,
)
from stepup.stores.redis.tls import check_files
from stepup.stores.redis.url import parse_url
from stepup.stores.sql import IdsCollideError, audit_rights, fold_ids
from stepup.telemetry.limited_lines import LimitedLines
from stepup.wiring.database import (
    check_database_files,
    database_url_of,
    migrate_database,
    open_database,
)
from stepup.wiring.keys import describe_missing_keys, follow_keys

_log = structlog.get_logger(__name__)
REVIVE_SECONDS = 1.0
"""The time between two looks at the embedded store."""
_SAMPLE = 1000
"""How many secrets of each kind a start looks at: the keys of a wrong ring lack in all of them."""
HANGS_AFTER_LOOKS = 15
"""How many looks in a row without an answer end the store; each takes up to two seconds."""


@dataclass(frozen=True, slots=True)
class Stores:
    """The implementations of the ports."""

    database: Database
    elevations: Elevations
    outcomes: RecordedOutcomes
    rates: CallerRates
    portal_sessions: PortalSessions
    keys: Keys
    decision_log: DecisionLog


async def open_stores(
    settings: Settings, clock: Clock, decision_log: DecisionLog, stack: AsyncExitStack
) -> Stores:
    """Open the stores until the stack closes. An embedded database is migrated.

    Raises:
        ConfigurationError: a store cannot be used as it is configured.
        StoreUnavailableError: as `wiring.database.open_database`. Redis need not answer yet (S17).
    """
    storage = settings.storage
    check_store_files(settings)
    client = connect(await url_of_redis(settings, stack))
    stack.push_async_callback(close, client)
    if storage.database_url is None:
        await migrate_database(settings)
    database = await stack.enter_async_context(open_database(settings))
    if rights := await audit_rights(database_url_of(settings), storage.database.limits):
        _log.warning(
            "database_role_can_rewrite_the_audit_trail",
            explanation=f"storage.database_url: the role of this server {'; it '.join(rights)}:"
            " give servers a role of their own, see docs/operating.md, Roles",
        )
    keys = follow_keys(settings, clock)
    await _log_missing_keys(settings, database, keys)
    if settings.identity.fold_case:
        try:
            await fold_ids(database_url_of(settings), keys)
        except IdsCollideError as error:
            raise ConfigurationError(
                f"identity.fold_case: {error}: remove one of them, or turn fold_case off"
            ) from error
    return Stores(
        database,
        RedisElevations(client, keys),
        RedisRecordedOutcomes(client, keys),
        RedisCallerRates(client),
        RedisPortalSessions(client, keys),
        keys,
        decision_log,
    )


async def _log_missing_keys(settings: Settings, database: Database, keys: Keys) -> None:
    """Log keys that seal secrets and are not in the ring: the codes of these people fail (S6)."""
    async with database.snapshot() as records:
        used = await records.key_uses.sample(_SAMPLE)
    if missing := used - keys.stored_values.keys.keys():
        _log.error("key_ring_lacks_keys", explanation=describe_missing_keys(settings, missing))


def check_store_files(settings: Settings) -> None:
    """Demand PEM files of the stores with which a server starts.

    Raises:
        UnusableFileError: a file cannot be used; the message names the setting and the file.
    """
    check_database_files(settings)
    url = settings.storage.redis_url
    if url is not None:
        tls = parse_url(url.get_secret_value()).tls
        if tls is not None:
            try:
                check_files(tls)
            except OSError as error:
                raise UnusableFileError(f"storage.redis_url: {error}") from error


async def url_of_redis(settings: Settings, stack: AsyncExitStack) -> str:
    """The URL of the configured Redis, or of an embedded store that runs until the stack closes.

    Raises:
        ConfigurationError: the embedded store cannot be started.
    """
    url = settings.storage.redis_url
    if url is not None:
        return url.get_secret_value()
    valkey = EmbeddedValkey(settings.storage.in_data_dir("valkey").absolute())
    try:
        await asyncio.to_thread(valkey.start)
    except EmbeddedValkeyError as error:
        raise ConfigurationError(f"storage.redis_url: {error}") from error
    stack.push_async_callback(asyncio.to_thread, valkey.stop)
    repeat(KeepEmbeddedStore(valkey), REVIVE_SECONDS, stack)
    return valkey.url


def decision_log_file(settings: Settings) -> Path:
    """The file of the decision log, unless the log is standard output (`-`)."""
    target = settings.log.decisions
    return Path(target) if target else settings.storage.in_data_dir("decisions.jsonl")


def open_decision_log(settings: Settings, stack: AsyncExitStack) -> JsonLinesDecisionLog:
    """Open the decision log until the stack closes.

    Raises:
        ConfigurationError: the log cannot be opened.
    """
    target = settings.log.decisions
    try:
        if target == "-" and sys.stdout is None:
            raise ConfigurationError("log.decisions: standard output is closed")
        if target == "-":
            log = JsonLinesDecisionLog.to(sys.stdout)
        else:
            log = JsonLinesDecisionLog.open(decision_log_file(settings))
    except OSError as error:
        raise ConfigurationError(f"log.decisions: {error}") from error
    stack.callback(log.close)
    return log


class KeepEmbeddedStore:
    """Looks at the embedded store, and starts it again when it has ended or hangs."""

    def __init__(self, valkey: EmbeddedValkey) -> None:
        self._valkey = valkey
        self._looks_without_answer = 0
        self._lines = LimitedLines()

    async def __call__(self) -> None:
        """Look once. What the store acknowledged is in its file, so a restart loses nothing."""
        if self._valkey.is_running:
            if await asyncio.to_thread(lambda: self._valkey.answers):
                self._looks_without_answer = 0
                return
            self._looks_without_answer += 1
            if self._looks_without_answer < HANGS_AFTER_LOOKS:
                return
            _log.error("embedded_store_hangs", looks=self._looks_without_answer)
            await asyncio.to_thread(self._valkey.kill)
        self._looks_without_answer = 0
        try:
            await asyncio.to_thread(self._valkey.start)
        except EmbeddedValkeyError as error:
            if failures := self._lines.count(str(error)):
                _log.error("embedded_store_is_down", problem=str(error), failures=failures)
        else:
            _log.warning("embedded_store_started_again", explanation="it had ended, or hung")
