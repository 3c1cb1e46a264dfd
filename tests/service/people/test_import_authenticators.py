"""`ImportAuthenticators`: an operator registers authenticators that people have."""

from base64 import b32encode
from datetime import timedelta

import pytest
from stepup_tests.metrics import metric
from stepup_tests.otp import code_at
from stepup_tests.people import ACME, administrator, operator, person
from stepup_tests.worker import OSQUERY, details_of

from stepup.domain.actor import Deprovisioning
from stepup.domain.audit import EventKind
from stepup.domain.decision import Reason
from stepup.domain.elevation import Outcome
from stepup.domain.errors import (
    EnrollmentFault,
    EnrollmentStateError,
    RoleRequiredError,
    StoreUnavailableError,
)
from stepup.domain.person import EndedBy, PastAuthenticator
from stepup.domain.totp import time_step
from stepup.service.people.import_authenticators import ImportEntry, ImportOutcome, ImportResult

ALICE, BOB, SAM = person(), person("bob"), operator()
FAULTS = ["writes", "audit_trail_takes_events", "commits"]


def secret_of(size):
    return bytes(range(1, size + 1))


def uri(size=20, **parameters):
    query = "".join(f"&{name}={text}" for name, text in parameters.items())
    return f"otpauth://totp/Old:alice?secret={b32encode(secret_of(size)).decode()}{query}"


async def test_an_entry_that_was_refused_before_keeps_its_result(worker):
    refused = ImportResult(ImportOutcome.INVALID, "must be a key URI")
    results = await worker.imports(operator(), refused, ImportEntry(ALICE.user_id, uri()))
    assert results[0] is refused
    assert of(results) == [ImportOutcome.INVALID, ImportOutcome.IMPORTED]


def of(results):
    return [result.outcome for result in results]


async def code_of(worker, size=20):
    return code_at(secret_of(size), worker.clock.now())


@pytest.mark.parametrize("size", [16, 20, 32, 64])
async def test_the_next_code_of_an_imported_authenticator_elevates(worker, size):
    await worker.select(OSQUERY)
    [result] = await worker.import_(SAM, ("alice", uri(size)))
    assert (result.outcome, result.problem) == (ImportOutcome.IMPORTED, "")
    await worker.advance(seconds=30)
    verification = await worker.verify(ALICE, await code_of(worker, size))
    assert verification.outcome is Outcome.VERIFIED
    assert (await worker.check(ALICE)).verdict.reason is Reason.ELEVATED


async def test_s2_the_code_of_the_step_of_the_import_is_not_accepted(worker):
    await worker.import_(SAM, ("alice", uri()))
    verification = await worker.verify(ALICE, await code_of(worker))
    assert verification.outcome is Outcome.REJECTED
    assert (await worker.standing(ALICE)).active.last_step == time_step(worker.clock.now())


async def test_an_imported_person_gets_a_reset_code_from_an_elevated_session(worker):
    await worker.import_(SAM, ("alice", uri()))
    assert not (await worker.standing(ALICE)).has_reset_code
    await worker.advance(seconds=30)
    await worker.verify(ALICE, await code_of(worker))
    issued = await worker.issue_reset_code(ALICE)
    assert (await worker.standing(ALICE)).has_reset_code
    assert (await worker.reset(ALICE, issued)).is_accepted


async def test_an_import_turns_the_accounts_mfa_on(worker):
    await worker.import_(SAM, ("alice", uri()))
    assert (await worker.standing(ALICE)).account_mfa_enabled
    [turned] = await worker.events(EventKind.ACCOUNT_MFA_CHANGED)
    assert (turned.actor_user_id, turned.subject_user_id) == (None, ALICE.user_id)
    assert turned.details["cause"] == "authenticator_imported"


