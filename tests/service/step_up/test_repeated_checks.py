"""A check that is sent again because its answer got lost shares the first redemption (S16)."""

from dataclasses import replace
from datetime import timedelta
from uuid import UUID

import pytest
from stepup_tests.people import person
from stepup_tests.worker import API_KEYS, OSQUERY, REMOTE_SHELL

from stepup.domain.actor import RetryReceipt, Role, SessionId
from stepup.domain.audit import EventKind
from stepup.domain.callers import Claim
from stepup.domain.changes import UserRevocations
from stepup.domain.decision import Reason
from stepup.domain.errors import StoreUnavailableError
from stepup.domain.receipts import ReceiptRejection
from stepup.service.step_up.revocation import Scope
from stepup.stores.sql.changes import SqlChangeFeed

ALICE = person()
REQUEST = UUID("6f2c1f3e-0000-4000-8000-000000000001")
OTHER_REQUEST = UUID("6f2c1f3e-0000-4000-8000-000000000002")
HOSTS = [f"host-{number}" for number in range(1, 11)]
EXEMPT = Reason.EXEMPT_TIMED_OUT_RETRY


@pytest.fixture
async def app(worker):
    await worker.select(OSQUERY, REMOTE_SHELL)
    return await worker.enrol(ALICE)


@pytest.fixture
async def receipts(worker, app):
    """Of the same action on ten hosts, in a session that is not elevated any more."""
    await worker.elevate(ALICE, app)
    answers = await worker.check_all(ALICE, [(OSQUERY, host) for host in HOSTS])
    await worker.revoke(ALICE)
    await worker.advance(seconds=30)
    return [answer.receipt for answer in answers]


@pytest.fixture
def receipt(receipts):
    """Of host-1."""
    return receipts[0]


async def test_the_same_request_shares_the_first_redemption(world, worker, receipt):
    first = await worker.retry(ALICE, receipt, request_id=REQUEST)
    before, lines = world.tables(), len(world.decisions())
    again = await worker.retry(ALICE, receipt, request_id=REQUEST)
    assert again == first
    assert again.verdict.reason is EXEMPT
    assert world.tables() == before
    [line] = world.decisions()[lines:]
    assert line.pop("repeated") is True
    assert line == world.decisions()[lines - 1]


async def test_the_receipt_of_a_shared_redemption_is_good_once(worker, receipt):
    await worker.retry(ALICE, receipt, request_id=REQUEST)
    again = await worker.retry(ALICE, receipt, request_id=REQUEST)
    next_retry = await worker.retry(ALICE, again.receipt, request_id=OTHER_REQUEST)
    assert next_retry.verdict.reason is EXEMPT
    verdict = (await worker.retry(ALICE, again.receipt)).verdict
    assert verdict.receipt_rejection is ReceiptRejection.ALREADY_USED


@pytest.mark.parametrize(("first", "again"), [(REQUEST, OTHER_REQUEST), (REQUEST, None)])
async def test_another_request_or_one_without_a_name_shares_nothing(worker, receipt, first, again):
    await worker.retry(ALICE, receipt, request_id=first)
    verdict = (await worker.retry(ALICE, receipt, request_id=again)).verdict
    assert verdict.receipt_rejection is ReceiptRejection.ALREADY_USED


async def test_without_a_request_id_nothing_is_shared(worker, receipt):
    await worker.retry(ALICE, receipt)
    verdict = (await worker.retry(ALICE, receipt)).verdict
    assert verdict.receipt_rejection is ReceiptRejection.ALREADY_USED


@pytest.mark.parametrize(
    ("changed", "rejection"),
    [
        ({"actor": replace(ALICE, session_id=SessionId("phone"))}, ReceiptRejection.OTHER_ACTOR),
        ({"caller": "another-service"}, ReceiptRejection.OTHER_CALLER),
        ({"operation": REMOTE_SHELL}, ReceiptRejection.OTHER_OPERATION),
        ({"target": "host-2"}, ReceiptRejection.OTHER_TARGET),
    ],
    ids=["actor", "caller", "operation", "target"],
)
async def test_s16_what_another_check_sends_shares_nothing(worker, receipt, changed, rejection):
    await worker.retry(ALICE, receipt, request_id=REQUEST)
    check = {"actor": ALICE, "receipt": receipt} | changed
    verdict = (await worker.retry(**check, request_id=REQUEST)).verdict
    assert (verdict.reason, verdict.receipt_rejection) == (Reason.NOT_ELEVATED, rejection)


