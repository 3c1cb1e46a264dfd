"""The items of an approved challenge allow their actions, each once (S19)."""

from dataclasses import replace
from datetime import timedelta
from uuid import UUID

import pytest
from stepup_tests.challenges import approve, challenge_of, store
from stepup_tests.people import CALLER, administrator, person, playbook_run
from stepup_tests.worker import API_KEYS, OSQUERY, REMOTE_SHELL, details_of

from stepup.domain.actor import CallerId, SessionId
from stepup.domain.audit import EventKind, written
from stepup.domain.challenge import VALID_FOR, ChallengeState
from stepup.domain.changes import UserRevocations
from stepup.domain.decision import Decision, Reason
from stepup.domain.errors import StoreUnavailableError
from stepup.domain.item_use import ChallengeRejection
from stepup.domain.policy import EVERY_TIME
from stepup.domain.receipts import ReceiptRejection
from stepup.service.step_up.revocation import Scope
from stepup.stores.sql.changes import SqlChangeFeed

ALICE = person()
PHONE = SessionId("phone")
HOSTS = [f"host-{number}" for number in range(1, 11)]
REQUEST, OTHER_REQUEST = UUID(int=1), UUID(int=2)
APPROVED = Reason.CHALLENGE_APPROVED
ITEM_USED = ChallengeRejection.ITEM_USED
MICROSECOND = timedelta(microseconds=1)


@pytest.fixture
async def app(worker):
    await worker.select(OSQUERY, **{REMOTE_SHELL: EVERY_TIME})
    return await worker.enrol(ALICE)


@pytest.fixture
async def alice(worker, app):
    """Presents an approved challenge for ten hosts."""
    return await approve(worker, ALICE, app, *HOSTS)


async def refusal(worker, actor, operation=OSQUERY, target="host-1", **options):
    """Why the challenge of a check that must be refused does not fit."""
    answer = await worker.check(actor, operation, target, **options)
    assert answer.verdict.decision is not Decision.ALLOWED
    assert answer.receipt is None
    return answer.verdict.challenge_rejection


async def items_used(worker):
    return await worker.events(EventKind.CHALLENGE_ITEM_USED)


async def test_s19_an_item_allows_its_action_once(worker, alice):
    assert (await worker.check(alice)).verdict.reason is APPROVED
    assert (await worker.check(alice, target="host-2")).verdict.reason is APPROVED
    assert await refusal(worker, alice) is ITEM_USED
    assert await refusal(worker, alice, target="host-2") is ITEM_USED
    assert await refusal(worker, alice, target="host-11") is ChallengeRejection.NOT_AN_ITEM


async def test_s13_the_use_of_an_item_is_an_event_and_in_the_decision_log(
    world, worker, app, alice
):
    approved_at = worker.clock.now()
    await worker.advance(minutes=1)
    answer = await worker.check(alice)
    [event] = await items_used(worker)
    assert event.details == details_of(
        ALICE,
        decision_id=str(answer.decision_id),
        challenge_id=str(alice.challenge_id),
        operation=OSQUERY,
        target="host-1",
    )
    line = world.decisions()[-1]
    expected = {
        "decision_id": str(answer.decision_id),
        "reason": "challenge_approved",
        "challenge_id": str(alice.challenge_id),
        "approved_at": written(approved_at),
        "enrollment_id": app.enrollment_id,
    }
    assert expected.items() <= line.items()
    assert line.keys().isdisjoint({"challenge_rejection", "challenge_stranger", "repeated"})


async def test_s19_an_approval_elevates_nothing(worker, alice):
    await worker.check(alice)
    assert (await worker.check(ALICE)).verdict.reason is Reason.NOT_ELEVATED


async def test_a_challenge_allows_what_needs_a_code_every_time(worker, app):
    shell = challenge_of(ALICE, ChallengeState.PENDING, at=worker.clock.now())
    items = tuple(replace(item, operation=REMOTE_SHELL) for item in shell.items)
    now = worker.clock.now()
    approved = shell.approved(now, ALICE.session_hash, app.enrollment_id)
    await store(worker, replace(approved, items=items))
    alice = replace(ALICE, challenge_id=shell.challenge_id)
    assert (await worker.check(alice, REMOTE_SHELL)).verdict.reason is APPROVED
    verdict = (await worker.check(alice, REMOTE_SHELL)).verdict
    assert (verdict.reason, verdict.challenge_rejection) == (Reason.EVERY_TIME, ITEM_USED)


async def test_a_refused_challenge_does_not_hinder_an_elevated_session(world, worker, app, alice):
    await worker.elevate(ALICE, app)
    verdict = (await worker.check(alice, target="host-11")).verdict
    assert verdict.reason is Reason.ELEVATED
    assert verdict.challenge_rejection is ChallengeRejection.NOT_AN_ITEM
    line = world.decisions()[-1]
    assert (line["challenge_rejection"], line["challenge_id"], "approved_at" in line) == (
        "not_an_item",
        str(alice.challenge_id),
        False,
    )


