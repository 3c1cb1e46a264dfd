"""Whether the stores, the decision log and the credentials work (S17): health and a metric say so.

No decision rests on it.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

from prometheus_client import Gauge

Name: TypeAlias = Literal[
    "sql",
    "redis",
    "sql_writes",
    "redis_writes",
    "decision_log",
    "certificate",
    "token_issuers",
]

_up = Gauge(
    "stepup_dependency_up",
    "1 while a store answers or takes writes, or a credential can be used, else 0; of workers, what"
    " the worst off has.",
    ["dependency"],
    multiprocess_mode="livemin",
)


class Dependency:
    """A store, or what verifies credentials, that is looked at every so often.

    Args:
        name: what people know it by.
        reach: raises `StoreUnavailableError` when it does not answer.
    """

    def __init__(self, name: Name, reach: Callable[[], Awaitable[None]]) -> None:
        self.is_up = False
        self._reach = reach
        self._gauge = _up.labels(name)

    async def look(self) -> None:
        """Look once; `is_up` and a metric say what was found.

        Raises:
            StoreUnavailableError: it does not answer.
        """
        try:
            await self._reach()
        except BaseException:  # whatever it is, the dependency is not known to work
            self._found(is_up=False)
            raise
        self._found(is_up=True)

    def _found(self, *, is_up: bool) -> None:
        self.is_up = is_up
        self._gauge.set(is_up)


@dataclass(frozen=True, slots=True)
class Condition:
    """What a server can do now.

    `decides`: decisions can be made and put on record; those that an elevation counts for need
    `redis` besides. `sql` and `redis`: the store answers. `sql_writes` and `redis_writes`: it takes
    writes. `decision_log`: it can be written.

    `admits`: callers can have credentials that count; every call needs it. `certificate`: neither
    the server's certificate nor every authority of clients has expired, or there is no TLS.
    `token_issuers`: every issuer of tokens has keys, or no tokens are demanded.
    """

    admits: bool
    decides: bool
    sql: bool
    redis: bool
    sql_writes: bool
    redis_writes: bool
    decision_log: bool
    certificate: bool
    token_issuers: bool
