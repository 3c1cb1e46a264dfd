"""The handlers of `PeopleService`."""

from dataclasses import dataclass

from stepup.domain.actor import Actor, Outsider, UserId
from stepup.rpc.pipeline.call import Call
from stepup.rpc.wire import acts, decode
from stepup.service.people.forget import ForgetUser
from stepup.service.people.unlock import UnlockUser
from stepup.v1 import people_service_pb2 as pb


@dataclass(frozen=True, slots=True)
class PeopleHandlers:
    """Lists people, ends locks, forgets people who left, and imports authenticators."""

    unlock: UnlockUser
    forget: ForgetUser

    async def unlock_user(self, request: pb.UnlockUserRequest, call: Call) -> pb.UnlockUserResponse:
        actor = decode.actor_or_operator(request)
        context = await call.authorize_and_charge(actor)
        user_id = decode.parse_id("user_id", UserId, request.user_id)
        remaining = await self.unlock(context, user_id, acts.reason(actor, request.reason))
        return pb.UnlockUserResponse(unlocks_remaining=remaining)

    async def forget_user(self, request: pb.ForgetUserRequest, call: Call) -> pb.ForgetUserResponse:
        actor: Actor | Outsider
        if request.deprovisioning:
            actor = decode.deprovisioning(request)
        else:
            actor = decode.actor_or_operator(request)
        context = await call.authorize_and_charge(actor)
        user_id = decode.parse_id("user_id", UserId, request.user_id)
        await self.forget(context, user_id, acts.reason(actor, request.reason))
        return pb.ForgetUserResponse()
