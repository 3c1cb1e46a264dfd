"""The handlers of `PolicyService`."""

from dataclasses import dataclass

from stepup.domain.actor import TenantId
from stepup.domain.operations import Catalogue
from stepup.rpc.pipeline.call import Call
from stepup.rpc.wire import actors, decode, encode, policies
from stepup.service.policy.update import GetPolicy, UpdatePolicy
from stepup.v1 import policy_service_pb2 as pb


@dataclass(frozen=True, slots=True)
class PolicyHandlers:
    """Reads and changes policies, and lists the operations that they can select."""

    catalogue: Catalogue
    get: GetPolicy
    update: UpdatePolicy

    async def get_policy(self, request: pb.GetPolicyRequest, call: Call) -> pb.GetPolicyResponse:
        tenant_id = await call.authorize_and_charge_tenant(
            decode.parse_id("tenant_id", TenantId, request.tenant_id)
        )
        policy = await self.get(tenant_id)
        people_in_grace = await self.get.count_in_grace(policy, call.received_at)
        return pb.GetPolicyResponse(
            policy=encode.tenant_policy(policy), people_in_grace=people_in_grace
        )

    async def update_policy(
        self, request: pb.UpdatePolicyRequest, call: Call
    ) -> pb.UpdatePolicyResponse:
        context = await call.authorize_and_charge(actors.actor_or_operator(request))
        policy = await self.update(context, policies.policy_change(self.catalogue, request))
        return pb.UpdatePolicyResponse(policy=encode.tenant_policy(policy))

    async def list_operations(
        self, _request: pb.ListOperationsRequest, _call: Call
    ) -> pb.ListOperationsResponse:
        return pb.ListOperationsResponse(categories=encode.catalogue(self.catalogue))
