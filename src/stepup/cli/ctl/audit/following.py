"""Follows the audit events of a business."""

import time
from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, Final

from stepup.cli import output
from stepup.cli.ctl.audit.reading import Query, cells_of, newest_events
from stepup.cli.ctl.messages import fields_of
from stepup.client import UnavailableError
from stepup.client.messages import audit

if TYPE_CHECKING:
    from stepup.cli.ctl.operating import Operating

_POLL_SECONDS: Final = 2
_KIND_WIDTH: Final = 32


def follow_events(work: "Operating", query: Query, lines: int) -> None:
    """Write the newest events of a query, the oldest of them first; then each new one, for ever.

    Raises:
        StepUpError: the first calls failed, or the server refuses the caller.
    """
    newest = next(newest_events(work, Query(kinds=frozenset()), 1), None)
    last = newest.sequence if newest else 0
    known = (event for event in newest_events(work, query, lines) if event.sequence <= last)
    for event in reversed(list(islice(known, lines))):
        _write(event, as_json=work.as_json)
    for event in _new_events(work, last):
        if query.matches(event):
            _write(event, as_json=work.as_json)


def _new_events(work: "Operating", last: int) -> Iterator[audit.AuditEvent]:
    """Each event after the `last`, as soon as a poll finds it.

    While the server is not available, standard error says so once, and the polls continue.
    """
    is_reported = False
    while True:
        try:
            for answer in work.client.audit.export(tenant_id=work.tenant, after_sequence=last):
                last = answer.event.sequence
                yield answer.event
            is_reported = False
        except UnavailableError as error:
            if not is_reported:
                output.write_problem(f"stepup: {error}; trying again")
            is_reported = True
        time.sleep(_POLL_SECONDS)


def _write(event: audit.AuditEvent, *, as_json: bool) -> None:
    if as_json:
        output.write_json(fields_of(event))
        return
    instant, number, kind, actor, person, details = map(str, cells_of(event))
    output.write_wrapped(
        f"{instant}  {number}  {kind.ljust(_KIND_WIDTH)}  {actor} > {person}  {details}"
    )
