"""Retry receipts over the wire, from a caller's token to the decision log (S16).

Each row of the tables is one way to use a receipt, or to misuse it.
"""

import asyncio
import secrets
from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import timedelta

import pytest
from stepup_tests.desk import ALICE, GLOBEX, Desk, identity_of, issued, told
from stepup_tests.people import person, playbook_run
from stepup_tests.worker import OSQUERY, REMOTE_SHELL

from stepup.domain.actor import PlaybookTrigger, Team
from stepup.domain.audit import written
from stepup.domain.receipts import RETRY_WINDOW
from stepup.service.step_up.revocation import Scope

BOB = person("bob")
MANAGED = replace(ALICE, team=Team.MANAGED_SERVICES_OPERATIONS)
AUTOMATIC = replace(ALICE, playbook_run=playbook_run())
MANUAL = replace(ALICE, playbook_run=playbook_run(PlaybookTrigger.MANUAL))
BOTH = replace(AUTOMATIC, team=Team.MANAGED_SERVICES_OPERATIONS)
MICROSECOND = timedelta(microseconds=1)


@pytest.fixture
async def desk(world):
    async with AsyncExitStack() as stack:
        desk = Desk(world, stack)
        await desk.serve()
        await desk.allow()
        yield desk


async def with_another_mac(desk):
    signed_part = desk.receipt.token.rpartition(".")[0]
    macs = ["", "A" * 43, *(secrets.token_urlsafe(32) for _ in range(20))]
    return [desk.receipt.altered(f"{signed_part}.{mac}") for mac in macs]


async def of_a_key_that_was_retired(desk):
    await desk.retire()
    return [desk.receipt]


def asking(**asked):
    """Present the receipt with another check."""

    async def presented(desk):
        return [desk.receipt.asking(**asked)]

    return presented


by_another_caller = asking(caller="console")
for_another_user = asking(actor=BOB)
for_the_user_of_that_name_in_another_tenant = asking(actor=person(tenant=GLOBEX))
in_another_session = asking(actor=person(session="phone"))
for_another_operation = asking(operation=REMOTE_SHELL)


async def for_another_target(desk):
    return [desk.receipt.asking(target=target) for target in ("host-2", "host-10", "HOST-1", "")]


async def of_a_managed_service_without_the_team(desk):
    return [issued(await desk.ask(actor=MANAGED))]


async def of_an_automatic_run_in_a_manual_one(desk):
    return [issued(await desk.ask(actor=AUTOMATIC)).asking(actor=MANUAL)]


async def of_an_exemption_whatever_claims_are_left(desk):
    """Chained through every exemption, and at each step without any."""
    chain = [issued(await desk.ask(actor=MANAGED))]
    for actor in (AUTOMATIC, MANAGED, BOTH):
        chain.append(issued(await desk.present(chain[-1].asking(actor=actor))))
    return [receipt.asking(actor=ALICE) for receipt in chain]


async def after_a_revocation_of_the_user(desk):
    await desk.worker.revoke(ALICE, Scope.USER)
    return [desk.receipt] * 2


async def just_before_the_window_ends_after_a_revocation(desk):
    await desk.worker.revoke(ALICE, Scope.USER)
    await desk.advance(seconds=(RETRY_WINDOW - MICROSECOND).total_seconds())
    await desk.worker.keep_house()
    return [desk.receipt]


async def after_a_revocation_at_another_worker_that_nobody_polled(desk):
    await (await desk.world.worker()).revoke(ALICE, Scope.USER)
    return [desk.receipt]


async def after_a_revocation_by_a_clock_that_is_behind(desk):
    desk.clock.set(desk.authorised_at - timedelta(hours=1))
    await desk.worker.revoke(ALICE, Scope.USER)
    desk.clock.set(desk.authorised_at + timedelta(minutes=1))
    await desk.advance()
    return [desk.receipt]


async def of_a_retry_after_a_revocation(desk):
    await desk.advance(minutes=1)
    of_the_retry = await desk.exempted(desk.receipt)
    await desk.worker.revoke(ALICE, Scope.USER)
    return [of_the_retry]


