"""The name of a tenant on the pages."""

from dataclasses import dataclass

from stepup.domain.actor import TenantId
from stepup.domain.totp import Label
from stepup.service.policy.snapshots import Snapshots


@dataclass(frozen=True, slots=True)
class TenantName:
    """Finds the names of tenants. `issuer` is that of the deployment."""

    snapshots: Snapshots
    issuer: Label

    async def __call__(self, tenant_id: TenantId) -> Label:
        """The issuer of the tenant's policy, or that of the deployment.

        Raises:
            StoreUnavailableError: the policy is not known.
        """
        return (await self.snapshots.policy(tenant_id)).issuer or self.issuer