async def test_s13_each_import_is_an_event_that_names_the_operator(worker):
    before = metric("stepup_operator_acts_total", kind="authenticator_imported")
    await worker.import_(SAM, ("alice", uri()), ("bob", uri(32)))
    assert metric("stepup_operator_acts_total", kind="authenticator_imported") == before + 2
    events = await worker.events(EventKind.AUTHENTICATOR_IMPORTED)
    active = [(await worker.standing(actor)).active for actor in (ALICE, BOB)]
    assert [event.subject_user_id for event in events] == ["alice", "bob"]
    assert {event.actor_user_id for event in events} == {None}
    assert [event.details for event in events] == [
        details_of(SAM, enrollment_id=each.enrollment_id) for each in active
    ]


async def test_s6_an_imported_secret_is_stored_sealed(world, worker):
    await worker.import_(SAM, ("alice", uri()))
    stored = repr(await world.state())
    assert b32encode(secret_of(20)).decode() not in stored
    assert repr(secret_of(20))[2:-1] not in stored


async def test_the_row_of_a_person_who_was_asked_goes(world, worker):
    async with world.database.transaction(ACME) as records:
        await records.asked.note(ACME, {ALICE.user_id: worker.clock.now()}, 10)
    await worker.import_(SAM, ("alice", uri()))
    assert world.sql("SELECT * FROM asked_people") == []


async def test_s7_open_wizards_end_with_an_import(world, worker):
    screen = await worker.begin(ALICE)
    code = code_at(screen.secret.octets, worker.clock.now())
    await worker.confirm(ALICE, code)
    await worker.import_(SAM, ("alice", uri()))
    assert world.sql("SELECT * FROM pending_enrollments") == []
    with pytest.raises(EnrollmentStateError) as refused:
        await worker.complete(ALICE)
    assert refused.value.fault is EnrollmentFault.OTHER_AUTHENTICATOR


async def test_a_person_who_has_an_authenticator_keeps_it(worker):
    app = await worker.enrol(ALICE)
    [result] = await worker.import_(SAM, ("alice", uri()))
    assert result.outcome is ImportOutcome.HAS_AUTHENTICATOR
    assert (await worker.standing(ALICE)).active.enrollment_id == app.enrollment_id


async def test_of_two_imports_at_once_the_later_is_refused(world, worker):
    other = await world.worker()

    async def after_the_record_of_the_read():
        world.database.before_transaction = lambda: other.import_(SAM, ("alice", uri(32)))

    world.database.before_transaction = after_the_record_of_the_read
    [result] = await worker.import_(SAM, ("alice", uri()))
    assert result.outcome is ImportOutcome.HAS_AUTHENTICATOR
    await worker.advance(seconds=30)
    assert (await worker.verify(ALICE, await code_of(worker, 32))).outcome is Outcome.VERIFIED


@pytest.mark.parametrize(
    ("ended_by", "days", "outcome"),
    [
        (EndedBy.OPERATOR, 29, ImportOutcome.ENDED_RECENTLY),
        (EndedBy.OPERATOR, 30, ImportOutcome.IMPORTED),
        (EndedBy.DEPROVISIONING, 1, ImportOutcome.ENDED_RECENTLY),
        (EndedBy.BREAK_GLASS, 1, ImportOutcome.ENDED_RECENTLY),
        (EndedBy.ADMINISTRATOR, 1, ImportOutcome.IMPORTED),
    ],
)
async def test_an_authenticator_that_was_ended_from_outside_is_not_brought_back(
    world, worker, ended_by, days, outcome
):
    past = PastAuthenticator(worker.clock.now() - timedelta(days=days), ended_by)
    async with world.database.transaction(ACME) as records:
        await records.past.remember(ACME, ALICE.user_id, past)
    assert of(await worker.import_(SAM, ("alice", uri()), dry_run=True)) == [outcome]
    assert of(await worker.import_(SAM, ("alice", uri()))) == [outcome]