async def of_an_elevation_that_a_late_worker_still_believed(desk):
    """The revocation was committed elsewhere, and Redis forgot it: the action was allowed."""
    await desk.advance(seconds=30)
    await desk.worker.elevate(ALICE, desk.app)
    elevated = await desk.world.remembered()
    # So that the action is allowed after the end of the code's step, which a revocation covers.
    await desk.advance(seconds=29)
    await (await desk.world.worker()).revoke(ALICE, Scope.USER)
    await desk.world.remember(elevated)
    desk.clock.advance(seconds=4)
    late = await desk.ask()
    assert told(late)[1] == "ELEVATED"
    await desk.advance(seconds=1)
    return [issued(late)]


async def after_it_was_reset(desk):
    await desk.worker.reset(person(session="phone"), desk.app.reset_code)
    return [desk.receipt]


async def after_it_was_reset_by_a_clock_that_is_behind(desk):
    desk.clock.set(desk.authorised_at - timedelta(hours=1))
    await desk.worker.poll()
    await after_it_was_reset(desk)
    desk.clock.set(desk.authorised_at + timedelta(minutes=1))
    await desk.advance()
    return [desk.receipt]


async def after_it_was_replaced(desk):
    await desk.worker.wizard(person(session="phone"), desk.app.reset_code)
    return [desk.receipt]


async def when_the_window_ends(desk):
    await desk.advance(seconds=RETRY_WINDOW.total_seconds())
    return [desk.receipt]


async def a_second_time(desk):
    await desk.exempted(desk.receipt)
    return [desk.receipt] * 3


async def a_second_time_at_another_worker(desk):
    await desk.exempted(desk.receipt)
    await desk.serve()
    return [desk.receipt]


async def a_second_time_after_a_rotation(desk):
    await desk.exempted(desk.receipt)
    await desk.rotate()
    return [desk.receipt]


async def a_second_time_after_its_retry_was_retried(desk):
    await desk.exempted(await desk.exempted(desk.receipt))
    return [desk.receipt]


async def of_a_retry_a_second_time(desk):
    of_the_retry = await desk.exempted(desk.receipt)
    await desk.exempted(of_the_retry)
    return [of_the_retry]


async def of_a_retry_when_the_first_window_ends(desk):
    await desk.advance(minutes=30)
    of_the_retry = await desk.exempted(desk.receipt)
    await desk.advance(minutes=29)
    of_its_retry = await desk.exempted(of_the_retry)
    await desk.advance(minutes=1)
    return [of_its_retry]


