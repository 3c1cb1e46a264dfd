"""What is believed after an older database was put back, or one that lost an enrollment (S28)."""

import sqlite3
from contextlib import closing
from uuid import UUID

import pytest
from stepup_tests.people import person
from stepup_tests.worker import OSQUERY

from stepup.domain.decision import Decision, Reason
from stepup.domain.receipts import ReceiptRejection

ALICE = person()
REQUEST = UUID("6f2c1f3e-0000-4000-8000-000000000003")


@pytest.fixture
async def receipt(worker):
    """Of an action that a code allowed, in a session that is not elevated any more."""
    await worker.select(OSQUERY)
    await worker.elevate(ALICE, await worker.enrol(ALICE))
    answer = await worker.check(ALICE)
    await worker.revoke(ALICE)
    return answer.receipt


def copy_database(source, target):
    """As `.backup` and `.restore` do: page by page, into the file that is open."""
    with (
        closing(sqlite3.connect(source)) as opened,
        closing(sqlite3.connect(target)) as other,
    ):
        opened.backup(other)


async def test_s28_s10_the_receipt_of_an_enrollment_that_is_not_known_exempts_nothing(
    world, worker, receipt
):
    """The enrollment has no end on record: the database is of before its beginning."""
    world.sql("DELETE FROM authenticators")
    verdict = (await worker.retry(ALICE, receipt)).verdict
    assert verdict.decision is Decision.ENROLLMENT_REQUIRED
    assert verdict.receipt_rejection is ReceiptRejection.REVOKED


async def test_s28_s10_a_receipt_exempts_nothing_when_another_enrollment_is_active(
    world, worker, receipt
):
    world.sql("UPDATE authenticators SET enrollment_id = 'another'")
    verdict = (await worker.retry(ALICE, receipt)).verdict
    assert verdict.receipt_rejection is ReceiptRejection.REVOKED


async def test_s28_s10_a_resend_shares_no_redemption_of_an_enrollment_that_is_not_known(
    world, worker, receipt
):
    first = await worker.retry(ALICE, receipt, request_id=REQUEST)
    assert first.verdict.reason is Reason.EXEMPT_TIMED_OUT_RETRY
    world.sql("DELETE FROM authenticators")
    verdict = (await worker.retry(ALICE, receipt, request_id=REQUEST)).verdict
    assert verdict.receipt_rejection is ReceiptRejection.REVOKED


@pytest.mark.parametrize("grows_again", [False, True])
async def test_s28_after_a_restore_in_place_a_lost_enrollment_elevates_nobody(
    world, worker, tmp_path, grows_again
):
    """The server was not stopped, and the file has its inode still. Enrolling changes no feed."""
    served, backup = world.directory / "stepup.db", tmp_path / "backup.db"
    await worker.select(OSQUERY)
    copy_database(served, backup)
    await worker.elevate(ALICE, await worker.enrol(ALICE))
    await worker.poll()
    assert (await worker.check(ALICE)).verdict.reason is Reason.ELEVATED
    copy_database(backup, served)
    if grows_again:
        await worker.revoke(person(session="another"))
    await worker.poll()
    assert (await worker.check(ALICE)).verdict.decision is Decision.ENROLLMENT_REQUIRED
