"""`PolicyService`: the handlers."""

from dataclasses import dataclass

from stepup.domain.actor import TenantId
from stepup.domain.operations import Catalogue
from stepup.rpc import convert, render
from stepup.rpc.call import Call
from stepup.service.update_policy import GetPolicy, UpdatePolicy
from stepup.v1 import policy_service_pb2 as pb


@dataclass(frozen=True, slots=True)
class PolicyHandlers:
    """Policies, and the catalogue that they select from."""

    catalogue: Catalogue
    get: GetPolicy
    update: UpdatePolicy

    async def get_policy(self, request: pb.GetPolicyRequest, call: Call) -> pb.GetPolicyResponse:
        """Answer a tenant's policy."""
        tenant_id = await call.for_tenant(
            convert.parse_id("tenant_id", TenantId, request.tenant_id)
        )
        return pb.GetPolicyResponse(policy=render.tenant_policy(await self.get(tenant_id)))

    async def update_policy(
        self, request: pb.UpdatePolicyRequest, call: Call
    ) -> pb.UpdatePolicyResponse:
        """Change the policy of the actor's tenant."""
        context = await call.on_behalf_of(convert.actor(request))
        policy = await self.update(context, convert.policy_change(self.catalogue, request))
        return pb.UpdatePolicyResponse(policy=render.tenant_policy(policy))

    async def list_operations(
        self, _request: pb.ListOperationsRequest, _call: Call
    ) -> pb.ListOperationsResponse:
        """Answer the catalogue."""
        return pb.ListOperationsResponse(categories=render.catalogue(self.catalogue))