@pytest.mark.parametrize(
    ("presented", "rejection", "reason"),
    [
        (with_another_mac, "NOT_AUTHENTIC", "NOT_ELEVATED"),
        (of_a_key_that_was_retired, "NOT_AUTHENTIC", "NOT_ELEVATED"),
        (by_another_caller, "OTHER_CALLER", "NOT_ELEVATED"),
        (for_another_user, "OTHER_ACTOR", "NOT_ENROLLED"),
        (for_the_user_of_that_name_in_another_tenant, "OTHER_ACTOR", "NOT_ENROLLED"),
        (in_another_session, "OTHER_ACTOR", "NOT_ELEVATED"),
        (for_another_operation, "OTHER_OPERATION", "NOT_ELEVATED"),
        (for_another_target, "OTHER_TARGET", "NOT_ELEVATED"),
        (when_the_window_ends, "EXPIRED", "NOT_ELEVATED"),
        (a_second_time, "ALREADY_USED", "NOT_ELEVATED"),
        (a_second_time_at_another_worker, "ALREADY_USED", "NOT_ELEVATED"),
        (a_second_time_after_a_rotation, "ALREADY_USED", "NOT_ELEVATED"),
        (a_second_time_after_its_retry_was_retried, "ALREADY_USED", "NOT_ELEVATED"),
        (of_a_retry_a_second_time, "ALREADY_USED", "NOT_ELEVATED"),
        (of_a_retry_when_the_first_window_ends, "EXPIRED", "NOT_ELEVATED"),
        (of_a_managed_service_without_the_team, "EXEMPTION_NOT_CLAIMED", "NOT_ELEVATED"),
        (of_an_automatic_run_in_a_manual_one, "EXEMPTION_NOT_CLAIMED", "NOT_ELEVATED"),
        (of_an_exemption_whatever_claims_are_left, "EXEMPTION_NOT_CLAIMED", "NOT_ELEVATED"),
        (after_a_revocation_of_the_user, "REVOKED", "NOT_ELEVATED"),
        (just_before_the_window_ends_after_a_revocation, "REVOKED", "NOT_ELEVATED"),
        (after_a_revocation_at_another_worker_that_nobody_polled, "REVOKED", "NOT_ELEVATED"),
        (after_a_revocation_by_a_clock_that_is_behind, "REVOKED", "NOT_ELEVATED"),
        (of_a_retry_after_a_revocation, "REVOKED", "NOT_ELEVATED"),
        (of_an_elevation_that_a_late_worker_still_believed, "REVOKED", "NOT_ELEVATED"),
        (after_it_was_reset, "REVOKED", "NOT_ENROLLED"),
        (after_it_was_reset_by_a_clock_that_is_behind, "REVOKED", "NOT_ENROLLED"),
        (after_it_was_replaced, "REVOKED", "NOT_ELEVATED"),
    ],
)
async def test_s10_s16_a_receipt_exempts_nothing(desk, presented, rejection, reason):
    decision = "ENROLLMENT_REQUIRED" if reason == "NOT_ENROLLED" else "STEP_UP_REQUIRED"
    retries = await presented(desk)
    redeemed, before = await desk.redemptions(), len(desk.world.decisions())
    answers = [await desk.present(retry) for retry in retries]

    assert Counter(map(told, answers)) == {(decision, reason, rejection): len(retries)}
    assert not any(answer.receipt for answer in answers)
    assert await desk.redemptions() == redeemed
    lines = desk.world.decisions()[before:]
    on_record = {
        "decision": decision.lower(),
        "reason": reason.lower(),
        "receipt_rejection": rejection.lower(),
        "retry_of": None,
        "first_authorised_at": None,
    }
    for retry, answer, line in zip(retries, answers, lines, strict=True):
        # What is not authentic may say that it is of any decision.
        of = None if rejection == "NOT_AUTHENTIC" else retry.of
        caller = retry.asked.get("caller", "soar")
        expected = on_record | {
            "decision_id": answer.decision_id,
            "receipt_of": of,
            "caller": caller,
            "identities": [identity_of(caller)],
        }
        assert {name: line.get(name) for name in expected} == expected


async def test_no_receipt_is_no_retry(desk):
    answer = await desk.ask("")
    assert told(answer) == ("STEP_UP_REQUIRED", "NOT_ELEVATED", "UNSPECIFIED")
    assert desk.line(answer).keys().isdisjoint({"receipt_rejection", "receipt_of", "retry_of"})


async def test_a_refused_receipt_does_not_hinder_an_elevated_session(desk):
    await desk.advance(seconds=30)
    await desk.worker.elevate(ALICE, desk.app)
    answer = await desk.present(desk.receipt.asking(target="host-2"))
    assert told(answer) == ("ALLOWED", "ELEVATED", "OTHER_TARGET")
    line = desk.line(answer)
    assert (line["receipt_rejection"], line["receipt_of"], line["elevated_at"]) == (
        "other_target",
        desk.receipt.of,
        written(desk.clock.now()),
    )
    assert not await desk.redemptions()


async def at_once(desk):
    return desk.receipt


async def at_another_worker(desk):
    await desk.serve()
    return desk.receipt


async def after_a_rotation(desk):
    await desk.rotate()
    return desk.receipt


async def after_it_was_refused_for_something_else(desk):
    for case in (by_another_caller, in_another_session, for_another_target, with_another_mac):
        for retry in await case(desk):
            await desk.present(retry)
    return desk.receipt


async def in_a_manual_run(desk):
    return desk.receipt.asking(actor=MANUAL)


async def after_the_session_was_signed_out(desk):
    await desk.worker.revoke(ALICE)
    return desk.receipt


async def after_somebody_else_was_revoked(desk):
    await desk.worker.revoke(BOB, Scope.USER)
    await desk.worker.revoke(person(tenant=GLOBEX), Scope.USER)
    return desk.receipt


