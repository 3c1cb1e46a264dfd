"""`CheckStepUp`: decisions over real facts. The rules themselves are specified in tests/golden."""

from dataclasses import replace
from datetime import timedelta
from uuid import uuid4

import pytest
from stepup_tests.otp import code_at
from stepup_tests.people import ACME, CALLER, administrator, person, playbook_run
from stepup_tests.rotation import LateRing, rotated_ring
from stepup_tests.worker import (
    API_KEYS,
    OSQUERY,
    REMOTE_SHELL,
    REQUEST_ID,
    SIGN_IN,
    details_of,
)

from stepup.domain.actor import AccountType, RetryReceipt, SessionId, Team
from stepup.domain.audit import EventKind, written
from stepup.domain.decision import Decision, Reason
from stepup.domain.elevation import LIFETIME
from stepup.domain.errors import StoreUnavailableError
from stepup.domain.receipts import ReceiptRejection
from stepup.service.step_up.revocation import Scope

ALICE = person()
AUTOMATIC = replace(ALICE, playbook_run=playbook_run())
SAML = replace(ALICE, account_type=AccountType.SAML_GROUP)
FIVE_MINUTES = timedelta(minutes=5)


@pytest.fixture
async def app(worker):
    await worker.select(OSQUERY, REMOTE_SHELL)
    return await worker.enrol(ALICE)


@pytest.fixture
async def elevated(worker, app):
    return await worker.elevate(ALICE, app)


async def reason(worker, actor=ALICE, operation=OSQUERY):
    return (await worker.check(actor, operation)).verdict.reason


@pytest.mark.usefixtures("elevated")
@pytest.mark.parametrize(
    "actor",
    [
        person(session="phone"),
        person("bob", session="desk"),
        person(tenant="globex"),
    ],
    ids=["session", "user", "tenant"],
)
async def test_s9_an_elevation_serves_no_other(worker, actor):
    await worker.select(OSQUERY, tenant="globex")
    assert (await worker.check(actor)).verdict.decision is not Decision.ALLOWED


async def test_s9_an_elevation_ends_after_fifteen_minutes_although_redis_still_has_it(
    world, worker, elevated
):
    await worker.advance(minutes=15)
    assert await world.elevations.find(ACME, ALICE.user_id, ALICE.session_hash) == elevated
    assert await reason(worker) is Reason.NOT_ELEVATED


@pytest.mark.usefixtures("elevated")
async def test_s9_use_does_not_lengthen_an_elevation(worker):
    await worker.advance(minutes=14)
    assert await reason(worker) is Reason.ELEVATED
    await worker.advance(minutes=1)
    assert await reason(worker) is Reason.NOT_ELEVATED


async def test_an_elevation_older_than_the_max_age_does_not_do(worker, app):
    await worker.update_policy(
        administrator(), selected={OSQUERY: FIVE_MINUTES, REMOTE_SHELL: LIFETIME}
    )
    await worker.elevate(ALICE, app)
    await worker.advance(minutes=5, seconds=1)
    verdict = (await worker.check(ALICE)).verdict
    assert (verdict.reason, verdict.max_age) == (Reason.ELEVATION_TOO_OLD, FIVE_MINUTES)


async def test_sign_in_follows_the_own_toggle_where_the_policy_is_off(worker):
    assert await reason(worker, operation=SIGN_IN) is Reason.MFA_NOT_ENABLED
    app = await worker.enrol(ALICE)
    assert await reason(worker, operation=SIGN_IN) is Reason.NOT_ELEVATED
    await worker.elevate(ALICE, app)
    assert await reason(worker, operation=SIGN_IN) is Reason.ELEVATED
    await worker.set_account_mfa(ALICE, enabled=False)
    assert await reason(worker, operation=SIGN_IN) is Reason.MFA_NOT_ENABLED


async def looked_up(world, worker, actor, operation):
    """How often one check asks Redis and SQL, when the policy is in memory."""
    await worker.check(actor, API_KEYS)
    elevations, database = world.elevations, world.database
    before = (elevations.look_ups, database.snapshots + database.transactions)
    await worker.check(actor, operation)
    after = (elevations.look_ups, database.snapshots + database.transactions)
    return after[0] - before[0], after[1] - before[1]


