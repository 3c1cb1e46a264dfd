"""`ListAuditEvents` and `ExportAuditEvents`: read the audit events of a tenant."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace

from stepup.domain.actor import TenantId
from stepup.domain.audit import ChainedEvent, canonical_json
from stepup.service.calls.limits import TenantShare, first_that_fit, share_of_pages
from stepup.service.calls.page_tokens import PageTokens
from stepup.service.ports import Database, EventQuery

EXPORT_PAGE = 100
_PAGE_BYTES = 1_000_000
"""The maximum size of the details of a page, as JSON. Clients take answers of 4 MiB by default, and
the event of one challenge may have 300 kB."""


@dataclass(frozen=True, slots=True)
class Page:
    """Some events in the order of the query, and the token of the next page; empty on the last."""

    events: Sequence[ChainedEvent]
    next_token: str = ""


@dataclass(frozen=True, slots=True)
class AuditEvents:
    """Reads a tenant's events."""

    database: Database
    tokens: PageTokens
    share: TenantShare = field(default_factory=share_of_pages)

    async def list(self, query: EventQuery, size: int, token: str = "") -> Page:
        """Return a page of events.

        Args:
            query: the conditions and the order; the token sets where the page begins.
            size: how many events at most; fewer if they are large (`_PAGE_BYTES`).
            token: the `next_token` of the page before, with the same query; empty for the first.

        Raises:
            InvalidFieldError: the token was not given for this query.
            OverloadedError: too many pages of the tenant are being read.
            StoreUnavailableError: the events cannot be read.
        """
        if token:
            position = int(self.tokens.position(_scope(query), token))
            query = (
                replace(query, before_sequence=position)
                if query.newest_first
                else replace(query, after_sequence=position)
            )
        async with (
            self.share.turn(query.tenant_id),
            self.database.snapshot(query.tenant_id) as records,
        ):
            events = await records.audit.list(query, size + 1)
        page = first_that_fit(
            events[:size], lambda chained: len(canonical_json(chained.event.details)), _PAGE_BYTES
        )
        if len(page) == len(events):
            return Page(page)
        return Page(page, self.tokens.make(_scope(query), str(page[-1].sequence)))

    def export(self, tenant_id: TenantId, after_sequence: int) -> AsyncIterator[ChainedEvent]:
        """Return all events after a sequence number, as the function `export` does."""
        return export(self.database, tenant_id, after_sequence, self.share)


async def export(
    database: Database, tenant_id: TenantId, after_sequence: int, share: TenantShare | None = None
) -> AsyncIterator[ChainedEvent]:
    """Return all events after a sequence number, up to the newest at the time of reading.

    Args:
        database: the database with the events.
        tenant_id: the tenant.
        after_sequence: the number of the last known event; 0 for all.
        share: gives each page its turn, so that a slow client does not hold one; None if nobody
            else reads.

    Raises:
        OverloadedError: too many pages of the tenant are being read; resume from the last event.
        StoreUnavailableError: the events cannot be read further; resume from the last one.
    """
    query = EventQuery(tenant_id, after_sequence)
    share = share or share_of_pages()
    while True:
        async with share.turn(tenant_id), database.snapshot(tenant_id) as records:
            events = await records.audit.list(query, EXPORT_PAGE)
        for event in events:
            yield event
        if len(events) < EXPORT_PAGE:
            return
        query = replace(query, after_sequence=events[-1].sequence)


def _scope(query: EventQuery) -> Sequence[str]:
    return (
        query.tenant_id,
        query.start.isoformat() if query.start else "",
        query.end.isoformat() if query.end else "",
        query.user_id or "",
        ",".join(sorted(kind.value for kind in query.kinds)),
        # Servers of the previous release open tokens of oldest-first lists.
        *(["newest_first"] if query.newest_first else []),
    )