async def allowed_anew(desk):
    desk.authorised_at = desk.clock.now()
    receipt = issued(await desk.ask())
    await desk.worker.revoke(ALICE)
    return receipt


async def of_a_code_after_a_revocation(desk):
    await desk.worker.revoke(ALICE, Scope.USER)
    await desk.advance(seconds=30)
    await desk.worker.elevate(ALICE, desk.app)
    return await allowed_anew(desk)


async def of_the_authenticator_that_replaced_the_one_before(desk):
    await desk.advance(seconds=30)
    await desk.worker.wizard(ALICE, desk.app.reset_code)
    return await allowed_anew(desk)


async def of_a_retry_just_before_the_first_window_ends(desk):
    await desk.advance(minutes=59)
    of_the_retry = await desk.exempted(desk.receipt)
    await desk.advance(seconds=(timedelta(minutes=1) - MICROSECOND).total_seconds())
    return of_the_retry


@pytest.mark.parametrize(
    "presented",
    [
        at_once,
        at_another_worker,
        after_a_rotation,
        after_it_was_refused_for_something_else,
        in_a_manual_run,
        after_the_session_was_signed_out,
        after_somebody_else_was_revoked,
        of_a_code_after_a_revocation,
        of_the_authenticator_that_replaced_the_one_before,
        of_a_retry_just_before_the_first_window_ends,
    ],
)
async def test_a_receipt_exempts_one_retry(desk, presented):
    retry = await presented(desk)
    redeemed = await desk.redemptions()
    answer = await desk.present(retry)

    assert told(answer) == ("ALLOWED", "EXEMPT_TIMED_OUT_RETRY", "UNSPECIFIED")
    assert answer.receipt not in ("", retry.token)
    line = desk.line(answer)
    expected = {
        "decision": "allowed",
        "reason": "exempt_timed_out_retry",
        "caller": "soar",
        "identities": [identity_of("soar")],
        "granted_by": "loopback",
        "claims": {"timed_out_retry": "loopback"},
        "retry_of": retry.of,
        "first_authorised_at": written(desk.authorised_at),
    }
    assert expected.items() <= line.items()
    assert line.keys().isdisjoint({"receipt_rejection", "receipt_of"})
    [event] = [event for event in await desk.redemptions() if event not in redeemed]
    assert event.details == {
        "session": ALICE.session_hash,
        "request_id": line["request_id"],
        "decision_id": answer.decision_id,
        "redeemed_decision_id": retry.of,
        "first_authorised_at": written(desk.authorised_at),
        "operation": OSQUERY,
        "target": "host-1",
    }
    assert told(await desk.present(retry)) == ("STEP_UP_REQUIRED", "NOT_ELEVATED", "ALREADY_USED")


async def test_presented_fifty_times_at_once_a_receipt_exempts_one(desk):
    before = len(desk.world.decisions())
    answers = await asyncio.gather(*(desk.present(desk.receipt) for _ in range(50)))
    assert Counter(map(told, answers)) == {
        ("ALLOWED", "EXEMPT_TIMED_OUT_RETRY", "UNSPECIFIED"): 1,
        ("STEP_UP_REQUIRED", "NOT_ELEVATED", "ALREADY_USED"): 49,
    }
    assert len(await desk.redemptions()) == 1
    lines = desk.world.decisions()[before:]
    assert Counter((line["reason"], line.get("receipt_of")) for line in lines) == {
        ("exempt_timed_out_retry", None): 1,
        ("not_elevated", desk.receipt.of): 49,
    }


async def elevated(desk, **asked):
    await desk.advance(seconds=30)
    await desk.worker.elevate(ALICE, desk.app)
    return await desk.ask(**asked)


@pytest.mark.parametrize(
    ("decided", "reason"),
    [
        (elevated, "ELEVATED"),
        (lambda desk: desk.present(desk.receipt), "EXEMPT_TIMED_OUT_RETRY"),
    ],
    ids=["elevated", "retry"],
)
async def test_what_is_allowed_of_a_selected_operation_has_a_receipt(desk, decided, reason):
    answer = await decided(desk)
    assert told(answer) == ("ALLOWED", reason, "UNSPECIFIED")
    await desk.worker.revoke(ALICE)
    await desk.exempted(issued(answer))
