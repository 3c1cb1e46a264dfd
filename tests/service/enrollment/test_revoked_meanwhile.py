"""What an elevation permits does not outlive its revocation (S10), whenever that is committed.

A call looks its elevation up before its transaction. Here another worker commits the revocation in
between, and no worker has polled since.
"""

import pytest
from stepup_tests.otp import code_at
from stepup_tests.people import administrator, person
from stepup_tests.worker import OSQUERY

from stepup.domain.decision import Reason
from stepup.domain.errors import ElevationRequiredError, EnrollmentFault, EnrollmentStateError
from stepup.service.step_up.revocation import Scope

ALICE = administrator("alice")
BOB = person("bob")
BOTH_SCOPES = pytest.mark.parametrize("scope", Scope)


@pytest.fixture
async def app(worker):
    await worker.select(OSQUERY)
    app = await worker.enrol(ALICE)
    await worker.elevate(ALICE, app)
    return app


@pytest.fixture
async def revoke(world):
    """Revokes by another worker, of which the first has not heard."""
    other = await world.worker()

    async def revoke(scope):
        world.elevations.revokes = False
        await other.revoke(ALICE, scope)

    return revoke


@pytest.fixture
def revoke_meanwhile(world, revoke):
    """Lets the next transaction begin after a revocation."""

    def meanwhile(scope):
        async def before_transaction():
            await revoke(scope)

        world.database.before_transaction = before_transaction

    return meanwhile


async def pending(world):
    async with world.database.snapshot() as records:
        return await records.pending.find(ALICE.tenant_id, ALICE.user_id, ALICE.session_hash)


@BOTH_SCOPES
async def test_s10_it_opens_no_wizard(world, worker, app, revoke_meanwhile, scope):
    revoke_meanwhile(scope)
    with pytest.raises(ElevationRequiredError):
        await worker.begin(ALICE)
    assert await pending(world) is None
    await worker.advance(seconds=30)
    await worker.elevate(ALICE, app)


@BOTH_SCOPES
async def test_s8_its_reset_code_still_opens_one(world, worker, app, revoke_meanwhile, scope):
    revoke_meanwhile(scope)
    assert (await worker.begin(ALICE, app.reset_code)).by_reset_code
    assert (await pending(world)).rests_on_elevation is False
    assert await worker.wizard(ALICE)


@pytest.mark.parametrize("is_known", [True, False], ids=["known", "stored by an earlier version"])
@BOTH_SCOPES
@pytest.mark.usefixtures("app")
async def test_s10_a_wizard_that_is_there_all_the_same_cannot_be_completed(
    world, worker, revoke, scope, is_known
):
    """A server of an earlier version put it, which did not look for the revocation."""
    screen = await worker.begin(ALICE)
    await worker.confirm(ALICE, code_at(screen.secret.octets, worker.clock.now()))
    active = (await worker.standing(ALICE)).active
    world.sql("CREATE TABLE kept AS SELECT * FROM pending_enrollments")
    await worker.advance(seconds=3)
    await revoke(scope)
    world.sql("INSERT INTO pending_enrollments SELECT * FROM kept")
    if not is_known:
        world.sql("UPDATE pending_enrollments SET elevated_at = NULL")
    await worker.advance(minutes=8)

    assert (await worker.standing(ALICE)).pending is None
    code = code_at(screen.secret.octets, worker.clock.now())
    for call in (worker.complete(ALICE), worker.confirm(ALICE, code)):
        with pytest.raises(EnrollmentStateError) as refused:
            await call
        assert refused.value.fault is EnrollmentFault.NOTHING_PENDING
    with pytest.raises(ElevationRequiredError):
        await worker.begin(ALICE)
    assert (await worker.standing(ALICE)).active == active
    assert (await worker.check(ALICE)).verdict.reason is Reason.NOT_ELEVATED


@BOTH_SCOPES
async def test_a_code_that_was_given_after_a_revocation_permits_a_wizard(worker, app, scope):
    await worker.revoke(ALICE, scope)
    await worker.advance(seconds=30)
    await worker.elevate(ALICE, app)
    assert await worker.wizard(ALICE)


async def test_a_wizard_of_an_earlier_version_is_completed_where_nothing_was_revoked(world, worker):
    app = await worker.enrol(ALICE)
    await worker.elevate(ALICE, app)
    await worker.begin(ALICE)
    world.sql("UPDATE pending_enrollments SET elevated_at = NULL")
    assert await worker.wizard(ALICE)


async def turn_mfa_off(worker):
    await worker.set_account_mfa(ALICE, enabled=False)


@BOTH_SCOPES
@pytest.mark.parametrize(
    "act",
    [
        lambda worker: worker.update_policy(ALICE, enabled=False),
        turn_mfa_off,
        lambda worker: worker.remove(ALICE),
        lambda worker: worker.admin_reset(ALICE, "bob"),
        lambda worker: worker.unlock(ALICE, "bob"),
        lambda worker: worker.forget(ALICE, "bob"),
        lambda worker: worker.issue_reset_code(ALICE),
    ],
    ids=[
        "weaken the policy",
        "turn MFA off",
        "remove",
        "reset another user's",
        "unlock",
        "forget",
        "reset code",
    ],
)
@pytest.mark.usefixtures("app")
async def test_s10_it_permits_no_change(worker, revoke_meanwhile, scope, act):
    await worker.fail(BOB, await worker.wizard(BOB), times=5)
    if act is turn_mfa_off:  # it stays on while the policy is enabled
        await worker.update_policy(ALICE, enabled=False)
    before = await worker.policy(), await worker.standing(ALICE), await worker.standing(BOB)
    revoke_meanwhile(scope)
    with pytest.raises(ElevationRequiredError) as refused:
        await act(worker)
    assert refused.value.is_enrolled
    after = await worker.policy(), await worker.standing(ALICE), await worker.standing(BOB)
    assert after == before


@pytest.mark.usefixtures("app")
async def test_s10_without_an_authenticator_the_refusal_says_to_enrol(world, worker):
    other = await world.worker()
    world.database.before_transaction = lambda: other.remove(ALICE)
    with pytest.raises(ElevationRequiredError) as refused:
        await worker.update_policy(ALICE, enabled=False)
    assert not refused.value.is_enrolled
