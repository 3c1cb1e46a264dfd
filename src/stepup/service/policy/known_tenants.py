"""Tenants that never had a policy: counted, and refused if the deployment is configured so."""

from dataclasses import dataclass

from prometheus_client import Counter

from stepup.domain.actor import TenantId
from stepup.domain.errors import StoreUnavailableError, UnknownTenantError
from stepup.service.policy.snapshots import Snapshots

_unknown = Counter(
    "stepup_unknown_tenant_calls", "Calls for a tenant that was never given a policy."
)


@dataclass(frozen=True, slots=True)
class KnownTenants:
    """Recognizes tenants by their policies. `refuse` is `identity.unknown_tenants = "refuse"`."""

    snapshots: Snapshots
    refuse: bool = False

    async def demand(self, tenant_id: TenantId) -> None:
        """Count a call for an unknown tenant, and refuse it if `refuse` is set.

        Raises:
            UnknownTenantError: the tenant has no policy, and `refuse` is set.
            StoreUnavailableError: `refuse` is set, and the policies cannot be read.
        """
        try:
            policy = await self.snapshots.policy(tenant_id)
        except StoreUnavailableError:
            if self.refuse:
                raise
            return
        if policy.version:
            return
        _unknown.inc()
        if self.refuse:
            raise UnknownTenantError("the tenant was never given a policy: is its id misspelt?")
