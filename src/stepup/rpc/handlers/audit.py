"""The handlers of `AuditService`."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

from stepup.domain.actor import TenantId
from stepup.domain.errors import InvalidFieldError
from stepup.rpc.pipeline.call import Call
from stepup.rpc.wire import decode, encode
from stepup.service.audit.events import AuditEvents
from stepup.v1 import audit_service_pb2 as pb


@dataclass(frozen=True, slots=True)
class AuditHandlers:
    """Lists and exports audit events."""

    events: AuditEvents

    async def list_audit_events(
        self, request: pb.ListAuditEventsRequest, call: Call
    ) -> pb.ListAuditEventsResponse:
        query = decode.event_query(request)
        await call.authorize_and_charge_tenant(query.tenant_id)
        size = decode.page_size(request.page_size)
        page = await self.events.list(query, size, request.page_token)
        return pb.ListAuditEventsResponse(
            events=map(encode.event, page.events), next_page_token=page.next_token
        )

    async def export_audit_events(
        self, request: pb.ExportAuditEventsRequest, call: Call
    ) -> AsyncIterator[pb.ExportAuditEventsResponse]:
        tenant_id = await call.authorize_and_charge_tenant(
            decode.parse_id("tenant_id", TenantId, request.tenant_id)
        )
        if request.after_sequence < 0:
            raise InvalidFieldError("after_sequence", "must not be negative")
        async for event in self.events.export(tenant_id, request.after_sequence):
            yield pb.ExportAuditEventsResponse(event=encode.event(event))