@pytest.mark.parametrize(
    ("seconds", "is_shared"),
    [(59.999999, True), (60, False), (-59.999999, True), (-60, False)],
)
async def test_it_is_shared_for_less_than_a_minute_by_any_clock(
    worker, clock, receipt, seconds, is_shared
):
    await worker.advance(minutes=2)
    first = await worker.retry(ALICE, receipt, request_id=REQUEST)
    clock.set(clock.now() + timedelta(seconds=seconds))
    again = await worker.retry(ALICE, receipt, request_id=REQUEST)
    assert (again == first) is is_shared
    if not is_shared:
        assert again.verdict.receipt_rejection is ReceiptRejection.ALREADY_USED
    assert len(await worker.events(EventKind.RECEIPT_REDEEMED)) == 1


async def test_a_resend_may_come_after_the_retry_window(worker, receipt):
    await worker.advance(minutes=59, seconds=29)  # and 30 since the receipt was given
    first = await worker.retry(ALICE, receipt, request_id=REQUEST)
    await worker.advance(seconds=30)
    assert await worker.retry(ALICE, receipt, request_id=REQUEST) == first


@pytest.mark.parametrize("request_id", [REQUEST, None])
async def test_after_the_retry_window_nothing_is_redeemed(world, worker, receipt, request_id):
    await worker.advance(minutes=59, seconds=30)
    before = world.tables()
    verdict = (await worker.retry(ALICE, receipt, request_id=request_id)).verdict
    assert verdict.receipt_rejection is ReceiptRejection.EXPIRED
    assert world.tables() == before


async def end_of_the_authenticator(worker, app):
    await worker.reset(ALICE, app.reset_code)


async def revocation_of_the_user(worker, _app):
    await worker.revoke(ALICE, Scope.USER)


@pytest.mark.parametrize("end", [end_of_the_authenticator, revocation_of_the_user])
async def test_s10_a_revocation_in_between_counts(worker, app, receipt, end):
    await worker.retry(ALICE, receipt, request_id=REQUEST)
    await end(worker, app)
    again = await worker.retry(ALICE, receipt, request_id=REQUEST)
    assert again.verdict.receipt_rejection is ReceiptRejection.REVOKED
    assert again.receipt is None


@pytest.mark.parametrize("unseen", [1, 2])
async def test_s10_a_revocation_counts_while_the_resend_waits_for_the_first_call(
    worker, receipt, monkeypatch, unseen
):
    """It was not there when the resend began, and is committed before the resend is answered."""
    await worker.retry(ALICE, receipt, request_id=REQUEST)
    await worker.revoke(ALICE, Scope.USER)
    revocations_of, asked = SqlChangeFeed.revocations_of, []

    async def find_none_at_first(feed, *user):
        asked.append(user)
        return await revocations_of(feed, *user) if len(asked) > unseen else UserRevocations()

    monkeypatch.setattr(SqlChangeFeed, "revocations_of", find_none_at_first)
    verdict = (await worker.retry(ALICE, receipt, request_id=REQUEST)).verdict
    assert verdict.receipt_rejection is ReceiptRejection.REVOKED


@pytest.mark.usefixtures("app")
async def test_checks_that_redeem_nothing_record_nothing(world, worker):
    before = world.tables()
    for _ in range(2):
        await worker.check(ALICE, request_id=REQUEST)
        await worker.check(ALICE, API_KEYS, request_id=REQUEST)
        await worker.retry(ALICE, "forged", request_id=REQUEST)
    assert world.tables() == before
    assert not [line for line in world.decisions() if "repeated" in line]