@pytest.mark.usefixtures("app")
@pytest.mark.parametrize(
    ("call", "asked"),
    [
        pytest.param((ALICE, API_KEYS), (0, 0), id="not selected"),
        pytest.param((AUTOMATIC, OSQUERY), (0, 0), id="exempt"),
        pytest.param((SAML, SIGN_IN), (0, 0), id="a SAML sign-in"),
        pytest.param((ALICE, OSQUERY), (1, 1), id="not elevated"),
    ],
)
async def test_only_what_decides_is_looked_up(world, worker, call, asked):
    assert await looked_up(world, worker, *call) == asked


@pytest.mark.usefixtures("elevated")
@pytest.mark.parametrize("operation", [OSQUERY, SIGN_IN])
async def test_only_redis_is_asked_for_an_elevated_session(world, worker, operation):
    assert await looked_up(world, worker, ALICE, operation) == (1, 0)


@pytest.mark.usefixtures("app")
async def test_a_batch_is_answered_in_order(worker):
    answers = await worker.check_all(ALICE, [(OSQUERY, "a"), (API_KEYS, "b"), (SIGN_IN, "")])
    assert [answer.verdict.reason for answer in answers] == [
        Reason.NOT_ELEVATED,
        Reason.OPERATION_NOT_SELECTED,
        Reason.NOT_ELEVATED,
    ]
    assert len({answer.decision_id for answer in answers}) == 3


@pytest.mark.usefixtures("app")
async def test_a_batch_looks_each_fact_up_once(world, worker):
    await worker.check(ALICE)
    looked_up, read = world.elevations.look_ups, world.database.snapshots
    await worker.check_all(ALICE, [(OSQUERY, str(number)) for number in range(100)])
    assert world.elevations.look_ups - looked_up == 1
    assert world.database.snapshots - read == 1


@pytest.mark.usefixtures("elevated")
async def test_in_a_batch_a_receipt_buys_one_exemption(worker):
    receipt = (await worker.check(ALICE)).receipt
    await worker.revoke(ALICE)
    retry = replace(ALICE, retry_receipt=RetryReceipt(receipt))
    first, second = await worker.check_all(retry, [(OSQUERY, "host-1")] * 2)
    assert first.verdict.reason is Reason.EXEMPT_TIMED_OUT_RETRY
    assert second.verdict.receipt_rejection is ReceiptRejection.ALREADY_USED


@pytest.mark.usefixtures("elevated")
async def test_in_a_batch_a_receipt_matches_its_own_target_only(worker):
    receipt = (await worker.check(ALICE, target="host-2")).receipt
    await worker.revoke(ALICE)
    retry = replace(ALICE, retry_receipt=RetryReceipt(receipt))
    other, same = await worker.check_all(retry, [(OSQUERY, "host-1"), (OSQUERY, "host-2")])
    assert other.verdict.receipt_rejection is ReceiptRejection.OTHER_TARGET
    assert same.verdict.reason is Reason.EXEMPT_TIMED_OUT_RETRY


@pytest.fixture
async def receipt(worker, elevated):  # noqa: ARG001  # the session has to be
    """Of an action that was allowed in a session that is not elevated any more."""
    answer = await worker.check(ALICE)
    await worker.advance(minutes=15)
    return answer.receipt


async def test_a_used_receipt_stays_used_after_housekeeping(worker, clock, receipt):
    await worker.retry(ALICE, receipt)
    used_at = clock.now()
    await worker.advance(minutes=60)
    await worker.keep_house()
    clock.set(used_at)
    verdict = (await worker.retry(ALICE, receipt)).verdict
    assert verdict.receipt_rejection is ReceiptRejection.ALREADY_USED


async def test_a_deployment_sets_the_retry_window(world):
    worker = await world.worker(retry_window=FIVE_MINUTES)
    await worker.select(OSQUERY)
    receipt = (await worker.check(AUTOMATIC)).receipt
    await worker.advance(minutes=5)
    verdict = (await worker.retry(ALICE, receipt)).verdict
    assert verdict.receipt_rejection is ReceiptRejection.EXPIRED


async def test_s6_a_receipt_by_a_key_that_was_added_just_now_is_honoured(world):
    managed = replace(ALICE, team=Team.MANAGED_SERVICES_OPERATIONS)
    world.keys = rotated_ring()
    ahead = await world.worker()
    await ahead.select(OSQUERY)
    receipt = (await ahead.check(managed)).receipt
    world.keys = LateRing()
    behind = await world.worker()
    retry = replace(managed, team=Team.OTHER)
    verdict = (await behind.retry(retry, receipt)).verdict
    assert verdict.receipt_rejection is ReceiptRejection.EXEMPTION_NOT_CLAIMED