async def test_a_challenge_that_does_not_fit_opens_no_transaction(world, worker, alice):
    await worker.check(alice)
    before = world.database.transactions
    for target in ("host-1", "host-11"):
        await worker.check(alice, target=target)
    await worker.check(replace(alice, challenge_id=UUID(int=9)))
    assert world.database.transactions == before


@pytest.mark.parametrize(
    ("presented", "refused"),
    [
        ({"challenge_id": UUID(int=9)}, ("unknown", None)),
        ({"tenant": "globex"}, ("unknown", "other_tenant")),
        ({"user": "bob"}, ("unknown", "other_user")),
        ({"caller": CallerId("console")}, ("unknown", "other_caller")),
        ({"session": "phone"}, ("other_session", None)),
    ],
)
async def test_s19_a_challenge_counts_for_its_own_caller_user_and_session_only(
    world, worker, alice, presented, refused
):
    presented = dict(presented)
    caller = presented.pop("caller", CALLER)
    challenge_id = presented.pop("challenge_id", alice.challenge_id)
    await worker.select(OSQUERY, tenant="globex")
    actor = person(challenge_id=challenge_id, **presented)
    assert await refusal(worker, actor, caller=caller) is ChallengeRejection(refused[0])
    line = world.decisions()[-1]
    assert (line["challenge_rejection"], line.get("challenge_stranger")) == refused
    assert await items_used(worker) == []
    assert (await worker.check(alice)).verdict.reason is APPROVED


@pytest.mark.parametrize(
    "state", [state for state in ChallengeState if state is not ChallengeState.APPROVED]
)
@pytest.mark.usefixtures("app")
async def test_a_challenge_that_is_not_approved_allows_nothing(worker, state):
    challenge = challenge_of(ALICE, state, at=worker.clock.now())
    await store(worker, challenge)
    alice = replace(ALICE, challenge_id=challenge.challenge_id)
    assert await refusal(worker, alice) is ChallengeRejection(state.value)


async def test_an_item_allows_its_action_before_usable_until_only(worker, alice):
    await worker.advance(seconds=(VALID_FOR - MICROSECOND).total_seconds())
    assert (await worker.check(alice)).verdict.reason is APPROVED
    worker.clock.advance(seconds=MICROSECOND.total_seconds())
    assert await refusal(worker, alice, target="host-2") is ChallengeRejection.EXPIRED
    assert await refusal(worker, alice, target="host-2", request_id=REQUEST) is (
        ChallengeRejection.EXPIRED
    )


async def by_an_automatic_run(worker, alice):
    return await worker.check(replace(alice, playbook_run=playbook_run()))


async def of_an_operation_that_is_not_selected(worker, alice):
    return await worker.check(alice, API_KEYS)


async def while_the_policy_is_off(worker, alice):
    admin = administrator()
    await worker.elevate(admin, await worker.enrol(admin))
    await worker.update_policy(admin, enabled=False)
    answer = await worker.check(alice)
    await worker.update_policy(admin, enabled=True)
    return answer


@pytest.mark.parametrize(
    ("checked", "reason"),
    [
        (by_an_automatic_run, Reason.EXEMPT_AUTOMATIC_PLAYBOOK),
        (of_an_operation_that_is_not_selected, Reason.OPERATION_NOT_SELECTED),
        (while_the_policy_is_off, Reason.MFA_NOT_ENABLED),
    ],
)
async def test_what_is_allowed_anyway_uses_no_item(world, worker, alice, checked, reason):
    answer = await checked(worker, alice)
    assert answer.verdict.reason is reason
    assert "challenge_id" not in world.decisions()[-1]
    assert (await worker.check(alice)).verdict.reason is APPROVED


async def test_the_same_request_shares_the_first_use(world, worker, alice):
    first = await worker.check(alice, request_id=REQUEST)
    before = world.tables()
    again = await worker.check(alice, request_id=REQUEST)
    assert again == first
    assert first.receipt
    assert world.tables() == before
    first_line, line = world.decisions()[-2:]
    assert line.pop("repeated") is True
    assert line == first_line


@pytest.mark.parametrize(("first", "again"), [(REQUEST, OTHER_REQUEST), (REQUEST, None)])
async def test_another_request_or_one_without_a_name_shares_no_use(worker, alice, first, again):
    await worker.check(alice, request_id=first)
    assert await refusal(worker, alice, request_id=again) is ITEM_USED


