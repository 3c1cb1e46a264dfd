"""Records claims that a caller may not assert (S16)."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from stepup.domain.actor import CallerId, TenantId
from stepup.domain.audit import EventKind
from stepup.domain.operations import OperationId
from stepup.service.calls.context import AnyContext
from stepup.service.ports import Database

INTERVAL: Final = timedelta(minutes=1)
"""The time between two events of the same caller, tenant and claim."""
MAX_REMEMBERED: Final = 10_000
"""How many callers, tenants and claims are remembered; the oldest is removed with its count."""
_Key = tuple[CallerId, TenantId, str]


@dataclass(slots=True)
class _Latest:
    recorded_at: datetime
    left_out: int = 0


@dataclass(frozen=True, slots=True)
class RefusedClaims:
    """Writes refused claims to the audit trail of the tenant, before the call is refused.

    Each worker writes one event a minute for a caller, tenant and claim, so that a flood of refused
    calls fills no audit trail (S4, S16). The next event has the number of claims without an event.
    """

    database: Database
    _latest: dict[_Key, _Latest] = field(default_factory=dict)

    async def __call__(
        self, context: AnyContext, method: str, operation: OperationId | None, claim: str
    ) -> None:
        """Record one refused claim, or count it for the next event.

        Raises:
            StoreUnavailableError: the claim could not be recorded.
        """
        key = (context.caller, context.tenant_id, claim)
        before = self._latest.get(key)
        if before and abs(context.now - before.recorded_at) < INTERVAL:
            before.left_out += 1
            return
        # Before the wait for the database, so that only one of several parallel calls writes.
        latest = self._replace(key, _Latest(context.now))
        left_out = before.left_out if before else 0
        try:
            async with self.database.transaction(context.tenant_id) as records:
                await records.audit.append(
                    context.event(
                        EventKind.CLAIM_REFUSED,
                        identities=list(context.identities),
                        method=method,
                        operation=operation,
                        claim=claim,
                        left_out=left_out,
                    )
                )
        except BaseException:
            # The next claim writes an event, which counts this one.
            latest.recorded_at = datetime.min.replace(tzinfo=context.now.tzinfo)
            latest.left_out += left_out + 1
            raise

    def _replace(self, key: _Key, latest: _Latest) -> _Latest:
        self._latest.pop(key, None)
        if len(self._latest) >= MAX_REMEMBERED:
            del self._latest[next(iter(self._latest))]
        self._latest[key] = latest
        return latest