async def test_an_exemption_that_comes_first_uses_up_no_receipt(worker, receipt):
    assert (await worker.retry(AUTOMATIC, receipt)).verdict.reason is (
        Reason.EXEMPT_AUTOMATIC_PLAYBOOK
    )
    assert (await worker.retry(ALICE, receipt)).verdict.reason is Reason.EXEMPT_TIMED_OUT_RETRY


@pytest.mark.usefixtures("world", "elevated")
async def test_s13_the_redemption_of_a_receipt_is_an_event(worker):
    answer = await worker.check(ALICE)
    authorised_at = worker.clock.now()
    await worker.advance(minutes=1)
    retry = await worker.retry(ALICE, answer.receipt)
    [event] = await worker.events(EventKind.RECEIPT_REDEEMED)
    assert event.details == details_of(
        ALICE,
        decision_id=str(retry.decision_id),
        redeemed_decision_id=str(answer.decision_id),
        first_authorised_at=written(authorised_at),
        operation=OSQUERY,
        target="host-1",
    )


@pytest.mark.parametrize("fault", ["writes", "audit_trail_takes_events", "commits"])
async def test_s17_a_receipt_that_cannot_be_used_up_buys_nothing(world, worker, receipt, fault):
    setattr(world.database, fault, False)
    await world.refuses(worker.retry(ALICE, receipt))


async def test_s13_a_decision_log_that_is_full_uses_up_no_receipt(world, worker, receipt):
    world.decision_log.works = False
    await world.refuses(worker.retry(ALICE, receipt))
    world.decision_log.works = True
    assert (await worker.retry(ALICE, receipt)).verdict.reason is Reason.EXEMPT_TIMED_OUT_RETRY


async def test_s13_a_decision_log_that_is_full_uses_up_no_receipt_of_a_batch(
    world, worker, receipt
):
    retry = replace(ALICE, retry_receipt=RetryReceipt(receipt))
    checks = [(OSQUERY, "host-2"), (OSQUERY, "host-1"), (OSQUERY, "host-1"), (OSQUERY, "host-3")]
    world.decision_log.works = False
    with pytest.raises(StoreUnavailableError):
        await worker.check_all(retry, checks)
    world.decision_log.works = True
    _, redeemed, again, _ = await worker.check_all(retry, checks)
    assert redeemed.verdict.reason is Reason.EXEMPT_TIMED_OUT_RETRY
    assert again.verdict.receipt_rejection is ReceiptRejection.ALREADY_USED
    assert len(await worker.events(EventKind.RECEIPT_REDEEMED)) == 1


async def test_a_later_check_of_a_batch_that_cannot_be_decided_uses_up_no_receipt(
    world, worker, receipt
):
    retry = replace(ALICE, retry_receipt=RetryReceipt(receipt))
    world.elevations.finds = False
    with pytest.raises(StoreUnavailableError):
        await worker.check_all(retry, [(OSQUERY, "host-1"), (OSQUERY, "host-2")])
    world.elevations.finds = True
    assert (await worker.retry(ALICE, receipt)).verdict.reason is Reason.EXEMPT_TIMED_OUT_RETRY


@pytest.fixture
def looks_up_beside_a_writer(world, monkeypatch):
    """Elevations that are found only while no transaction keeps SQLite's writer."""
    find, has_writer = world.elevations.find, world.database.transaction

    async def find_beside_a_writer(*key):
        async with has_writer():
            return await find(*key)

    monkeypatch.setattr(world.elevations, "find", find_beside_a_writer)


@pytest.mark.usefixtures("looks_up_beside_a_writer")
async def test_a_refused_receipt_keeps_no_transaction_open_while_the_rules_go_on(worker, receipt):
    await worker.retry(ALICE, receipt)
    verdict = (await worker.retry(ALICE, receipt)).verdict
    assert verdict.receipt_rejection is ReceiptRejection.ALREADY_USED