@pytest.mark.parametrize("end", ["admin_reset", "forget"])
async def test_an_operator_does_not_undo_what_an_operator_did(worker, end):
    await worker.enrol(ALICE)
    await getattr(worker, end)(SAM, "alice")
    [result] = await worker.import_(SAM, ("alice", uri()))
    assert result.outcome is ImportOutcome.ENDED_RECENTLY


async def test_each_entry_is_registered_or_refused_by_itself(worker):
    results = await worker.import_(
        SAM,
        ("alice", uri()),
        ("bob", uri(15)),
        ("carol", uri(digits="8")),
        ("dave", "JBSWY3DPEHPK3PXP"),
        ("alice", uri(32)),
        ("erin", uri(64)),
    )
    assert of(results) == [
        ImportOutcome.IMPORTED,
        ImportOutcome.WEAK,
        ImportOutcome.UNSUPPORTED,
        ImportOutcome.INVALID,
        ImportOutcome.REPEATED,
        ImportOutcome.IMPORTED,
    ]
    assert results[2].problem == "the key URI must have digits 6"
    assert "JBSWY" not in repr(results)
    imported = await worker.events(EventKind.AUTHENTICATOR_IMPORTED)
    assert [event.subject_user_id for event in imported] == ["alice", "erin"]


async def test_a_dry_run_says_the_same_and_registers_nothing(world, worker):
    await worker.enrol(BOB)
    entries = ("alice", uri()), ("bob", uri()), ("carol", uri(15)), ("alice", uri())
    before = world.sql("SELECT * FROM authenticators")
    foreseen = await worker.import_(SAM, *entries, dry_run=True)
    assert world.sql("SELECT * FROM authenticators") == before
    assert await worker.events(EventKind.AUTHENTICATOR_IMPORTED) == []
    assert foreseen == await worker.import_(SAM, *entries)


@pytest.mark.parametrize("dry_run", [False, True])
async def test_s16_a_call_that_registers_nothing_is_on_record(worker, dry_run):
    """Its results say who has an authenticator."""
    await worker.enrol(BOB)
    await worker.import_(SAM, ("bob", uri()), dry_run=dry_run)
    [read] = await worker.events(EventKind.OPERATOR_READ)
    assert read.details == details_of(SAM, method="PeopleService/ImportAuthenticators")


@pytest.mark.parametrize("actor", [administrator(), Deprovisioning(ACME)])
@pytest.mark.parametrize("dry_run", [False, True])
async def test_s16_only_an_operator_imports(world, worker, actor, dry_run):
    call = worker.import_(actor, ("alice", uri()), dry_run=dry_run)
    await world.refuses(call, RoleRequiredError)


@pytest.mark.parametrize("fault", FAULTS)
async def test_s13_without_its_event_nothing_is_imported(world, worker, fault):
    setattr(world.database, fault, False)
    await world.refuses(worker.import_(SAM, ("alice", uri())))


async def test_what_was_imported_before_a_fault_stays_and_a_repeated_call_says_so(world, worker):
    entries, begun = [("alice", uri()), ("bob", uri())], 0

    async def fail_at_the_third():
        nonlocal begun
        begun += 1
        world.database.writes = begun < 3  # the read, Alice, and not Bob
        world.database.before_transaction = fail_at_the_third

    world.database.before_transaction = fail_at_the_third
    with pytest.raises(StoreUnavailableError):
        await worker.import_(SAM, *entries)
    world.database.writes, world.database.before_transaction = True, None
    again = await worker.import_(SAM, *entries)
    assert of(again) == [ImportOutcome.HAS_AUTHENTICATOR, ImportOutcome.IMPORTED]


async def test_an_imported_authenticator_is_replaced_like_any_other(worker):
    await worker.import_(SAM, ("alice", uri()))
    await worker.advance(seconds=30)
    await worker.verify(ALICE, await code_of(worker))
    screen = await worker.begin(ALICE)
    assert "%282%29" in screen.otpauth_uri
