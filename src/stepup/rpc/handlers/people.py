"""The handlers of `PeopleService`."""

from dataclasses import dataclass

from stepup.domain.actor import Actor, Outsider, UserId
from stepup.rpc.pipeline.call import Call
from stepup.rpc.wire import actors, acts, decode, imports, people
from stepup.service.people.forget import ForgetUser
from stepup.service.people.import_authenticators import ImportAuthenticators
from stepup.service.people.read import GetPerson, ListPeople, ListTenants
from stepup.service.people.unlock import UnlockUser
from stepup.v1 import people_service_pb2 as pb


@dataclass(frozen=True, slots=True)
class PeopleHandlers:
    """Lists people, ends locks, forgets people who left, and imports authenticators."""

    list: ListPeople
    get: GetPerson
    tenants: ListTenants
    unlock: UnlockUser
    forget: ForgetUser
    imports: ImportAuthenticators

    async def list_people(self, request: pb.ListPeopleRequest, call: Call) -> pb.ListPeopleResponse:
        actor = actors.actor_or_operator(request)
        if request.counts_only:
            people.demand_counts_only(request)
            counts = await self.list.count(await call.authorize_and_charge(actor))
            return pb.ListPeopleResponse(counts=people.counts(counts))
        state, size = people.state_filter(request.state), decode.page_size(request.page_size)
        context = await call.authorize_and_charge(actor)
        page = await self.list(context, state, size, request.page_token)
        return people.page_of_people(page, context.now)

    async def get_person(self, request: pb.GetPersonRequest, call: Call) -> pb.GetPersonResponse:
        actor = actors.actor_or_operator(request)
        user_id = decode.parse_id("user_id", UserId, request.user_id)
        context = await call.authorize_and_charge(actor)
        view = await self.get(context, user_id)
        return pb.GetPersonResponse(person=people.person(view, context.now))

    async def list_tenants(
        self, request: pb.ListTenantsRequest, call: Call
    ) -> pb.ListTenantsResponse:
        await call.authorize_and_charge_every_tenant()
        size = decode.page_size(request.page_size)
        return people.page_of_tenants(await self.tenants(size, request.page_token))

    async def unlock_user(self, request: pb.UnlockUserRequest, call: Call) -> pb.UnlockUserResponse:
        actor = actors.actor_or_operator(request)
        context = await call.authorize_and_charge(actor)
        user_id = decode.parse_id("user_id", UserId, request.user_id)
        remaining = await self.unlock(context, user_id, acts.reason(actor, request.reason))
        return pb.UnlockUserResponse(unlocks_remaining=remaining)

    async def forget_user(self, request: pb.ForgetUserRequest, call: Call) -> pb.ForgetUserResponse:
        actor: Actor | Outsider
        if request.deprovisioning:
            actor = actors.deprovisioning(request)
        else:
            actor = actors.actor_or_operator(request)
        context = await call.authorize_and_charge(actor)
        user_id = decode.parse_id("user_id", UserId, request.user_id)
        await self.forget(context, user_id, acts.reason(actor, request.reason))
        return pb.ForgetUserResponse()

    async def import_authenticators(
        self, request: pb.ImportAuthenticatorsRequest, call: Call
    ) -> pb.ImportAuthenticatorsResponse:
        actor, entries = actors.actor_or_operator(request), imports.entries(request)
        context = await call.authorize_and_charge(actor, cost=len(entries))
        results = await self.imports(context, entries, dry_run=request.dry_run)
        return pb.ImportAuthenticatorsResponse(results=map(imports.result, results))