@pytest.mark.usefixtures("looks_up_beside_a_writer")
async def test_s17_a_redeemed_receipt_keeps_no_transaction_open_while_redis_is_asked(
    world, worker, receipt
):
    before = len(world.decisions())
    retry = replace(ALICE, retry_receipt=RetryReceipt(receipt))
    checks = [(OSQUERY, "host-1"), (OSQUERY, "host-2"), (REMOTE_SHELL, "host-3")]
    answers = await worker.check_all(retry, checks)
    assert [answer.verdict.reason for answer in answers] == [
        Reason.EXEMPT_TIMED_OUT_RETRY,
        Reason.NOT_ELEVATED,
        Reason.NOT_ELEVATED,
    ]
    assert [line["decision_id"] for line in world.decisions()[before:]] == [
        str(answer.decision_id) for answer in answers
    ]
    [event] = await worker.events(EventKind.RECEIPT_REDEEMED)
    assert event.details["decision_id"] == str(answers[0].decision_id)


@pytest.mark.usefixtures("elevated")
@pytest.mark.parametrize("is_revoked", [False, True])
async def test_s10_a_revocation_counts_while_a_batch_waits_to_redeem_its_receipts(
    world, worker, monkeypatch, is_revoked
):
    answer = await worker.check(ALICE)
    find = world.elevations.find

    async def revoke_after_the_look_up(*key):
        found = await find(*key)
        if is_revoked:
            world.database.before_transaction = lambda: worker.revoke(ALICE)
        return found

    monkeypatch.setattr(world.elevations, "find", revoke_after_the_look_up)
    checks = [(OSQUERY, "host-1", answer.receipt), (OSQUERY, "host-2")]
    retry, other = await worker.check_all(ALICE, checks)
    assert retry.verdict.reason is Reason.EXEMPT_TIMED_OUT_RETRY
    assert other.verdict.reason is (Reason.NOT_ELEVATED if is_revoked else Reason.ELEVATED)


async def test_s13_where_the_commit_fails_the_decision_is_on_record_and_no_event_tells_of_it(
    world, worker, receipt
):
    world.database.commits = False
    await world.refuses(worker.retry(ALICE, receipt))
    assert world.decisions()[-1]["reason"] == "exempt_timed_out_retry"


@pytest.mark.usefixtures("app")
async def test_s13_every_decision_is_on_record(world, worker, clock):
    answer = await worker.check(ALICE, target="host-7")
    [line] = world.decisions()
    assert line == {
        "decision_id": str(answer.decision_id),
        "decided_at": written(clock.now()),
        "caller": CALLER,
        "request_id": REQUEST_ID,
        "identities": [f"spiffe://acme/{CALLER}"],
        "tenant_id": ACME,
        "user_id": "alice",
        "session": ALICE.session_hash,
        "account_type": "local",
        "role": "other",
        "team": "other",
        "operation": OSQUERY,
        "target": "host-7",
        "decision": "step_up_required",
        "reason": "not_elevated",
        "detail": "other_session",
        "policy_etag": answer.policy_etag,
        "granted_by": "loopback",
        "claims": {},
    }


async def test_the_record_of_an_elevated_session_says_by_which_code(world, worker, elevated):
    await worker.check(ALICE)
    [line] = world.decisions()
    assert line["elevated_at"] == written(elevated.verified_at)
    assert line["enrollment_id"] == elevated.enrollment_id


@pytest.mark.usefixtures("app")
async def test_the_record_of_an_exemption_has_what_was_claimed_and_what_lets_it_be(world, worker):
    await worker.check(AUTOMATIC)
    [line] = world.decisions()
    assert line["playbook_run"] == {
        "playbook_id": "pb-1",
        "run_id": "run-1",
        "trigger": "automatic",
    }
    assert line["claims"] == {"automatic_playbook": "loopback"}


@pytest.mark.usefixtures("elevated")
async def test_the_record_of_a_retry_has_the_decision_that_it_retries_and_the_first_authorisation(
    world, worker
):
    first = await worker.check(ALICE)
    authorised_at = written(worker.clock.now())
    await worker.advance(minutes=1)
    second = await worker.retry(ALICE, first.receipt)
    await worker.advance(minutes=1)
    await worker.retry(ALICE, second.receipt)
    _, once, twice = world.decisions()
    assert (once["retry_of"], once["first_authorised_at"]) == (
        str(first.decision_id),
        authorised_at,
    )
    assert (twice["retry_of"], twice["first_authorised_at"]) == (
        str(second.decision_id),
        authorised_at,
    )
    assert "receipt_rejection" not in once


@pytest.mark.usefixtures("elevated")
async def test_s11_a_receipt_does_not_show_in_the_repr_of_an_answer(worker):
    answer = await worker.check(ALICE)
    assert answer.receipt
    assert answer.receipt not in repr(answer)


