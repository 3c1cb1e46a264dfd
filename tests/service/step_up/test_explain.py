"""`ExplainStepUp` over real facts: it says what a check would be answered, and changes nothing."""

from dataclasses import replace
from datetime import timedelta
from uuid import uuid4

import pytest
from stepup_tests.challenges import approve
from stepup_tests.people import administrator, operator, person, playbook_run
from stepup_tests.worker import API_KEYS, OSQUERY, REMOTE_SHELL, SIGN_IN

from stepup.domain.actor import AccountType, CallerId, Team
from stepup.domain.audit import EventKind
from stepup.domain.decision import Reason
from stepup.domain.errors import InvalidFieldError, RoleRequiredError, StoreUnavailableError
from stepup.domain.item_use import ChallengeRejection
from stepup.domain.not_elevated import NotElevatedDetail
from stepup.domain.policy import EVERY_TIME

ALICE, ROOT, SAM = person(), administrator(), operator()
AUTOMATIC = replace(ALICE, playbook_run=playbook_run())
MANAGED = replace(ALICE, team=Team.MANAGED_SERVICES_OPERATIONS)
SAML = replace(ALICE, account_type=AccountType.SAML)
OPERATIONS = [OSQUERY, REMOTE_SHELL, API_KEYS, SIGN_IN]


@pytest.fixture
async def policy(worker):
    selected = {OSQUERY: timedelta(minutes=5), REMOTE_SHELL: EVERY_TIME}
    return await worker.update_policy(ROOT, enabled=True, selected=selected)


@pytest.fixture
async def app(worker, policy):
    assert policy.enabled
    return await worker.enrol(ALICE)


async def disabled(worker):
    await worker.update_policy(ROOT, enabled=False)


async def not_enrolled(worker):
    await worker.select(OSQUERY, **{REMOTE_SHELL: EVERY_TIME})


async def in_grace(worker):
    enroll_by = worker.clock.now() + timedelta(days=1)
    selected = {OSQUERY: timedelta(minutes=5), REMOTE_SHELL: EVERY_TIME}
    await worker.update_policy(ROOT, enabled=True, selected=selected, enroll_by=enroll_by)


async def removed_in_grace(worker):
    await in_grace(worker)
    await worker.elevate(ALICE, await worker.enrol(ALICE))
    await worker.remove(ALICE)


async def enrolled(worker):
    await not_enrolled(worker)
    await worker.enrol(ALICE)


async def elevated(worker):
    await in_grace(worker)
    await worker.elevate(ALICE, await worker.enrol(ALICE))


async def elevated_long_ago(worker):
    await elevated(worker)
    await worker.advance(minutes=6)


async def revoked(worker):
    await elevated(worker)
    await worker.revoke(ALICE)


SITUATIONS = [
    *(disabled, not_enrolled, in_grace, removed_in_grace),
    *(enrolled, elevated, elevated_long_ago, revoked),
]


@pytest.mark.parametrize("situation", SITUATIONS)
async def test_an_explanation_is_that_of_the_check_that_follows_it(world, worker, situation):
    await situation(worker)
    for subject in (ALICE, AUTOMATIC, MANAGED, SAML):
        for operation in OPERATIONS:
            before = await world.state()
            explanation = await worker.explain(subject, subject, operation)
            assert await world.state() == before
            answer = await worker.check(subject, operation)
            assert (explanation.verdict, explanation.detail, explanation.policy_etag) == (
                *(answer.verdict, answer.detail),
                answer.policy_etag,
            )
            assert explanation.rules[-1].reason is answer.verdict.reason


@pytest.mark.usefixtures("app")
async def test_an_explanation_leaves_no_line_in_the_decision_log(world, worker):
    await worker.explain(ALICE, ALICE)
    assert world.decisions() == []


@pytest.mark.usefixtures("app")
async def test_the_detail_says_why_the_session_is_not_elevated(worker):
    explanation = await worker.explain(ALICE, ALICE)
    assert explanation.detail is NotElevatedDetail.OTHER_SESSION


async def test_an_approved_challenge_is_judged_and_not_used(world, worker, app):
    approved = await approve(worker, ALICE, app)
    before = await world.state()
    for _ in range(2):
        explanation = await worker.explain(approved, approved)
        assert explanation.verdict.reason is Reason.CHALLENGE_APPROVED
    assert await world.state() == before
    assert (await worker.check(approved)).verdict.reason is Reason.CHALLENGE_APPROVED
    again = (await worker.explain(approved, approved)).verdict
    assert again.challenge_rejection is ChallengeRejection.ITEM_USED


