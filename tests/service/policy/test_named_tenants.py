"""S18: every use case names the tenant for which it reads and writes SQL, so that shares hold."""

from stepup_tests.people import ACME, administrator, person
from stepup_tests.worker import OSQUERY, REMOTE_SHELL

from stepup.domain.callers import Claim
from stepup.service.ports import EventQuery


async def test_s18_whatever_is_done_for_a_tenant_is_done_in_its_share(world, worker):
    alice, root, bob = person(), administrator(), person("bob")
    world.database.tenants.clear()
    await worker.select(OSQUERY)
    app = await worker.enrol(alice)
    await worker.elevate(alice, app)
    await worker.check_all(alice, [(OSQUERY, "host-1"), (REMOTE_SHELL, "host-1")])
    await worker.check(bob)
    await worker.select(OSQUERY)
    receipt = (await worker.check(alice)).receipt
    await worker.retry(alice, receipt)
    await worker.set_account_mfa(alice, enabled=True)
    await worker.standing(alice)
    await worker.revoke(alice)
    await worker.reset(alice, app.reset_code)
    await worker.begin(bob)
    await worker.cancel(bob)
    app = await worker.enrol(bob)
    await worker.elevate(bob, app)
    await worker.remove(bob)
    app = await worker.enrol(root)
    await worker.enrol(alice)
    await worker.elevate(root, app)
    await worker.admin_reset(root, "alice")
    claim = Claim.MANAGED_SERVICES.value
    await worker.application.refused_claims(worker.context(alice), "A/B", None, claim)
    await worker.policy()
    await worker.page(EventQuery(ACME), 10)
    await worker.export()
    assert len(world.database.tenants) > 35
    unnamed = [tenant for tenant in world.database.tenants if tenant != ACME]
    assert unnamed == []
