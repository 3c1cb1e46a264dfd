"""The download of events: JSON lines, which the core streams and the web process passes on."""

import json
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Final

from starlette.responses import StreamingResponse
from starlette.types import Send

from stepup.client import StepUpError
from stepup.v1 import audit_service_pb2 as pb
from stepup.web.pages.events_words import details_of, kind_name
from stepup.web.visits import Visit

_CHUNK_BYTES: Final = 32_768


class _BrokenOffError(Exception):
    """The download is not complete."""


class Download(StreamingResponse):
    """The events from a number on.

    A download that breaks off says so in its last line, which is not an event, and ends the
    connection within the body, so that the browser reports a failed download.
    """

    def __init__(
        self,
        first: pb.AuditEvent,
        events: AsyncIterator[pb.ExportAuditEventsResponse],
    ) -> None:
        name = f"events-from-{first.sequence}.jsonl"
        super().__init__(
            _chunks(first, events),
            headers={"Content-Disposition": f'attachment; filename="{name}"'},
            media_type="application/jsonl",
        )

    async def stream_response(self, send: Send) -> None:
        """Send the lines. Without the end of the body, the server cuts the connection."""
        with suppress(_BrokenOffError):
            await super().stream_response(send)


async def download(visit: Visit, after: int) -> Download | None:
    """Return the download of the events after a number; None if there are none.

    Raises:
        StepUpError: there is no answer, and nothing was sent yet.
    """
    events = visit.stepup.audit.export(tenant_id="", after_sequence=after, metadata=visit.metadata)
    first = await anext(events, None)
    return Download(first.event, events) if first is not None else None


async def _chunks(
    first: pb.AuditEvent, events: AsyncIterator[pb.ExportAuditEventsResponse]
) -> AsyncIterator[bytes]:
    lines = bytearray(line_of(first))
    last = first.sequence
    try:
        async for answer in events:
            lines += line_of(answer.event)
            last = answer.event.sequence
            if len(lines) >= _CHUNK_BYTES:
                yield bytes(lines)
                lines.clear()
    except StepUpError as error:
        yield bytes(lines) + _line({"broken_off": True, "continue_after": last})
        raise _BrokenOffError from error
    yield bytes(lines)


def line_of(event: pb.AuditEvent) -> bytes:
    """The line of an event: as in `stepup audit export --format jsonl`, and the device if known."""
    fields: dict[str, Any] = {
        "tenant_id": event.tenant_id,
        "sequence": event.sequence,
        "event_id": event.event_id,
        "occurred_at": _written(event),
        "kind": kind_name(event.kind),
        "caller": event.caller,
        "actor_user_id": event.actor_user_id or None,
        "subject_user_id": event.subject_user_id or None,
        "details": details_of(event),
        "previous_hash": event.previous_hash.hex(),
        "hash": event.hash.hex(),
    }
    if event.HasField("client"):
        fields["client"] = {
            "address": event.client.address or None,
            "user_agent": event.client.user_agent or None,
        }
    return _line(fields)


def _written(event: pb.AuditEvent) -> str:
    instant: datetime = event.occurred_at.ToDatetime(UTC)
    return instant.isoformat(timespec="microseconds")


def _line(fields: dict[str, Any]) -> bytes:
    return (json.dumps(fields, sort_keys=True, separators=(",", ":")) + "\n").encode()
