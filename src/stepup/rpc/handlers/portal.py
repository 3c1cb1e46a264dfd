"""The handlers of `PortalService`."""

from dataclasses import dataclass

from stepup.domain.actor import Actor
from stepup.domain.callers import Caller, claims_of
from stepup.domain.errors import CallerNotPermittedError, InvalidFieldError
from stepup.domain.portal import INDISPENSABLE, OF_ALL_PAGES, PortalPage, PortalSession
from stepup.rpc.pipeline.call import Call
from stepup.rpc.wire import actors, encode, portal
from stepup.service.portal.create import CreatePortalSession
from stepup.service.portal.end import EndPortalSession
from stepup.service.portal.redeem import RedeemPortalSession
from stepup.service.portal.resolve import ended
from stepup.service.portal.tenant_name import TenantName
from stepup.v1 import portal_service_pb2 as pb


@dataclass(frozen=True, slots=True)
class PortalHandlers:
    """Opens and ends portal sessions."""

    create: CreatePortalSession
    redeem: RedeemPortalSession
    end: EndPortalSession
    tenant_name: TenantName

    async def create_portal_session(
        self, request: pb.CreatePortalSessionRequest, call: Call
    ) -> pb.CreatePortalSessionResponse:
        actor = actors.actor(request)
        new, origin = portal.new_session(request)
        context = await call.authorize_and_charge(actor)
        actors.demand_no_action(actor)
        caller = call.admitted.caller
        _demand_rules_of_page(caller, actor, new.page)
        if not caller.may_return_to(origin):
            raise InvalidFieldError("return_url", "has an origin that is not the caller's")
        link = await self.create(context, new, caller.title_for_people)
        return pb.CreatePortalSessionResponse(
            url=link.url, expires_at=encode.timestamp(link.expires_at)
        )

    async def redeem_portal_session(
        self, request: pb.RedeemPortalSessionRequest, call: Call
    ) -> pb.RedeemPortalSessionResponse:
        if not request.token:
            raise InvalidFieldError("token", "is required")
        device = actors.device("client", request.client) if request.HasField("client") else None
        taken = await self.redeem.take(request.token, call.received_at)
        await call.authorize_and_charge_tenant(taken.actor.tenant_id)
        session_id, session = await self.redeem.open(
            taken,
            device,
            caller=call.admitted.caller.caller_id,
            request_id=call.request_id,
            now=call.received_at,
        )
        return pb.RedeemPortalSessionResponse(
            session_id=session_id, session=await self._shown(session)
        )

    async def get_portal_session(
        self, _request: pb.GetPortalSessionRequest, call: Call
    ) -> pb.GetPortalSessionResponse:
        if call.portal is None:
            raise ended()
        session = call.portal.session
        await call.authorize_and_charge(session.actor)
        return pb.GetPortalSessionResponse(session=await self._shown(session))

    async def end_portal_session(
        self, _request: pb.EndPortalSessionRequest, call: Call
    ) -> pb.EndPortalSessionResponse:
        if call.portal is None:
            raise ended()
        context = await call.authorize_and_charge(call.portal.session.actor)
        await self.end(context, call.portal.session_id, call.portal.session)
        return pb.EndPortalSessionResponse()

    async def _shown(self, session: PortalSession) -> pb.PortalSession:
        return portal.session(session, await self.tenant_name(session.actor.tenant_id))


def _demand_rules_of_page(caller: Caller, actor: Actor, page: PortalPage) -> None:
    """Refuse a page that would not work: its calls need the rules of the caller that opened it.

    Raises:
        CallerNotPermittedError: no rule permits a method that the page cannot do without.
    """
    for method in (*INDISPENSABLE[page], *sorted(OF_ALL_PAGES)):
        for claim in (None, *claims_of(actor, None)):
            if caller.rule_for(method, actor.tenant_id, None, claim) is None:
                asserting = f" with the claim {claim.value}" if claim else ""
                raise CallerNotPermittedError(
                    f"{caller.caller_id} may not open the page {page.value}: no rule permits"
                    f" {method}{asserting} for this tenant"
                )