@pytest.mark.usefixtures("elevated")
async def test_s11_no_record_has_a_session_id_or_a_receipt(world, worker):
    secret_session = replace(ALICE, session_id=SessionId("a-session-like-a-password"))
    answer = await worker.check(ALICE)
    await worker.retry(secret_session, answer.receipt)
    text = (world.directory / "decisions.jsonl").read_text()
    assert "a-session-like-a-password" not in text
    assert answer.receipt not in text


@pytest.mark.usefixtures("elevated")
async def test_s13_a_decision_that_cannot_be_put_on_record_is_not_answered(world, worker):
    world.decision_log.works = False
    with pytest.raises(StoreUnavailableError):
        await worker.check(ALICE)
    assert world.decisions() == []


@pytest.fixture
async def other_worker(world, app):  # noqa: ARG001  # enrolled before it starts
    """A worker that has decided by the policy before, and has it in memory."""
    worker = await world.worker()
    await worker.check(ALICE)
    return worker


async def test_another_worker_acts_on_a_policy_change_after_one_poll(worker, other_worker):
    await worker.select(OSQUERY, REMOTE_SHELL, API_KEYS)
    await other_worker.poll()
    assert await reason(other_worker, operation=API_KEYS) is Reason.NOT_ELEVATED


@pytest.mark.usefixtures("app")
async def test_the_worker_that_changes_the_policy_acts_on_it_at_once(worker):
    assert await reason(worker, operation=API_KEYS) is Reason.OPERATION_NOT_SELECTED
    await worker.select(OSQUERY, REMOTE_SHELL, API_KEYS)
    assert await reason(worker, operation=API_KEYS) is Reason.NOT_ELEVATED


@pytest.mark.usefixtures("elevated")
@pytest.mark.parametrize("scope", Scope)
async def test_s10_a_revocation_holds_at_once(worker, scope):
    await worker.revoke(ALICE, scope)
    assert await reason(worker) is Reason.NOT_ELEVATED


@pytest.mark.usefixtures("elevated")
@pytest.mark.parametrize("scope", Scope)
async def test_s10_a_revocation_holds_at_once_on_another_worker(worker, other_worker, scope):
    await worker.revoke(ALICE, scope)
    assert await reason(other_worker) is Reason.NOT_ELEVATED


@pytest.mark.usefixtures("elevated")
@pytest.mark.parametrize("scope", Scope)
async def test_s10_a_revocation_holds_after_one_poll_although_redis_forgets_it(
    world, worker, other_worker, scope
):
    before = await world.remembered()
    await worker.revoke(ALICE, scope)
    await world.remember(before)
    await other_worker.poll()
    assert await reason(other_worker) is Reason.NOT_ELEVATED


BEHIND = [timedelta(seconds=1), timedelta(seconds=30), timedelta(hours=1)]


async def revoked_by_a_clock_that_is(behind, world, worker, scope):
    """A revocation that Redis forgets, of a worker whose clock was behind for a moment."""
    before, right = await world.remembered(), world.clock.now()
    world.clock.set(right - behind)
    await worker.revoke(ALICE, scope)
    world.clock.set(right + timedelta(seconds=1))
    await world.remember(before)


@pytest.mark.usefixtures("elevated")
@pytest.mark.parametrize("scope", Scope)
@pytest.mark.parametrize("behind", BEHIND, ids=str)
async def test_s10_a_revocation_by_a_clock_that_is_behind_holds(
    world, worker, other_worker, scope, behind
):
    await revoked_by_a_clock_that_is(behind, world, worker, scope)
    await other_worker.poll()
    assert [await reason(each) for each in (worker, other_worker)] == [Reason.NOT_ELEVATED] * 2


@pytest.mark.parametrize("scope", Scope)
@pytest.mark.parametrize("behind", BEHIND, ids=str)
async def test_s10_such_a_revocation_ends_what_a_wizard_has_elevated(world, worker, scope, behind):
    """Its code was received minutes before."""
    await worker.select(OSQUERY)
    secret = (await worker.begin(ALICE)).secret
    await worker.confirm(ALICE, code_at(secret.octets, world.clock.now()))
    await worker.advance(minutes=5)
    await worker.complete(ALICE)
    await revoked_by_a_clock_that_is(behind, world, worker, scope)
    assert await reason(worker) is Reason.NOT_ELEVATED


