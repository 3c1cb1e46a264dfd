"""A method, and one call of it, as the pipeline and the handlers see them on any engine."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property, lru_cache, partial
from types import MappingProxyType
from typing import Any, Final, NamedTuple, TypeAlias, overload

from google.protobuf.message import Message

from stepup.domain.actor import Actor, CallerId, Outsider, TenantId
from stepup.domain.callers import Caller, Callers, Grant, Rule
from stepup.domain.errors import CallerNotPermittedError, ClaimNotPermittedError
from stepup.domain.operations import OperationId
from stepup.rpc.engine import Invocation
from stepup.rpc.identity import Identification
from stepup.rpc.pipeline.portal_calls import InPortal
from stepup.service.calls.context import AnyContext, Context, OutsiderContext
from stepup.service.calls.limits import CallerLimits
from stepup.service.calls.refused_claims import RefusedClaims
from stepup.service.policy.known_tenants import KnownTenants
from stepup.telemetry.spans import CallSpan

_POLICY_METHODS = "PolicyService/"
_EVERY_TENANT: Final = TenantId("*")
_NO_FURTHER_CLAIMS: Mapping[OperationId, Actor] = MappingProxyType({})

Conclusion: TypeAlias = str | Sequence[str]
"""The product's word for an answer; for a batch, the words for all answers."""
MAX_REMEMBERED: Final = 4096


def path_of(service: str, name: str) -> str:
    """The name of a method in the rules of callers: `StepUpService/CheckStepUp`."""
    return f"{service.rpartition('.')[2]}/{name}"


@dataclass(frozen=True)
class Method:
    """A method of the contract, and its handler.

    Args:
        service: `stepup.v1.StepUpService`.
        name: `CheckStepUp`.
        handler: takes a request and a `Call`; returns an answer or, if the method streams, an
            asynchronous generator of answers.
        required_method: another method that a caller must be permitted to use for the same tenant
            and operations, by its name in the rules of callers.
        waits: whether a call waits for a person, and so may last for minutes.
    """

    service: str
    name: str
    request: type[Message]
    handler: Callable[[Any, "Call"], Any]
    streams: bool = False
    required_method: str | None = None
    waits: bool = False

    @cached_property
    def path(self) -> str:
        """Its name in the rules of callers: `StepUpService/CheckStepUp`."""
        return path_of(self.service, self.name)

    @cached_property
    def full_name(self) -> str:
        """Its name in the log: `stepup.v1.StepUpService/CheckStepUp`."""
        return f"{self.service}/{self.name}"


@dataclass(frozen=True, slots=True)
class AdmittedCaller:
    """A caller, and the identities that its credentials prove, sorted."""

    caller: Caller
    identities: tuple[str, ...]


class Authorization(NamedTuple):
    """What the steps of an authorization use."""

    limits: CallerLimits
    known_tenants: KnownTenants
    refused_claims: RefusedClaims


