"""`ListPeople`, `GetPerson` and `ListTenants`."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from stepup.domain.actor import Actor, Operator, TenantId, UserId
from stepup.domain.errors import UnknownPersonError
from stepup.domain.person import PeopleCounts, Person, PersonState
from stepup.domain.policy import Policy
from stepup.domain.values import value
from stepup.service.calls.context import AnyContext
from stepup.service.calls.limits import TenantShare
from stepup.service.calls.page_tokens import PageTokens
from stepup.service.people.operator_reads import record_operator_read
from stepup.service.ports import Database, KnownTenant, PeopleQuery, Records

_LIST: Final = "PeopleService/ListPeople"


@value
class PersonView:
    """A person, and all states that hold at the time of a call."""

    person: Person
    states: Sequence[PersonState]


@value
class PageOfPeople:
    """Some people, in the order of their ids; the token of the next page is empty on the last page.

    Only the first page has counts.
    """

    people: Sequence[PersonView]
    next_token: str
    counts: PeopleCounts | None


@value
class PageOfTenants:
    """Some tenants, in the order of their ids; the token of the next page is as for people."""

    tenants: Sequence[KnownTenant]
    next_token: str


@dataclass(frozen=True, slots=True)
class ListPeople:
    """Lists the people of a tenant, page by page."""

    database: Database
    tokens: PageTokens
    share: TenantShare

    async def __call__(
        self, context: AnyContext, state: PersonState | None, size: int, token: str = ""
    ) -> PageOfPeople:
        """Return a page of the people of the actor's tenant.

        Args:
            context: the call of a Master Administrator or an operator. An operator's first page is
                recorded.
            state: the state in which people must be; None for all.
            size: how many people at most.
            token: the `next_token` of the page before, with the same state; empty for the first.
                A token of another reader would give an operator pages of a list that has no event.

        Raises:
            RoleRequiredError: the actor is a person with another role.
            InvalidFieldError: the token was not given for this tenant and state, or was given to
                another operator, or for another reason.
            OverloadedError: too many pages of the tenant are being read.
            StoreUnavailableError: the people cannot be read, or the read cannot be recorded.
        """
        _demand_reader(context)
        tenant_id = context.tenant_id
        scope = ("people", tenant_id, state.value if state else "", *_reader(context))
        after = UserId(self.tokens.position(scope, token)) if token else None
        async with self.share.turn(tenant_id):
            if not token:
                await record_operator_read(self.database, context, _LIST)
            async with self.database.snapshot(tenant_id) as records:
                in_grace = await _in_grace(records, context)
                query = PeopleQuery(tenant_id, context.now, in_grace, state, after)
                people = await records.people.list(query, size + 1)
                of_all = replace(query, state=None)
                counts = None if token else await records.people.count(of_all)
        page = [_view_of(person, query) for person in people[:size]]
        next_token = ""
        if len(people) > size:
            next_token = self.tokens.make(scope, people[size - 1].user_id)
        return PageOfPeople(page, next_token, counts)

    async def count(self, context: AnyContext) -> PeopleCounts:
        """Count the people of the actor's tenant. An operator's read is recorded.

        Raises:
            RoleRequiredError: the actor is a person with another role.
            OverloadedError: too many pages of the tenant are being read.
            StoreUnavailableError: as for a page.
        """
        _demand_reader(context)
        tenant_id = context.tenant_id
        async with self.share.turn(tenant_id):
            await record_operator_read(self.database, context, _LIST)
            async with self.database.snapshot(tenant_id) as records:
                in_grace = await _in_grace(records, context)
                return await records.people.count(PeopleQuery(tenant_id, context.now, in_grace))


@dataclass(frozen=True, slots=True)
class GetPerson:
    """Reads one person."""

    database: Database

    async def __call__(self, context: AnyContext, user_id: UserId) -> PersonView:
        """Return a person of the actor's tenant. An operator's read is recorded.

        Raises:
            RoleRequiredError: the actor is a person with another role.
            UnknownPersonError: the service knows nobody by this id.
            StoreUnavailableError: the person cannot be read, or the read cannot be recorded.
        """
        _demand_reader(context)
        tenant_id, now = context.tenant_id, context.now
        await record_operator_read(self.database, context, "PeopleService/GetPerson", user_id)
        async with self.database.snapshot(tenant_id) as records:
            query = PeopleQuery(tenant_id, now, await _in_grace(records, context))
            person = await records.people.find(tenant_id, user_id, now)
        if person is None:
            raise UnknownPersonError("the service knows nobody by this user_id")
        return _view_of(person, query)


@dataclass(frozen=True, slots=True)
class ListTenants:
    """Lists the tenants that have audit events, page by page."""

    database: Database
    tokens: PageTokens
    share: TenantShare

    async def __call__(self, size: int, token: str = "") -> PageOfTenants:
        """Return a page of tenants, for a caller that may act for all of them.

        `size` and `token` are as for `ListPeople`.

        Raises:
            InvalidFieldError: the token was not given for this list.
            StoreUnavailableError: the tenants cannot be read.
        """
        scope = ("tenants",)
        after = TenantId(self.tokens.position(scope, token)) if token else None
        async with self.share.turn(None), self.database.snapshot() as records:
            tenants = await records.people.tenants(after, size + 1)
        next_token = ""
        if len(tenants) > size:
            next_token = self.tokens.make(scope, tenants[size - 1].tenant_id)
        return PageOfTenants(tenants[:size], next_token)


def _reader(context: AnyContext) -> Sequence[str]:
    """The operator whose list a page continues, with the reason; nothing for a person."""
    match context.actor:
        case Operator(name=name, reason=reason):
            return name, reason
    return ()


def _demand_reader(context: AnyContext) -> None:
    if isinstance(context.actor, Actor):
        context.actor.require_master_administrator()


async def _in_grace(records: Records, context: AnyContext) -> bool:
    policy = await records.policies.find(context.tenant_id) or Policy(context.tenant_id)
    return policy.in_grace(context.now)


def _view_of(person: Person, query: PeopleQuery) -> PersonView:
    return PersonView(person, tuple(person.states(query.now, in_grace=query.in_grace)))