@pytest.mark.parametrize("scope", Scope)
@pytest.mark.parametrize("behind", BEHIND, ids=str)
async def test_s10_such_a_revocation_ends_what_a_code_of_the_step_before_has_elevated(
    world, scope, behind
):
    worker = await world.worker(back_steps=1)
    await worker.select(OSQUERY)
    app = await worker.enrol(ALICE)
    await worker.advance(seconds=30)
    await worker.verify(ALICE, app.code(world.clock.now(), steps=-1))
    await revoked_by_a_clock_that_is(behind, world, worker, scope)
    assert await reason(worker) is Reason.NOT_ELEVATED


async def replace_authenticator(worker, app):
    await worker.wizard(person(session="phone"), app.reset_code)


async def remove_authenticator(worker, _app):
    await worker.remove(ALICE)


async def reset_authenticator(worker, app):
    await worker.reset(ALICE, app.reset_code)


async def reset_by_administrator(worker, _app):
    root = administrator()
    await worker.elevate(root, await worker.enrol(root))
    await worker.admin_reset(root, "alice")


ENDINGS = [
    replace_authenticator,
    remove_authenticator,
    reset_authenticator,
    reset_by_administrator,
]


@pytest.mark.usefixtures("elevated")
@pytest.mark.parametrize("end", ENDINGS)
async def test_s10_the_end_of_an_authenticator_ends_its_elevations_at_once(
    worker, other_worker, app, end
):
    await end(worker, app)
    await other_worker.poll()
    assert (await other_worker.check(ALICE)).verdict.decision is not Decision.ALLOWED


@pytest.mark.usefixtures("elevated")
@pytest.mark.parametrize("end", ENDINGS)
async def test_s10_the_end_of_an_authenticator_ends_its_elevations_although_redis_forgets_it(
    world, worker, other_worker, app, end
):
    before = await world.remembered()
    await end(worker, app)
    await world.remember(before)
    await other_worker.poll()
    assert (await other_worker.check(ALICE)).verdict.decision is not Decision.ALLOWED
    assert (await worker.check(ALICE)).verdict.decision is not Decision.ALLOWED


@pytest.mark.usefixtures("elevated")
async def test_s10_a_code_after_a_revocation_elevates_again(worker, other_worker, app):
    await worker.revoke(ALICE, Scope.USER)
    await worker.advance(seconds=30)
    await worker.elevate(ALICE, app)
    await other_worker.poll()
    assert await reason(other_worker) is Reason.ELEVATED


@pytest.mark.usefixtures("elevated")
@pytest.mark.parametrize("scope", Scope)
async def test_s10_the_first_code_after_a_revocation_elevates_again(
    world, worker, other_worker, app, scope
):
    """It comes with the next step, at whose first instant it is right."""
    world.clock.set(world.clock.now().replace(second=59, microsecond=999_999))
    await worker.revoke(ALICE, scope)
    world.clock.set(world.clock.now() + timedelta(microseconds=1))
    await worker.elevate(ALICE, app)
    await other_worker.poll()
    assert await reason(other_worker) is Reason.ELEVATED


async def test_s10_a_code_received_at_the_instant_of_a_revocation_does_not_elevate(worker, app):
    await worker.revoke(ALICE)
    await worker.elevate(ALICE, app)
    assert await reason(worker) is Reason.NOT_ELEVATED


async def revoke_session(worker, _app):
    await worker.revoke(ALICE)


async def revoke_user(worker, _app):
    await worker.revoke(ALICE, Scope.USER)


@pytest.mark.parametrize("end", [revoke_session, revoke_user, reset_authenticator])
async def test_s10_an_elevation_that_is_stored_after_its_revocation_is_void(
    world, worker, app, end
):
    """The code was received before; storing its elevation took longer."""
    replace_ = world.elevations.replace

    async def replace_later(elevation):
        await worker.advance(seconds=1)
        await end(worker, app)
        await replace_(elevation)

    world.elevations.replace = replace_later
    await worker.verify(ALICE, app.code(worker.clock.now()))
    assert (await worker.check(ALICE)).verdict.decision is not Decision.ALLOWED


async def test_s10_revoking_a_session_leaves_the_others_elevated(worker, app):
    phone = person(session="phone")
    await worker.elevate(phone, app)
    await worker.advance(seconds=30)
    await worker.elevate(ALICE, app)
    await worker.revoke(ALICE)
    assert await reason(worker, phone) is Reason.ELEVATED


