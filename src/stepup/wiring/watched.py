"""Regular looks at stores and credentials, so that health says what calls will meet (S17)."""

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from functools import partial
from typing import Final

from stepup.domain.errors import StoreUnavailableError
from stepup.service.policy.snapshots import POLL_SECONDS, Snapshots
from stepup.service.ports import Database, Elevations
from stepup.service.upkeep.background import repeat, report_fault
from stepup.service.upkeep.dependencies import Condition, Dependency
from stepup.stores.decision_log import JsonLinesDecisionLog
from stepup.wiring.credentials import Credentials

LOOK_SECONDS: Final = 10.0
"""How long a look may take; the limits of the store end it before."""
WRITE_LOOK_SECONDS: Final = 5.0
"""The time between two writes that try SQL: each is a commit."""


class Watched:
    """Looks at the stores, the decision log and the credentials."""

    def __init__(
        self,
        snapshots: Snapshots,
        database: Database,
        elevations: Elevations,
        decision_log: JsonLinesDecisionLog,
        credentials: Credentials,
    ) -> None:
        self._snapshots = snapshots
        self._sql = Dependency("sql", snapshots.poll)
        self._redis = Dependency("redis", elevations.ping)
        self._sql_writes = Dependency("sql_writes", database.check_writes)
        self._redis_writes = Dependency("redis_writes", elevations.check_writes)
        self._decision_log = Dependency("decision_log", decision_log.look)
        self._credentials = credentials
        self._certificate = Dependency("certificate", credentials.check_certificate)
        self._token_issuers = Dependency("token_issuers", credentials.check_token_issuers)

    async def look(self) -> None:
        """Look at everything, before the first call.

        Raises:
            StoreUnavailableError: SQL does not answer. Without the other dependencies a server
                starts, and serves as soon as they answer.
        """
        await self._sql.probe()
        for dependency in (self._redis, self._sql_writes, self._redis_writes, self._decision_log):
            try:
                await dependency.probe()
            except StoreUnavailableError as error:
                report_fault(error)
        await self._look_at_credentials()

    async def _look_at_credentials(self) -> None:
        for dependency in (self._certificate, self._token_issuers):
            # The log has the reason: `jwks_not_refreshed`, `certificate_not_reloaded`.
            with suppress(StoreUnavailableError):
                await dependency.probe()

    @property
    def condition(self) -> Condition:
        """The results of the latest looks."""
        return Condition(
            admits=self._certificate.is_up and self._credentials.admits,
            decides=self._snapshots.is_fresh and self._decision_log.is_up,
            sql=self._sql.is_up,
            redis=self._redis.is_up,
            sql_writes=self._sql_writes.is_up,
            redis_writes=self._redis_writes.is_up,
            decision_log=self._decision_log.is_up,
            certificate=self._certificate.is_up,
            token_issuers=self._token_issuers.is_up,
        )

    def repeat_looks(self, report: Callable[[], Awaitable[None]], stack: AsyncExitStack) -> None:
        """Look at each dependency until the stack closes; await `report` after each look."""
        for dependency in (self._sql, self._redis, self._redis_writes, self._decision_log):
            look = partial(_look, dependency, report)
            repeat(look, POLL_SECONDS, stack, run_seconds=LOOK_SECONDS)

        async def look_at_credentials() -> None:
            try:
                await self._look_at_credentials()
            finally:
                await report()

        repeat(look_at_credentials, POLL_SECONDS, stack, run_seconds=LOOK_SECONDS)
        look = partial(_look, self._sql_writes, report)
        repeat(look, WRITE_LOOK_SECONDS, stack, run_seconds=LOOK_SECONDS)


async def _look(dependency: Dependency, report: Callable[[], Awaitable[None]]) -> None:
    """Look at a dependency, and report the result to health at once."""
    try:
        await dependency.probe()
    finally:
        await report()