@pytest.mark.parametrize(
    ("seconds", "is_shared"), [(59.999999, True), (60, False), (-59.999999, True), (-60, False)]
)
async def test_a_use_is_shared_for_less_than_a_minute_by_any_clock(
    worker, clock, alice, seconds, is_shared
):
    await worker.advance(minutes=2)
    first = await worker.check(alice, request_id=REQUEST)
    clock.set(clock.now() + timedelta(seconds=seconds))
    if is_shared:
        assert await worker.check(alice, request_id=REQUEST) == first
    else:
        assert await refusal(worker, alice, request_id=REQUEST) is ITEM_USED
    assert len(await items_used(worker)) == 1


async def test_a_resend_may_come_after_usable_until(worker, alice):
    await worker.advance(seconds=VALID_FOR.total_seconds() - 1)
    first = await worker.check(alice, request_id=REQUEST)
    await worker.advance(seconds=59)
    assert await worker.check(alice, request_id=REQUEST) == first
    assert await refusal(worker, alice, request_id=OTHER_REQUEST) is ChallengeRejection.EXPIRED
    await worker.advance(seconds=1)
    assert await refusal(worker, alice, request_id=REQUEST) is ChallengeRejection.EXPIRED


async def test_a_batch_uses_each_item_of_a_challenge_once(world, worker, alice):
    checks = [(OSQUERY, host) for host in HOSTS]
    first = await worker.check_all(alice, checks, request_id=REQUEST)
    assert [answer.verdict.reason for answer in first] == [APPROVED] * 10
    assert len(await items_used(worker)) == 10
    before = world.tables()
    assert await worker.check_all(alice, checks, request_id=REQUEST) == first
    assert world.tables() == before
    other = await worker.check_all(alice, checks, request_id=OTHER_REQUEST)
    assert [answer.verdict.challenge_rejection for answer in other] == [ITEM_USED] * 10


@pytest.mark.parametrize("request_id", [REQUEST, None])
async def test_the_second_of_two_equal_checks_of_a_batch_finds_the_item_used(
    worker, alice, request_id
):
    twice = [(OSQUERY, "host-1")] * 2
    first, second = await worker.check_all(alice, twice, request_id=request_id)
    assert first.verdict.reason is APPROVED
    assert second.verdict.challenge_rejection is ITEM_USED
    assert len(await items_used(worker)) == 1
    # By another index it is another check.
    moved = [(API_KEYS, ""), (OSQUERY, "host-1")]
    _, again = await worker.check_all(alice, moved, request_id=request_id)
    assert again.verdict.challenge_rejection is ITEM_USED


async def test_a_receipt_goes_before_an_item(worker, alice):
    receipt = (await worker.check(alice)).receipt
    retry, next_item = await worker.check_all(
        alice, [(OSQUERY, "host-1", receipt), (OSQUERY, "host-2", receipt)]
    )
    assert retry.verdict.reason is Reason.EXEMPT_TIMED_OUT_RETRY
    assert next_item.verdict.reason is APPROVED
    assert len(await items_used(worker)) == 2


@pytest.fixture
def looks_up_beside_a_writer(world, monkeypatch):
    """Elevations that are found only while no transaction keeps SQLite's writer."""
    find, has_writer = world.elevations.find, world.database.transaction

    async def find_beside_a_writer(*key):
        async with has_writer():
            return await find(*key)

    monkeypatch.setattr(world.elevations, "find", find_beside_a_writer)


@pytest.mark.usefixtures("looks_up_beside_a_writer")
async def test_s17_a_used_item_keeps_no_transaction_open_while_redis_is_asked(worker, alice):
    checks = [(OSQUERY, "host-1"), (OSQUERY, "host-11"), (OSQUERY, "host-2")]
    answers = await worker.check_all(alice, checks)
    assert [answer.verdict.reason for answer in answers] == [
        APPROVED,
        Reason.NOT_ELEVATED,
        APPROVED,
    ]
    assert [event.details["decision_id"] for event in await items_used(worker)] == [
        str(answers[index].decision_id) for index in (0, 2)
    ]


@pytest.mark.parametrize("fault", ["reads", "writes", "audit_trail_takes_events", "commits"])
async def test_s17_an_item_that_cannot_be_used_allows_nothing(world, worker, alice, fault):
    await worker.check(ALICE)
    setattr(world.database, fault, False)
    await world.refuses(worker.check(alice))
    setattr(world.database, fault, True)
    assert (await worker.check(alice)).verdict.reason is APPROVED


async def test_s13_a_decision_log_that_is_full_uses_no_item(world, worker, alice):
    world.decision_log.works = False
    await world.refuses(worker.check(alice))
    world.decision_log.works = True
    assert (await worker.check(alice)).verdict.reason is APPROVED


async def test_a_commit_whose_acknowledgement_was_lost_costs_no_item(world, worker, alice):
    world.database.acknowledges_commits = False
    with pytest.raises(StoreUnavailableError):
        await worker.check(alice, request_id=REQUEST)
    world.database.acknowledges_commits = True
    assert (await worker.check(alice, request_id=REQUEST)).verdict.reason is APPROVED
    first, line = world.decisions()[-2:]
    assert (line["decision_id"], line["repeated"]) == (first["decision_id"], True)