async def test_s10_revoking_a_user_ends_all_of_their_sessions(worker, app):
    phone = person(session="phone")
    await worker.elevate(phone, app)
    await worker.advance(seconds=30)
    await worker.elevate(ALICE, app)
    await worker.revoke(ALICE, Scope.USER)
    assert await reason(worker, phone) is Reason.NOT_ELEVATED


@pytest.mark.usefixtures("elevated", "elevated")
async def test_s17_without_redis_nothing_that_needs_an_elevation_is_answered(world, worker):
    world.elevations.finds = False
    with pytest.raises(StoreUnavailableError):
        await worker.check(ALICE)


@pytest.mark.usefixtures("app")
async def test_s17_without_redis_other_decisions_go_on(world, worker):
    world.elevations.finds = False
    assert await reason(worker, operation=API_KEYS) is Reason.OPERATION_NOT_SELECTED
    assert await reason(worker, AUTOMATIC) is Reason.EXEMPT_AUTOMATIC_PLAYBOOK


@pytest.mark.usefixtures("elevated", "elevated")
async def test_s17_without_sql_decisions_go_on_from_memory_for_five_seconds(world, worker, clock):
    await worker.check(ALICE)
    world.database.reads = world.database.writes = False
    clock.advance(seconds=5)
    assert await reason(worker) is Reason.ELEVATED


@pytest.mark.usefixtures("elevated")
@pytest.mark.parametrize(
    "actor",
    [
        ALICE,
        replace(ALICE, team=Team.MANAGED_SERVICES_OPERATIONS),
        AUTOMATIC,
    ],
    ids=["elevated", "managed services", "automatic playbook"],
)
async def test_s17_what_is_older_than_five_seconds_is_not_decided_on(worker, clock, actor):
    assert (await worker.check(actor)).verdict.decision is Decision.ALLOWED
    clock.advance(seconds=5.001)
    with pytest.raises(StoreUnavailableError):
        await worker.check(actor)


@pytest.mark.usefixtures("elevated")
@pytest.mark.parametrize("operation", [API_KEYS, SIGN_IN])
async def test_s17_even_what_needs_no_code_is_not_decided_on_old_knowledge(
    worker, clock, operation
):
    clock.advance(seconds=5.001)
    with pytest.raises(StoreUnavailableError):
        await worker.check(ALICE, operation)


@pytest.mark.usefixtures("elevated")
async def test_s17_a_worker_decides_again_when_it_polls_again(world, worker, clock):
    world.database.reads = False
    clock.advance(seconds=10)
    with pytest.raises(StoreUnavailableError):
        await worker.poll()
    with pytest.raises(StoreUnavailableError):
        await worker.check(ALICE)
    world.database.reads = True
    await worker.poll()
    assert await reason(worker) is Reason.ELEVATED


@pytest.mark.usefixtures("elevated")
async def test_s17_setting_the_clock_makes_nothing_older(worker, clock):
    clock.set(clock.now() + timedelta(minutes=5))
    assert await reason(worker) is Reason.ELEVATED


@pytest.mark.usefixtures("app")
@pytest.mark.parametrize("operation", [OSQUERY, SIGN_IN])
async def test_s17_without_sql_nobody_is_taken_for_not_enrolled(world, worker, operation):
    await worker.check(ALICE)
    world.database.reads = False
    with pytest.raises(StoreUnavailableError):
        await worker.check(ALICE, operation)


async def test_s17_without_sql_no_toggle_is_taken_for_off(world, worker):
    await worker.check(ALICE)
    world.database.reads = False
    with pytest.raises(StoreUnavailableError):
        await worker.check(ALICE, SIGN_IN)


async def test_s17_without_sql_no_tenant_is_taken_for_one_without_a_policy(world, worker):
    world.database.reads = False
    with pytest.raises(StoreUnavailableError):
        await worker.check(person(tenant=f"tenant-{uuid4()}"))


@pytest.mark.usefixtures("elevated", "elevated")
async def test_s17_redis_answering_does_not_make_up_for_old_revocations(world, worker, clock):
    """The snapshot may grow too old while Redis is asked."""
    await worker.check(ALICE)
    find = world.elevations.find

    async def find_slowly(*key):
        clock.advance(seconds=6)
        return await find(*key)

    world.elevations.find = find_slowly
    with pytest.raises(StoreUnavailableError):
        await worker.check(ALICE)