async def pending(worker, _app):
    return replace(ALICE, challenge_id=await worker.challenge(ALICE, (OSQUERY, "host-1")))


async def unknown(_worker, _app):
    return replace(ALICE, challenge_id=uuid4())


async def of_another_target(worker, app):
    return await approve(worker, ALICE, app, "host-2")


async def of_another_session(worker, app):
    approved = await approve(worker, ALICE, app)
    return replace(approved, session_id=person(session="phone").session_id)


async def of_a_session_signed_out(worker, app):
    approved = await approve(worker, ALICE, app)
    await worker.revoke(ALICE)
    return approved


@pytest.mark.parametrize(
    ("present", "rejection"),
    [
        (pending, ChallengeRejection.PENDING),
        (unknown, ChallengeRejection.UNKNOWN),
        (of_another_target, ChallengeRejection.NOT_AN_ITEM),
        (of_another_session, ChallengeRejection.OTHER_SESSION),
        (of_a_session_signed_out, ChallengeRejection.REVOKED),
    ],
)
async def test_an_unfit_challenge_is_named_as_by_the_check(worker, app, present, rejection):
    subject = await present(worker, app)
    explained = (await worker.explain(subject, subject)).verdict
    assert explained.challenge_rejection is rejection
    assert explained == (await worker.check(subject)).verdict


async def test_s10_a_revocation_counts_that_a_server_of_the_release_before_made(world, worker, app):
    """Its revocations end no challenge."""
    approved = await approve(worker, ALICE, app)
    await worker.revoke(ALICE)
    world.sql("UPDATE challenges SET state = 'approved', ended_at = NULL")
    explained = (await worker.explain(approved, approved)).verdict
    assert explained.challenge_rejection is ChallengeRejection.REVOKED


async def test_the_challenge_of_another_caller_is_unknown(worker, app):
    approved = await approve(worker, ALICE, app)
    explained = await worker.explain(approved, approved, caller=CallerId("console"))
    assert explained.verdict.challenge_rejection is ChallengeRejection.UNKNOWN


@pytest.mark.usefixtures("app")
@pytest.mark.parametrize(
    "asking",
    [ALICE, person(session="phone"), ROOT, administrator("alice"), SAM],
    ids=["self", "another session of theirs", "administrator", "administrator's own", "operator"],
)
async def test_the_person_an_administrator_and_an_operator_may_ask(worker, asking):
    verdict = (await worker.explain(asking, ALICE)).verdict
    assert verdict.reason is Reason.NOT_ELEVATED


@pytest.mark.usefixtures("app")
async def test_another_person_may_not_ask(world, worker):
    await world.refuses(worker.explain(person("bob"), ALICE), RoleRequiredError)


@pytest.mark.usefixtures("app")
@pytest.mark.parametrize("asking", [ROOT, SAM, person(tenant="acme")])
async def test_nobody_asks_about_another_tenant(world, worker, asking):
    subject = person(tenant="globex")
    refused = await world.refuses(worker.explain(asking, subject), InvalidFieldError)
    assert refused.field == "subject.tenant_id"


@pytest.mark.usefixtures("app")
async def test_s16_an_explanation_to_an_operator_is_on_record_before_the_answer(world, worker):
    await worker.explain(SAM, ALICE)
    [event] = await worker.events(EventKind.OPERATOR_READ)
    assert (event.actor_user_id, event.subject_user_id) == (None, "alice")
    assert event.details["method"] == "StepUpService/ExplainStepUp"
    assert event.details["operator"] == {"name": SAM.name, "reason": SAM.reason}
    world.database.audit_trail_takes_events = False
    with pytest.raises(StoreUnavailableError):
        await worker.explain(SAM, ALICE)


@pytest.mark.usefixtures("app")
async def test_an_explanation_to_a_person_needs_no_write(world, worker):
    world.database.writes = False
    for asking in (ALICE, ROOT):
        assert (await worker.explain(asking, ALICE)).verdict.reason is Reason.NOT_ELEVATED


@pytest.mark.usefixtures("app")
@pytest.mark.parametrize("store", ["database", "elevations"])
async def test_s17_a_fact_that_cannot_be_known_is_not_explained(world, worker, store):
    await worker.explain(ALICE, ALICE)
    if store == "database":
        world.database.reads = False
    else:
        world.elevations.finds = False
    with pytest.raises(StoreUnavailableError):
        await worker.explain(ALICE, ALICE)