async def sign_out(worker, _app):
    await worker.revoke(ALICE)


async def revocation_of_the_user(worker, _app):
    await worker.revoke(replace(ALICE, session_id=PHONE), Scope.USER)


async def end_of_the_authenticator(worker, app):
    await worker.reset(replace(ALICE, session_id=PHONE), app.reset_code)


ENDS = [sign_out, revocation_of_the_user, end_of_the_authenticator]


def as_an_earlier_release_leaves_it(world):
    """It revokes, and does not know of challenges."""
    world.sql("UPDATE challenges SET state = 'approved', ended_at = NULL")


@pytest.mark.parametrize("end", ENDS)
async def test_s10_a_revocation_ends_the_approval(world, worker, app, alice, end):
    await worker.check(alice, request_id=REQUEST)
    await end(worker, app)
    for leave_it in (world.tables, lambda: as_an_earlier_release_leaves_it(world)):
        leave_it()
        for target, request_id in (("host-2", None), ("host-1", REQUEST)):
            assert await refusal(worker, alice, target=target, request_id=request_id) is (
                ChallengeRejection.REVOKED
            )
    assert len(await items_used(worker)) == 1


async def test_the_sign_out_of_another_session_ends_nothing(worker, alice):
    await worker.revoke(replace(ALICE, session_id=PHONE))
    assert (await worker.check(alice)).verdict.reason is APPROVED


@pytest.mark.parametrize("end", ENDS)
async def test_s10_a_revocation_counts_that_comes_just_before_the_transaction(
    world, worker, app, alice, end
):
    world.database.before_transaction = lambda: end(worker, app)
    assert await refusal(worker, alice) is ChallengeRejection.REVOKED
    assert await items_used(worker) == []


async def test_a_cancellation_counts_that_comes_just_before_the_transaction(world, worker, alice):
    async def cancel():
        await worker.cancel_challenge(ALICE, alice.challenge_id)

    world.database.before_transaction = cancel
    assert await refusal(worker, alice) is ChallengeRejection.CANCELLED
    assert await items_used(worker) == []


@pytest.mark.parametrize("request_id", [REQUEST, None])
async def test_s19_a_use_counts_that_comes_just_before_the_transaction(
    world, worker, alice, request_id
):
    """The two have one challenge and one item; as one request they are one use."""
    first = []

    async def use():
        first.append(await worker.check(alice, request_id=request_id))

    world.database.before_transaction = use
    if request_id is None:
        assert await refusal(worker, alice) is ITEM_USED
    else:
        assert await worker.check(alice, request_id=request_id) == first[0]
    assert len(await items_used(worker)) == 1


@pytest.mark.parametrize("request_id", [REQUEST, None])
async def test_s10_a_revocation_counts_while_a_use_waits_for_other_calls(
    world, worker, alice, monkeypatch, request_id
):
    """It was not there when the use began, and is committed before the check is answered."""
    if request_id is not None:
        await worker.check(alice, request_id=request_id)
    used = await items_used(worker)
    await worker.revoke(ALICE, Scope.USER)
    as_an_earlier_release_leaves_it(world)
    revocations_of, asked = SqlChangeFeed.revocations_of, []

    async def find_none_at_first(feed, *user):
        asked.append(user)
        return await revocations_of(feed, *user) if len(asked) > 1 else UserRevocations()

    monkeypatch.setattr(SqlChangeFeed, "revocations_of", find_none_at_first)
    assert await refusal(worker, alice, request_id=request_id) is ChallengeRejection.REVOKED
    assert await items_used(worker) == used


async def test_the_receipt_of_an_item_is_good_after_the_challenges_time(world, worker, alice):
    answer = await worker.check(alice)
    authorised_at = worker.clock.now()
    await worker.revoke(ALICE)
    await worker.advance(minutes=59)
    retry = await worker.retry(ALICE, answer.receipt)
    assert retry.verdict.reason is Reason.EXEMPT_TIMED_OUT_RETRY
    line = world.decisions()[-1]
    assert (line["retry_of"], line["first_authorised_at"]) == (
        str(answer.decision_id),
        written(authorised_at),
    )


@pytest.mark.parametrize("end", [revocation_of_the_user, end_of_the_authenticator])
async def test_s10_the_receipt_of_an_item_is_void_after_a_revocation_of_the_user(
    worker, app, alice, end
):
    receipt = (await worker.check(alice)).receipt
    await worker.advance(minutes=1)
    await end(worker, app)
    verdict = (await worker.retry(ALICE, receipt)).verdict
    assert verdict.receipt_rejection is ReceiptRejection.REVOKED
