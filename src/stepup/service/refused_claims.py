"""Puts on record that a caller asserted what it may not assert (S16)."""

from dataclasses import dataclass

from stepup.domain.audit import EventKind
from stepup.domain.operations import OperationId
from stepup.service.context import Context
from stepup.service.ports import Database


@dataclass(frozen=True, slots=True)
class RefusedClaims:
    """Writes refused claims into the tenant's audit trail, before the call is refused."""

    database: Database

    async def __call__(
        self, context: Context, method: str, operation: OperationId | None, claim: str
    ) -> None:
        """Record one refused claim.

        Raises:
            StoreUnavailableError: it could not be recorded.
        """
        async with self.database.transaction() as records:
            await records.audit.append(
                context.event(
                    EventKind.CLAIM_REFUSED,
                    identities=list(context.identities),
                    method=method,
                    operation=operation,
                    claim=claim,
                )
            )