@pytest.mark.parametrize("fault", ["commits", "writes"])
async def test_a_redemption_that_was_not_committed_is_made_by_the_resend(
    world, worker, receipt, fault
):
    setattr(world.database, fault, False)
    with pytest.raises(StoreUnavailableError):
        await worker.retry(ALICE, receipt, request_id=REQUEST)
    setattr(world.database, fault, True)
    assert (await worker.retry(ALICE, receipt, request_id=REQUEST)).verdict.reason is EXEMPT
    assert len(await worker.events(EventKind.RECEIPT_REDEEMED)) == 1
    assert "repeated" not in world.decisions()[-1]


async def test_a_commit_whose_acknowledgement_was_lost_costs_nothing(world, worker, receipt):
    world.database.acknowledges_commits = False
    with pytest.raises(StoreUnavailableError):
        await worker.retry(ALICE, receipt, request_id=REQUEST)
    world.database.acknowledges_commits = True
    again = await worker.retry(ALICE, receipt, request_id=REQUEST)
    assert again.verdict.reason is EXEMPT
    first, line = world.decisions()[-2:]
    assert (line["decision_id"], line["repeated"]) == (first["decision_id"], True)


def presenting(receipts):
    return [(OSQUERY, host, receipt) for host, receipt in zip(HOSTS, receipts, strict=True)]


async def test_ten_timed_out_hosts_of_one_batch_are_ten_exemptions(world, worker, receipts):
    first = await worker.check_all(ALICE, presenting(receipts), request_id=REQUEST)
    assert [answer.verdict.reason for answer in first] == [EXEMPT] * 10
    assert len(await worker.events(EventKind.RECEIPT_REDEEMED)) == 10
    before = world.tables()
    again = await worker.check_all(ALICE, presenting(receipts), request_id=REQUEST)
    assert again == first
    assert world.tables() == before
    assert [line.get("repeated") for line in world.decisions()[-20:]] == [None] * 10 + [True] * 10


async def test_a_checks_own_receipt_goes_before_the_actors(worker, receipts):
    retry = replace(ALICE, retry_receipt=RetryReceipt(receipts[1]))
    checks = [(OSQUERY, "host-1", receipts[0]), (OSQUERY, "host-2"), (OSQUERY, "host-3", "forged")]
    verdicts = [answer.verdict for answer in await worker.check_all(retry, checks)]
    assert [verdict.reason for verdict in verdicts] == [EXEMPT, EXEMPT, Reason.NOT_ELEVATED]
    assert verdicts[2].receipt_rejection is ReceiptRejection.NOT_AUTHENTIC


async def test_in_a_batch_a_redemption_is_shared_with_the_check_at_the_same_index(worker, receipt):
    same_twice = [(OSQUERY, "host-1", receipt)] * 2
    for _ in range(2):
        first, second = await worker.check_all(ALICE, same_twice, request_id=REQUEST)
        assert first.verdict.reason is EXEMPT
        assert second.verdict.receipt_rejection is ReceiptRejection.ALREADY_USED
    other_order = [(OSQUERY, "host-3"), (OSQUERY, "host-1", receipt)]
    _, moved = await worker.check_all(ALICE, other_order, request_id=REQUEST)
    assert moved.verdict.receipt_rejection is ReceiptRejection.ALREADY_USED


async def test_s16_the_record_has_the_claim_of_the_check_that_asserted_it(world, worker, receipt):
    checks = [(OSQUERY, "host-1", receipt), (OSQUERY, "host-2")]
    wanted = replace(ALICE, role=Role.MASTER_ADMINISTRATOR)
    retrying = replace(wanted, retry_receipt=RetryReceipt(receipt))
    context = worker.context(retrying, operations=[OSQUERY])
    assert Claim.TIMED_OUT_RETRY in context.grants[OSQUERY].claims
    await worker.check_all(wanted, checks, context=replace(context, actor=wanted))
    retry, other = world.decisions()[-2:]
    assert set(retry["claims"]) == {"timed_out_retry", "master_administrator"}
    assert set(other["claims"]) == {"master_administrator"}
