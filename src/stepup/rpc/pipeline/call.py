"""One call, as handlers see it: the same on any gRPC engine, and in tests with none."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import TypeAlias

from stepup.domain.actor import Actor, TenantId
from stepup.domain.callers import Caller, Grant
from stepup.domain.errors import ClaimNotPermittedError
from stepup.domain.operations import OperationId
from stepup.service.calls.caller_limits import CallerLimits
from stepup.service.calls.context import Context
from stepup.service.calls.refused_claims import RefusedClaims
from stepup.service.policy.known_tenants import KnownTenants

_OF_POLICIES = "PolicyService/"
_NOTHING_MORE: Mapping[OperationId, Actor] = MappingProxyType({})

Conclusion: TypeAlias = str | Sequence[str]
"""A word of the product's for what was answered, or one for each of a batch."""


@dataclass(frozen=True, slots=True)
class Invocation:
    """What an engine knows of a call before anything of it is believed.

    `metadata` are the request's key-value pairs, keys in lower case. `peer()` is the address that
    the connection comes from; `auth_context()` is what gRPC knows of it, by property name: with TLS
    the peer's certificate, too. That costs something: only who wants to know asks, and before the
    call has ended. Metadata have credentials in them, and are in no repr (S11).
    """

    peer: Callable[[], str] = field(repr=False)
    metadata: Sequence[tuple[str, str | bytes]] = field(default=(), repr=False)
    auth_context: Callable[[], Mapping[str, Iterable[bytes]]] = field(default=dict, repr=False)

    def header(self, key: str) -> str:
        """The first text value of a metadata key; empty when there is none."""
        for name, value in self.metadata:
            if name == key and isinstance(value, str):
                return value
        return ""


@dataclass(frozen=True, slots=True)
class Admitted:
    """A caller that was let in, and the identities that its credentials proved, sorted."""

    caller: Caller
    identities: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Call:
    """An admitted call: who calls which method, when it was received (S1), its id in the log.

    A handler learns for whom to act through `on_behalf_of` and `for_tenant` only: no way leads past
    what the caller may do (S15, S16), and how often. Only what it may do is counted, once per call.
    """

    admitted: Admitted
    method: str
    received_at: datetime
    request_id: str
    refused_claims: RefusedClaims
    limits: CallerLimits
    known_tenants: KnownTenants
    conclusion: dict[str, Conclusion] = field(default_factory=dict)

    def conclude(self, **told: Conclusion) -> None:
        """Say what the finish line tells of the answer: in words of ours, none of the payload's."""
        self.conclusion.update(told)

    async def on_behalf_of(
        self,
        actor: Actor,
        *operations: OperationId,
        cost: int = 1,
        asserting: Mapping[OperationId, Actor] = _NOTHING_MORE,
    ) -> Context:
        """The call as the use cases see it, once the caller may make it and assert the actor.

        Args:
            actor: for whom.
            operations: what the call is about, if it is about any.
            cost: how many calls it counts.
            asserting: by operation, the same actor with what a check of the operation asserts
                beyond `actor`.

        Raises:
            CallerNotPermittedError: not for this tenant, or not for one of the operations.
            CallerRateLimitedError: not yet.
            UnknownTenantError: the tenant has no policy, and the deployment refuses such tenants.
            ClaimNotPermittedError: a claim of the actor is not the caller's to assert; that it was
                asserted is on record.
            StoreUnavailableError: it could not be put on record.
        """
        caller, grants = self.admitted.caller, dict[OperationId | None, Grant]()
        rules = {
            operation: caller.demand(self.method, actor.tenant_id, operation)
            for operation in operations or (None,)
        }
        # Before the claims: one that is refused is put on record, which is dear.
        await self._spend(actor.tenant_id, cost)
        await self._demand_known(actor.tenant_id)
        for operation, rule in rules.items():
            try:
                asserted = asserting.get(operation, actor) if operation else actor
                claims = caller.demand_claims(self.method, asserted, operation)
            except ClaimNotPermittedError as refused:
                context = self._context(actor, grants)
                await self.refused_claims(context, self.method, operation, refused.claim)
                raise
            grants[operation] = Grant(rule, claims)
        return self._context(actor, grants)

    async def for_tenant(self, tenant_id: TenantId) -> TenantId:
        """The tenant, once the caller may use the method for it.

        Raises:
            CallerNotPermittedError: it may not.
            CallerRateLimitedError: not yet.
            UnknownTenantError: the tenant has no policy, and the deployment refuses such tenants.
        """
        self.admitted.caller.demand(self.method, tenant_id, None)
        await self._spend(tenant_id, 1)
        await self._demand_known(tenant_id)
        return tenant_id

    async def _demand_known(self, tenant_id: TenantId) -> None:
        # The policy's own methods are how a tenant gets known.
        if not self.method.startswith(_OF_POLICIES):
            await self.known_tenants.demand(tenant_id)

    async def _spend(self, tenant_id: TenantId, cost: int) -> None:
        caller = self.admitted.caller
        if caller.rate is not None:
            await self.limits.spend(caller.caller_id, tenant_id, caller.rate, cost)

    def _context(self, actor: Actor, grants: Mapping[OperationId | None, Grant]) -> Context:
        return Context(
            self.admitted.caller.caller_id,
            actor,
            self.received_at,
            self.request_id,
            self.admitted.identities,
            grants,
        )
