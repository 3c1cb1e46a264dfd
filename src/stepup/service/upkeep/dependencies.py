"""Whether the stores, the decision log and the credentials work (S17), for health and a metric.

No decision depends on the result.
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
    "1 while a store answers or takes writes, or a credential can be used, else 0; the lowest value"
    " of all workers.",
    ["dependency"],
    multiprocess_mode="livemin",
)


class Dependency:
    """A store or a verifier of credentials that is probed regularly.

    `reach` raises `StoreUnavailableError` if the dependency does not answer.
    """

    def __init__(self, name: Name, reach: Callable[[], Awaitable[None]]) -> None:
        self.is_up = False
        self._reach = reach
        self._gauge = _up.labels(name)

    async def probe(self) -> None:
        """Call `reach` once; set `is_up` and a metric.

        Raises:
            StoreUnavailableError: the dependency does not answer.
        """
        try:
            await self._reach()
        except BaseException:  # any error means that the dependency may not work
            self._report(is_up=False)
            raise
        self._report(is_up=True)

    def _report(self, *, is_up: bool) -> None:
        self.is_up = is_up
        self._gauge.set(is_up)


@dataclass(frozen=True, slots=True)
class Condition:
    """The abilities of a server at present.

    `decides`: it can make and record decisions; those that depend on an elevation need `redis` as
    well. `sql` and `redis`: the store answers. `sql_writes` and `redis_writes`: the store accepts
    writes. `decision_log`: the log can be written.

    `admits`: callers can have valid credentials, which every call needs. `certificate`: the
    server's certificate and at least one authority of clients are valid, or TLS is off.
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
