"""`NOT_ELEVATED` says why, by what the decision has looked up anyway."""

from datetime import timedelta

import pytest
from stepup_tests.people import person
from stepup_tests.worker import API_KEYS, OSQUERY, SIGN_IN

from stepup.domain.decision import Reason
from stepup.domain.not_elevated import NotElevatedDetail
from stepup.service.step_up.revocation import Scope

ALICE = person()


@pytest.fixture
async def app(worker):
    await worker.select(OSQUERY)
    app = await worker.enrol(ALICE)
    await worker.advance(minutes=15)
    return app


@pytest.fixture
async def elevated(worker, app):
    return await worker.elevate(ALICE, app)


async def detail(worker, operation=OSQUERY):
    answer = await worker.check(ALICE, operation)
    assert answer.verdict.reason is Reason.NOT_ELEVATED
    return answer.detail


@pytest.mark.usefixtures("app")
@pytest.mark.parametrize("operation", [OSQUERY, SIGN_IN])
async def test_a_session_that_gave_no_code(worker, operation):
    assert await detail(worker, operation) is NotElevatedDetail.NEVER


@pytest.mark.usefixtures("elevated")
async def test_a_session_whose_elevation_expired(worker):
    await worker.advance(minutes=15)
    assert await detail(worker) is NotElevatedDetail.EXPIRED


@pytest.mark.usefixtures("elevated")
@pytest.mark.parametrize("scope", Scope)
async def test_a_session_that_was_revoked(world, worker, scope):
    other_worker = await world.worker()
    await worker.revoke(ALICE, scope)
    await other_worker.poll()
    for each in (worker, other_worker):
        assert await detail(each) is NotElevatedDetail.REVOKED


async def test_a_wizard_that_was_completed_counts_as_a_code(worker):
    await worker.select(OSQUERY)
    await worker.wizard(ALICE)
    await worker.advance(minutes=15)
    assert await detail(worker) is NotElevatedDetail.EXPIRED


@pytest.mark.usefixtures("elevated")
async def test_no_other_reason_has_a_detail(worker):
    assert (await worker.check(ALICE)).detail is None
    assert (await worker.check(ALICE, API_KEYS)).detail is None
    assert (await worker.check(person("bob"))).detail is None
    await worker.select(**{OSQUERY: timedelta(minutes=5)})
    await worker.advance(minutes=6)
    answer = await worker.check(ALICE)
    assert (answer.verdict.reason, answer.detail) == (Reason.ELEVATION_TOO_OLD, None)


@pytest.mark.usefixtures("elevated")
async def test_s17_where_revocations_cannot_be_known_the_decision_goes_without(
    worker, clock, monkeypatch
):
    """They get too old after the last look-up of the decision."""
    await worker.revoke(ALICE)
    revocations = worker.snapshots.revocations

    def revocations_too_late():
        clock.advance(seconds=6)
        return revocations()

    monkeypatch.setattr(worker.snapshots, "revocations", revocations_too_late)
    assert await detail(worker) is None
