"""`GetPolicy` and `UpdatePolicy`: the policy that a tenant's Master Administrators set."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

from stepup.domain.actor import TenantId
from stepup.domain.audit import EventKind, Json, written
from stepup.domain.changes import PolicyChanged
from stepup.domain.elevation import Elevation
from stepup.domain.errors import (
    ConflictError,
    EtagMismatchError,
    InvalidFieldError,
    RoleRequiredError,
)
from stepup.domain.person import PersonState
from stepup.domain.policy import EVERY_TIME, MAX_AGE_PROBLEM, Policy, PolicyChange
from stepup.service.calls.context import AnyContext, Context
from stepup.service.calls.limits import TenantShare, share_of_pages
from stepup.service.people.operator_reads import record_operator_read
from stepup.service.people.tallies import count_act
from stepup.service.policy.snapshots import Snapshots
from stepup.service.ports import Database, PeopleQuery
from stepup.service.step_up.elevated import Elevated, demand_unrevoked

_UPDATE: Final = "PolicyService/UpdatePolicy"


@dataclass(frozen=True, slots=True)
class GetPolicy:
    """Reads a tenant's policy from the database, not from a snapshot.

    `share` bounds the counts of people, which cost as much as pages of people.
    """

    database: Database
    share: TenantShare = field(default_factory=share_of_pages)

    async def __call__(self, tenant_id: TenantId) -> Policy:
        """Return the policy; a disabled, empty one if the tenant never had one.

        Raises:
            StoreUnavailableError: the database cannot be read.
        """
        async with self.database.snapshot(tenant_id) as records:
            return await records.policies.find(tenant_id) or Policy(tenant_id)

    async def count_in_grace(self, policy: Policy, now: datetime) -> int:
        """Count the people who were asked and have time to enrol by the policy.

        Raises:
            OverloadedError: too many pages of the tenant are being read.
            StoreUnavailableError: the database cannot be read.
        """
        if not policy.in_grace(now):
            return 0
        query = PeopleQuery(policy.tenant_id, now, in_grace=True, state=PersonState.IN_GRACE)
        async with (
            self.share.turn(policy.tenant_id),
            self.database.snapshot(policy.tenant_id) as records,
        ):
            return (await records.people.count(query)).in_grace


@dataclass(frozen=True, slots=True)
class UpdatePolicy:
    """Changes a tenant's policy, by compare-and-set on its version."""

    database: Database
    elevated: Elevated
    snapshots: Snapshots

    async def __call__(self, context: AnyContext, change: PolicyChange) -> Policy:
        """Change the policy of the actor's tenant; equal values change nothing.

        The actor is a Master Administrator, or an operator, who cannot weaken the policy.

        A tenant without a policy always gets one, even a disabled one: the tenant is then known.

        Raises:
            RoleRequiredError: the actor is not a Master Administrator; or the actor is an operator,
                and the change weakens the policy.
            InvalidFieldError: a new `max_age` is shorter than 30 seconds; or a new `enroll_by` is
                past, or more than 30 days after the policy was enabled.
            EtagMismatchError: the policy has changed since it was read.
            ElevationRequiredError: the change weakens the policy, and the session is not elevated.
            StoreUnavailableError: nothing was changed.
        """
        if isinstance(context, Context):
            context.actor.require_master_administrator()
        before = await GetPolicy(self.database)(context.tenant_id)
        if change.etag != before.etag:
            raise EtagMismatchError("the policy has changed: read it again")
        after = change.applied_to(before)
        if after == before and before.version:
            return before
        _refuse_too_short(before, after)
        if problem := before.problem_of_enroll_by(after, context.now):
            raise InvalidFieldError("policy.enroll_by", problem)
        elevation = await self._demand_authority(context, before.weakenings(after))
        after = before.changed(after, context.now)
        await self._commit(context, before, after, elevation)
        return after

    async def _demand_authority(
        self, context: AnyContext, weakenings: Sequence[str]
    ) -> Elevation | None:
        """Return the elevation of a person that permits the weakenings; None without weakenings."""
        if not weakenings:
            return None
        purpose = f"weakening the policy ({'; '.join(weakenings)})"
        if isinstance(context, Context):
            return await self.elevated.require(context, purpose)
        # An attempt that the alert on operators should show.
        await record_operator_read(self.database, context, _UPDATE)
        raise RoleRequiredError(f"{purpose} needs a Master Administrator: operators may not do it")

    async def _commit(
        self, context: AnyContext, before: Policy, after: Policy, elevation: Elevation | None
    ) -> None:
        changed = PolicyChanged(after.tenant_id, after.version)
        kind = (
            EventKind.POLICY_CHANGED
            if isinstance(context, Context)
            else EventKind.POLICY_CHANGED_BY_OPERATOR
        )
        try:
            async with self.database.transaction(context.tenant_id) as records:
                _demand_same(await records.policies.find_for_update(after.tenant_id), before)
                await records.policies.save(after)
                await records.changes.announce(changed, context.now)
                event = context.event(kind, before=_described(before), after=_described(after))
                # The event concerns the tenant, and no single user.
                await records.audit.append(replace(event, subject_user_id=None))
                if elevation is not None:
                    await demand_unrevoked(records, elevation)  # with the lock of the audit chain
        except ConflictError as conflict:
            raise EtagMismatchError("the policy has changed: read it again") from conflict
        count_act(kind)
        self.snapshots.apply(changed)


def _refuse_too_short(before: Policy, after: Policy) -> None:
    for operation_id in before.too_short(after):
        index = list(after.max_ages).index(operation_id)
        raise InvalidFieldError(f"policy.operations[{index}].max_age", MAX_AGE_PROBLEM)


def _demand_same(stored: Policy | None, before: Policy) -> None:
    # By identity: after a fail-over the same version may be another policy (S28).
    if (stored or Policy(before.tenant_id)) != before:
        raise ConflictError("the policy has changed")


def _described(policy: Policy) -> Mapping[str, Json]:
    return {
        "etag": policy.etag,
        "enabled": policy.enabled,
        "issuer": policy.issuer,
        "enroll_by": written(policy.enroll_by) if policy.enroll_by else None,
        "operations": {
            operation_id: "every_time" if max_age == EVERY_TIME else int(max_age.total_seconds())
            for operation_id, max_age in sorted(policy.max_ages.items())
        },
    }