class Call:
    """A call from its receipt to its end.

    A handler gets the `Context` of a use case, or the tenant, only from `authorize_and_charge` or
    `authorize_and_charge_tenant`. So no handler acts beyond the rules and the rate of the caller
    (S15, S16). A handler calls one of them, once.
    """

    __slots__ = (
        "_authorization",
        "admitted",
        "began",
        "caller_id",
        "conclusion",
        "invocation",
        "method",
        "names_portal",
        "portal",
        "received_at",
        "received_ns",
        "request_id",
        "span",
        "trace_id",
    )

    admitted: AdmittedCaller
    """Set when the caller is admitted; until then, every use of it raises."""

    def __init__(
        self,
        method: Method,
        invocation: Invocation,
        received_at: datetime,
        request_id: str,
        authorization: Authorization,
    ) -> None:
        self.began = time.perf_counter()
        self.received_ns = time.time_ns()
        self.method = method
        self.invocation = invocation
        self.received_at = received_at
        self.request_id = request_id
        self.caller_id: CallerId | None = None
        self.conclusion: dict[str, Conclusion] = {}
        self.names_portal = False
        """Whether the metadata have the id of a portal session."""
        self.portal: InPortal | None = None
        self.span: CallSpan | None = None
        self.trace_id: str | None = None
        self._authorization = authorization

    def conclude(self, **words: Conclusion) -> None:
        """Add words to the finish line: our own words, and none of the payload (S11)."""
        self.conclusion.update(words)

    @overload
    async def authorize_and_charge(
        self,
        actor: Actor,
        *operations: OperationId,
        cost: int = 1,
        asserting: Mapping[OperationId, Actor] = _NO_FURTHER_CLAIMS,
    ) -> Context: ...

    @overload
    async def authorize_and_charge(
        self, actor: Outsider, *operations: OperationId, cost: int = 1
    ) -> OutsiderContext: ...

    async def authorize_and_charge(
        self,
        actor: Actor | Outsider,
        *operations: OperationId,
        cost: int = 1,
        asserting: Mapping[OperationId, Actor] = _NO_FURTHER_CLAIMS,
    ) -> AnyContext:
        """Check that the caller may act for the actor, and charge its rate.

        An operator needs no permission for the method's required method, but for the claim. Within
        a portal session the caller that opened the session must be permitted to make the claims as
        well (S20); `PortalCalls` has checked its other rules. The rate is that of the web process:
        people at pages use up no backend's rate.

        Args:
            actor: the person; or an operator, or a deprovisioning caller.
            operations: the operations of the call, if it has any.
            cost: how many calls it counts as.
            asserting: by operation, the same actor with what a check of the operation asserts
                beyond `actor`.

        Raises:
            CallerNotPermittedError: no rule of the caller permits the tenant or an operation, for
                the method or for its required method.
            CallerRateLimitedError: the caller is over its rate.
            UnknownTenantError: the tenant has no policy, and the deployment refuses such tenants.
            ClaimNotPermittedError: no rule permits a claim of the actor. The claim is recorded.
            StoreUnavailableError: the claim could not be recorded.
        """
        caller, method, tenant_id = self.admitted.caller, self.method.path, actor.tenant_id
        rules: dict[OperationId | None, Rule] = {}
        for operation in operations or (None,):
            rules[operation] = caller.demand(method, tenant_id, operation)
            if self.method.required_method is not None and isinstance(actor, Actor):
                caller.demand(self.method.required_method, tenant_id, operation)
        # Before the claims: to record a refused claim costs a transaction.
        await self._charge_rate(tenant_id, cost)
        await self._require_known_tenant(tenant_id)
        grants: dict[OperationId | None, Grant] = {}
        received = (self.received_at, self.request_id, self.admitted.identities, grants)
        context: AnyContext
        if isinstance(actor, Actor):
            session = None if self.portal is None else self.portal.session
            context = Context(caller.caller_id, actor, *received, session)
        else:
            context = OutsiderContext(caller.caller_id, actor, *received)
        for operation, rule in rules.items():
            asserted = asserting.get(operation, actor) if operation else actor
            try:
                claims = caller.demand_claims(method, asserted, operation)
                if self.portal is not None:
                    self.portal.opened_by.demand_claims(method, asserted, operation)
            except ClaimNotPermittedError as refused:
                await self._record_refused_claim(context, operation, refused.claim)
                raise
            grants[operation] = Grant(rule, claims)
        return context

    async def authorize_and_charge_every_tenant(self) -> None:
        """Check that a rule of the caller grants the method for all tenants, and charge its rate.

        Such calls have a rate of their own, as if all tenants were one more.

        Raises:
            CallerNotPermittedError: none does.
            CallerRateLimitedError: the caller is over its rate.
        """
        self.admitted.caller.demand_for_every_tenant(self.method.path)
        await self._charge_rate(_EVERY_TENANT, 1)

    async def authorize_and_charge_tenant(self, tenant_id: TenantId) -> TenantId:
        """Check that the caller may use the method for the tenant, and charge its rate.

        Raises:
            CallerNotPermittedError: no rule of the caller permits the tenant.
            CallerRateLimitedError: the caller is over its rate.
            UnknownTenantError: the tenant has no policy, and the deployment refuses such tenants.
            ClaimNotPermittedError: no rule permits a claim of the portal session's actor. The claim
                is recorded.
            StoreUnavailableError: the claim could not be recorded.
        """
        if self.portal is not None:
            # The message has no actor. That of the session has claims, and the session's tenant.
            await self.authorize_and_charge(self.portal.session.actor)
            return tenant_id
        self.admitted.caller.demand(self.method.path, tenant_id, None)
        await self._charge_rate(tenant_id, 1)
        await self._require_known_tenant(tenant_id)
        return tenant_id

    async def _charge_rate(self, tenant_id: TenantId, cost: int) -> None:
        caller = self.admitted.caller
        if caller.rate is not None:
            limits = self._authorization.limits
            await limits.spend(caller.caller_id, tenant_id, caller.rate, cost)

    async def _require_known_tenant(self, tenant_id: TenantId) -> None:
        # The methods of the policy make a tenant known.
        if not self.method.path.startswith(_POLICY_METHODS):
            await self._authorization.known_tenants.demand(tenant_id)

    async def _record_refused_claim(
        self, context: AnyContext, operation: OperationId | None, claim: str
    ) -> None:
        await self._authorization.refused_claims(context, self.method.path, operation, claim)


class Admission:
    """Admits registered callers, by their credentials only."""

    def __init__(self, identification: Identification, callers: Callers) -> None:
        self._identification = identification
        self.replace(callers)

    def named(self, caller_id: str) -> Caller | None:
        """The caller of a name, with the rules that it has now; None if there is none."""
        return self._callers.named(caller_id)

    def replace(self, callers: Callers) -> None:
        """Replace the callers and their rules; calls in flight keep theirs."""
        self._callers = callers
        # A new cache, because the old cache has answers for the old callers.
        self._find_caller = lru_cache(MAX_REMEMBERED)(partial(_find_caller, callers))

    async def __call__(self, invocation: Invocation) -> AdmittedCaller:
        """Find the caller that every proven identity names.

        Raises:
            CallerUnauthenticatedError: credentials are missing or not valid.
            StoreUnavailableError: the keys that verify the credentials are not known at present.
            OverloadedError: too many calls wait for these keys.
            CallerNotPermittedError: no caller has an identity, or the identities name different
                callers.
        """
        identities = await self._identification.identify(invocation)
        return self._find_caller(identities)


def _find_caller(callers: Callers, identities: frozenset[str]) -> AdmittedCaller:
    named = {callers.identified(identity) for identity in identities}
    if len(named) != 1 or None in named:
        raise CallerNotPermittedError("the credentials name no caller that is registered")
    [caller] = named
    assert caller is not None  # noqa: S101  # for mypy: excluded just above
    return AdmittedCaller(caller, tuple(sorted(identities)))
