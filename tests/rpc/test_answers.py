"""What right calls are answered, field by field, on the wire."""

import asyncio
import io
import re
from contextlib import AsyncExitStack
from datetime import UTC, timedelta
from itertools import islice
from urllib.parse import parse_qs, unquote, urlsplit
from uuid import UUID

import pyotp
import pytest
from grpc import StatusCode
from PIL import Image
from stepup_tests.metrics import metric
from stepup_tests.otp import code_at, wrong_code_at
from stepup_tests.people import ACME, administrator, person
from stepup_tests.wire import on_wire, refusal_of
from stepup_tests.worker import API_KEYS, OSQUERY, SIGN_IN, details_of
from zxingcpp import read_barcode

from stepup.domain.reset_code import ResetCode
from stepup.v1 import actor_pb2, elevation_pb2
from stepup.v1 import audit_service_pb2 as audit
from stepup.v1 import enrollment_service_pb2 as enrollment
from stepup.v1 import policy_service_pb2 as policy
from stepup.v1 import step_up_service_pb2 as step_up

ALICE, ROOT = person(), administrator()
ON_WIRE = on_wire(ALICE)


def instant(timestamp):
    return timestamp.ToDatetime(UTC)


@pytest.fixture
async def app(worker):
    await worker.select(OSQUERY)
    return await worker.enrol(ALICE)


def checking(actor=ON_WIRE, operation=OSQUERY, **fields):
    return step_up.CheckStepUpRequest(actor=actor, operation=operation, **fields)


def verifying(code, **fields):
    return step_up.VerifyOtpRequest(actor=ON_WIRE, code=code, **fields)


@pytest.mark.usefixtures("app")
async def test_a_required_step_up_says_what_it_has_to_meet(worker, client):
    answer = await client.step_up.CheckStepUp(checking())
    assert answer == step_up.CheckStepUpResponse(
        decision=step_up.DECISION_STEP_UP_REQUIRED,
        reason=step_up.DECISION_REASON_NOT_ELEVATED,
        detail=step_up.NOT_ELEVATED_DETAIL_OTHER_SESSION,
        decision_id=str(UUID(answer.decision_id)),
        requirement={"max_age": timedelta(minutes=15)},
        policy_etag=(await worker.policy()).etag,
    )


async def test_an_allowed_operation_has_the_elevation_and_a_receipt(worker, client, clock, app):
    await worker.elevate(ALICE, app)
    answer = await client.step_up.CheckStepUp(checking())
    assert answer.decision == step_up.DECISION_ALLOWED
    assert instant(answer.elevation.verified_at) == clock.now()
    assert instant(answer.elevation.expires_at) == clock.now() + timedelta(minutes=15)
    assert answer.elevation.methods == [elevation_pb2.AUTHENTICATION_METHOD_TOTP]
    assert 0 < len(answer.receipt) <= 512
    assert not answer.HasField("requirement")


@pytest.mark.usefixtures("app")
async def test_the_context_of_an_actor_is_read(client):
    automatic = on_wire(ALICE)
    automatic.playbook_run.playbook_id = automatic.playbook_run.run_id = "1"
    automatic.playbook_run.trigger = actor_pb2.PLAYBOOK_TRIGGER_AUTOMATIC
    managed = on_wire(ALICE)
    managed.team = actor_pb2.TEAM_MANAGED_SERVICES_OPERATIONS
    saml = on_wire(ALICE)
    saml.account_type = actor_pb2.ACCOUNT_TYPE_SAML
    requests = [checking(automatic), checking(managed), checking(saml, SIGN_IN)]
    answers = [await client.step_up.CheckStepUp(request) for request in requests]
    assert [answer.reason for answer in answers] == [
        step_up.DECISION_REASON_EXEMPT_AUTOMATIC_PLAYBOOK,
        step_up.DECISION_REASON_EXEMPT_MANAGED_SERVICES,
        step_up.DECISION_REASON_SIGN_IN_NOT_SUPPORTED_FOR_SAML,
    ]


@pytest.mark.usefixtures("app")
async def test_what_an_actor_leaves_out_exempts_from_nothing(client):
    bare = actor_pb2.ActorContext(tenant_id="acme", user_id="alice", session_id="desk")
    answer = await client.step_up.CheckStepUp(checking(bare))
    assert answer.decision == step_up.DECISION_STEP_UP_REQUIRED


@pytest.mark.usefixtures("app")
@pytest.mark.parametrize("number", [1, 100])
async def test_a_batch_has_a_decision_for_each_check_in_order(world, client, number):
    checks = [
        step_up.OperationCheck(operation=(OSQUERY, API_KEYS)[index % 2], target=str(index))
        for index in range(number)
    ]
    request = step_up.BatchCheckStepUpRequest(actor=ON_WIRE, checks=checks)
    decisions = (await client.step_up.BatchCheckStepUp(request)).decisions
    reasons = step_up.DECISION_REASON_NOT_ELEVATED, step_up.DECISION_REASON_OPERATION_NOT_SELECTED
    assert [decision.reason for decision in decisions] == [
        reasons[index % 2] for index in range(number)
    ]
    assert [line["target"] for line in world.decisions()] == [check.target for check in checks]


@pytest.mark.parametrize("target", ["", "x" * 256, "é" * 128, "\x00\n"])
async def test_a_target_is_opaque(world, client, target):
    await client.step_up.CheckStepUp(checking(target=target))
    assert world.decisions()[0]["target"] == target


async def test_a_right_code_is_verified(client, clock, app):
    answer = await client.step_up.VerifyOtp(verifying(app.code(clock.now())))
    assert answer == step_up.VerifyOtpResponse(
        outcome=step_up.OUTCOME_VERIFIED,
        elevation={
            "verified_at": clock.now(),
            "expires_at": clock.now() + timedelta(minutes=15),
            "methods": [elevation_pb2.AUTHENTICATION_METHOD_TOTP],
        },
        attempts_remaining=5,
    )


async def test_wrong_codes_are_rejected_until_they_are_throttled(client, clock, app):
    wrong = verifying(app.wrong_code(clock.now()))
    answers = [await client.step_up.VerifyOtp(wrong) for _ in range(6)]
    assert answers[0] == step_up.VerifyOtpResponse(
        outcome=step_up.OUTCOME_REJECTED, attempts_remaining=4
    )
    lock = timedelta(minutes=15)
    assert answers[4] == step_up.VerifyOtpResponse(
        outcome=step_up.OUTCOME_REJECTED, retry_after=lock
    )
    assert answers[5] == step_up.VerifyOtpResponse(
        outcome=step_up.OUTCOME_THROTTLED, retry_after=lock
    )


async def test_s4_a_spent_session_is_sent_to_sign_in_anew(client, worker, clock, app):
    await worker.fail(ALICE, app, times=5)
    await worker.advance(minutes=15)
    await worker.fail(ALICE, app, times=5)
    answer = await client.step_up.VerifyOtp(verifying(app.code(clock.now())))
    assert answer == step_up.VerifyOtpResponse(outcome=step_up.OUTCOME_SESSION_SPENT)


async def test_s22_a_repeated_code_is_answered_with_the_time_until_the_next_one(client, clock, app):
    code = verifying(app.code(clock.now()))
    await client.step_up.VerifyOtp(code)
    repeated = await client.step_up.VerifyOtp(code)
    assert repeated == step_up.VerifyOtpResponse(
        outcome=step_up.OUTCOME_REJECTED,
        attempts_remaining=5,
        next_code_after=timedelta(seconds=25),
    )


@pytest.mark.parametrize("spelling", [str.lower, str.upper])
async def test_the_same_request_again_gets_the_same_answer(client, clock, app, spelling):
    request_id = "6f2c1f3e-abcd-4000-8000-000000000001"
    code = app.code(clock.now())
    first = await client.step_up.VerifyOtp(verifying(code, request_id=request_id))
    again = await client.step_up.VerifyOtp(verifying(code, request_id=spelling(request_id)))
    assert again == first
    assert first.outcome == step_up.OUTCOME_VERIFIED


@pytest.mark.parametrize("scope", [step_up.REVOCATION_SCOPE_SESSION, step_up.REVOCATION_SCOPE_USER])
async def test_a_revocation_is_answered_with_nothing(worker, client, app, scope):
    await worker.elevate(ALICE, app)
    request = step_up.RevokeElevationsRequest(actor=ON_WIRE, scope=scope)
    assert await client.step_up.RevokeElevations(request) == step_up.RevokeElevationsResponse()
    answer = await client.step_up.CheckStepUp(checking())
    assert answer.reason == step_up.DECISION_REASON_NOT_ELEVATED


WRONG = ResetCode(bytes(16)).text
MISTYPED = WRONG[:-1] + "B"


def beginning(**fields):
    return enrollment.BeginEnrollmentRequest(actor=ON_WIRE, **fields)


async def confirm(client, code):
    request = enrollment.ConfirmEnrollmentRequest(actor=ON_WIRE, code=code)
    return await client.enrollment.ConfirmEnrollment(request)


async def test_the_first_screen_has_the_secret_in_every_form(client, clock):
    screen = await client.enrollment.BeginEnrollment(beginning(account_name="alice@acme.example"))
    assert screen.outcome == enrollment.RESET_OUTCOME_NOT_CHECKED
    assert screen.state == enrollment.ENROLLMENT_STATE_PENDING
    assert len(screen.secret) == 32
    assert UUID(screen.enrollment_id)
    assert instant(screen.expires_at) == clock.now() + timedelta(minutes=10)
    assert parse_qs(urlsplit(screen.otpauth_uri).query)["secret"] == [screen.secret]
    assert screen.qr_svg.startswith("<svg ")
    assert not screen.HasField("retry_after")


async def test_s6_a_confirmed_wizard_answers_its_state_and_no_secret(client, clock):
    screen = await client.enrollment.BeginEnrollment(beginning())
    assert screen.state == enrollment.ENROLLMENT_STATE_PENDING
    code = code_at(screen.secret, clock.now())
    await confirm(client, code)
    assert await client.enrollment.BeginEnrollment(beginning()) == (
        enrollment.BeginEnrollmentResponse(
            outcome=enrollment.RESET_OUTCOME_NOT_CHECKED,
            enrollment_id=screen.enrollment_id,
            expires_at=screen.expires_at,
            state=enrollment.ENROLLMENT_STATE_CONFIRMED,
        )
    )


async def test_a_reload_of_the_reset_code_screen_is_no_dead_end(client, worker, clock):
    screen = await client.enrollment.BeginEnrollment(beginning())

    first = await confirm(client, code_at(screen.secret, clock.now()))
    assert await confirm(
        client, code_at(screen.secret, clock.now())
    ) == enrollment.ConfirmEnrollmentResponse(
        outcome=enrollment.CONFIRM_OUTCOME_REJECTED,
        attempts_remaining=5,
        next_code_after=timedelta(seconds=25),
    )
    await worker.advance(seconds=25)
    second = await confirm(client, code_at(screen.secret, clock.now()))
    assert second.outcome == first.outcome == enrollment.CONFIRM_OUTCOME_CONFIRMED
    assert second.reset_code != first.reset_code


async def test_only_a_reset_code_that_was_right_is_accepted(client, worker, app):
    opened = await client.enrollment.BeginEnrollment(beginning(reset_code=app.reset_code.text))
    again = await client.enrollment.BeginEnrollment(beginning(reset_code="A" * 26))
    assert opened.outcome == enrollment.RESET_OUTCOME_ACCEPTED
    assert again.outcome == enrollment.RESET_OUTCOME_NOT_CHECKED
    assert again.secret == opened.secret
    await worker.elevate(ALICE, app)
    await worker.cancel(ALICE)
    elevated = await client.enrollment.BeginEnrollment(beginning(reset_code="A" * 26))
    assert elevated.outcome == enrollment.RESET_OUTCOME_NOT_CHECKED
    assert elevated.state == enrollment.ENROLLMENT_STATE_PENDING


async def test_s18_of_a_tenants_flood_what_may_not_wait_is_refused(client, worker):
    async def begin(number):
        request = enrollment.BeginEnrollmentRequest(actor=on_wire(person(f"user-{number}")))
        return await client.enrollment.BeginEnrollment(request)

    async with AsyncExitStack() as stack:
        for _ in range(4):
            beginning = worker.application.handlers.enrollment.beginning
            await stack.enter_async_context(beginning.turn(ACME))
        calls = [asyncio.create_task(begin(number)) for number in range(62)]
        for ended in islice(asyncio.as_completed(calls, timeout=30), 2):
            refused = await refusal_of(ended)
            assert (refused.code, refused.reason) == (StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED")
    answers = await asyncio.gather(*calls, return_exceptions=True)
    assert sum(not isinstance(answer, Exception) for answer in answers) == 60


async def test_the_picture_has_the_key_uri(client):
    screen = await client.enrollment.BeginEnrollment(beginning())
    assert read_barcode(Image.open(io.BytesIO(screen.qr_png))).text == screen.otpauth_uri


async def test_s24_an_account_name_may_have_every_space_joiner_and_emoji(client):
    name = "山田\u3000太郎 \u0646\u200c\u0647\u00a0\U0001fae9"
    screen = await client.enrollment.BeginEnrollment(beginning(account_name=name))
    assert unquote(urlsplit(screen.otpauth_uri).path).endswith(f":{name}")


async def test_s12_without_an_account_name_every_user_id_has_a_label_of_its_own(client):
    labels = []
    for user in ("corp:x1", "corp_x1"):
        request = enrollment.BeginEnrollmentRequest(actor=on_wire(person(user)))
        screen = await client.enrollment.BeginEnrollment(request)
        scanned = pyotp.parse_uri(read_barcode(Image.open(io.BytesIO(screen.qr_png))).text)
        assert (scanned.issuer, scanned.secret) == ("stepup acme", screen.secret)
        labels.append(scanned.name)
    assert labels == ["corp\u2236x1", "corp_x1"]


@pytest.mark.usefixtures("app")
async def test_a_refused_reset_code_opens_no_screen(client):
    request = beginning(reset_code="A" * 26)
    answers = [await client.enrollment.BeginEnrollment(request) for _ in range(11)]
    assert answers[0] == enrollment.BeginEnrollmentResponse(
        outcome=enrollment.RESET_OUTCOME_REJECTED, attempts_remaining=9
    )
    assert answers[10] == enrollment.BeginEnrollmentResponse(
        outcome=enrollment.RESET_OUTCOME_THROTTLED, retry_after=timedelta(minutes=15)
    )


@pytest.mark.usefixtures("app")
async def test_a_mistyped_reset_code_opens_no_screen(client):
    answer = await client.enrollment.BeginEnrollment(beginning(reset_code=MISTYPED))
    assert answer == enrollment.BeginEnrollmentResponse(outcome=enrollment.RESET_OUTCOME_MISTYPED)
    assert not (await client.enrollment.GetEnrollment(standing())).HasField("pending")


async def test_the_wizard_goes_through_its_three_screens(client, clock):
    screen = await client.enrollment.BeginEnrollment(beginning())
    wrong = await confirm(client, wrong_code_at(screen.secret, clock.now()))
    confirmed = await confirm(client, code_at(screen.secret, clock.now()))
    completed = await client.enrollment.CompleteEnrollment(
        enrollment.CompleteEnrollmentRequest(actor=ON_WIRE, reset_code_stored=True)
    )
    assert wrong == enrollment.ConfirmEnrollmentResponse(
        outcome=enrollment.CONFIRM_OUTCOME_REJECTED, attempts_remaining=4
    )
    assert confirmed.outcome == enrollment.CONFIRM_OUTCOME_CONFIRMED
    assert re.fullmatch(r"([A-Z2-7]{4}-){6}[A-Z2-7]{4}", confirmed.reset_code)
    assert completed.enrollment == enrollment.Enrollment(
        enrollment_id=screen.enrollment_id, activated_at=clock.now(), has_reset_code=True
    )
    assert instant(completed.elevation.verified_at) == clock.now()


def standing(actor=ON_WIRE):
    return enrollment.GetEnrollmentRequest(actor=actor)


async def test_a_new_user_stands_nowhere(client):
    answer = await client.enrollment.GetEnrollment(standing())
    assert answer == enrollment.GetEnrollmentResponse()


async def test_an_open_wizard_stands_where_it_is(worker, client, clock):
    screen = await worker.begin(ALICE)
    pending = enrollment.PendingEnrollment(
        enrollment_id=screen.enrollment_id,
        state=enrollment.ENROLLMENT_STATE_PENDING,
        expires_at=screen.expires_at,
        attempts_remaining=5,
    )
    assert (await client.enrollment.GetEnrollment(standing())).pending == pending
    await worker.confirm(ALICE, code_at(screen.secret.octets, clock.now()))
    pending.state = enrollment.ENROLLMENT_STATE_CONFIRMED
    assert (await client.enrollment.GetEnrollment(standing())).pending == pending


async def test_a_locked_user_sees_the_end_of_the_lock(worker, client, clock, app):
    await worker.fail(ALICE, app, times=5)
    active = (await client.enrollment.GetEnrollment(standing())).active
    assert instant(active.locked_until) == clock.now() + timedelta(minutes=15)
    assert not active.suspended


async def test_a_lock_that_has_passed_is_absent(worker, client, app):
    await worker.fail(ALICE, app, times=5)
    await worker.advance(minutes=15)
    active = (await client.enrollment.GetEnrollment(standing())).active
    assert not active.HasField("locked_until")


async def test_the_elevation_of_the_session_is_shown_while_it_lives(worker, client, clock, app):
    await worker.elevate(ALICE, app)
    shown = (await client.enrollment.GetEnrollment(standing())).elevation
    assert (instant(shown.verified_at), instant(shown.expires_at)) == (
        clock.now(),
        clock.now() + timedelta(minutes=15),
    )
    elsewhere = standing(on_wire(person(session="phone")))
    assert not (await client.enrollment.GetEnrollment(elsewhere)).HasField("elevation")
    await worker.advance(minutes=15)
    assert not (await client.enrollment.GetEnrollment(standing())).HasField("elevation")


async def test_s17_without_redis_the_rest_of_the_enrollment_is_shown(world, worker, client, app):
    await worker.elevate(ALICE, app)
    world.elevations.finds = False
    answer = await client.enrollment.GetEnrollment(standing())
    assert answer.active.enrollment_id == app.enrollment_id
    assert not answer.HasField("elevation")


@pytest.mark.usefixtures("app")
async def test_the_toggle_is_turned(client):
    request = enrollment.SetAccountMfaRequest(actor=ON_WIRE, enabled=True)
    assert (await client.enrollment.SetAccountMfa(request)).enabled
    assert (await client.enrollment.GetEnrollment(standing())).account_mfa_enabled


async def test_a_wizard_is_cancelled(worker, client):
    await worker.begin(ALICE)
    await client.enrollment.CancelEnrollment(enrollment.CancelEnrollmentRequest(actor=ON_WIRE))
    assert not (await client.enrollment.GetEnrollment(standing())).HasField("pending")


async def test_an_authenticator_is_removed(worker, client, app):
    await worker.elevate(ALICE, app)
    await client.enrollment.RemoveEnrollment(enrollment.RemoveEnrollmentRequest(actor=ON_WIRE))
    assert not (await client.enrollment.GetEnrollment(standing())).HasField("active")


async def test_an_elevated_person_gets_a_new_reset_code(world, worker, client, app):
    world.sql("DELETE FROM reset_codes")
    assert not (await client.enrollment.GetEnrollment(standing())).active.has_reset_code
    await worker.elevate(ALICE, app)
    issued = await client.enrollment.IssueResetCode(enrollment.IssueResetCodeRequest(actor=ON_WIRE))
    assert (await client.enrollment.GetEnrollment(standing())).active.has_reset_code
    answer = await client.enrollment.ResetEnrollment(resetting(issued.reset_code))
    assert answer.outcome == enrollment.RESET_OUTCOME_ACCEPTED


def resetting(reset_code, actor=ON_WIRE):
    return enrollment.ResetEnrollmentRequest(actor=actor, reset_code=reset_code)


async def test_s8_a_mistyped_reset_code_counts_nowhere(worker, client, app):
    async def reset(text):
        return await client.enrollment.ResetEnrollment(resetting(text))

    counted, events = metric("stepup_resets_total", outcome="mistyped"), await worker.events()
    for _ in range(11):
        assert (await reset(MISTYPED)).outcome == enrollment.RESET_OUTCOME_MISTYPED
    assert metric("stepup_resets_total", outcome="mistyped") == counted + 11
    assert await worker.events() == events
    assert (await reset(WRONG)).attempts_remaining == 9
    assert (await reset(app.reset_code.text)).outcome == enrollment.RESET_OUTCOME_ACCEPTED


async def test_s8_what_is_mistyped_follows_from_the_text_alone(client, app):
    """The answer does not depend on the code, on the session's throttle, or on an authenticator."""

    async def reset(text, actor=ON_WIRE):
        return await client.enrollment.ResetEnrollment(resetting(text, actor))

    mistyped = enrollment.ResetEnrollmentResponse(outcome=enrollment.RESET_OUTCOME_MISTYPED)
    assert await reset(MISTYPED) == mistyped
    nearly = app.reset_code.text
    assert await reset(nearly[:-1] + ("A" if nearly[-1] != "A" else "B")) == mistyped
    for _ in range(11):
        throttled = await reset(WRONG)
    assert throttled.outcome == enrollment.RESET_OUTCOME_THROTTLED
    assert await reset(MISTYPED) == mistyped
    assert await reset(MISTYPED, on_wire(person("bob"))) == mistyped


@pytest.mark.usefixtures("app")
async def test_an_administrator_resets_another_user(worker, client):
    await worker.elevate(ROOT, await worker.enrol(ROOT))
    await client.enrollment.AdminResetEnrollment(
        enrollment.AdminResetEnrollmentRequest(
            actor=on_wire(ROOT), user_id="alice", reason="機\u3000" * 256
        )
    )
    assert not (await client.enrollment.GetEnrollment(standing())).HasField("active")


def updating(etag, operations, *paths, enabled=True):
    return policy.UpdatePolicyRequest(
        actor=on_wire(ROOT),
        policy=policy.Policy(enabled=enabled, operations=operations, etag=etag),
        update_mask={"paths": paths},
    )


async def read(client):
    return (await client.policy.GetPolicy(policy.GetPolicyRequest(tenant_id="acme"))).policy


async def test_a_policy_that_was_never_set_is_disabled_and_empty(client):
    answer = await read(client)
    assert answer == policy.Policy(tenant_id="acme", etag=answer.etag)
    assert answer.etag


async def test_a_policy_is_set_and_read(client, clock):
    operations = [
        policy.SelectedOperation(operation=OSQUERY, max_age=timedelta(seconds=30)),
        policy.SelectedOperation(operation=API_KEYS),
    ]
    request = updating((await read(client)).etag, operations, "enabled", "operations")
    answer = (await client.policy.UpdatePolicy(request)).policy
    assert answer == policy.Policy(
        tenant_id="acme",
        enabled=True,
        operations=operations[::-1],
        etag=answer.etag,
        update_time=clock.now(),
    )
    assert await read(client) == answer


async def test_an_issuer_is_set_shown_and_taken_away(client):
    empty = await read(client)
    request = updating(empty.etag, [], "issuer")
    request.policy.issuer = "Acme"
    named = (await client.policy.UpdatePolicy(request)).policy
    assert (named.issuer, named.enabled) == ("Acme", False)
    assert named.etag != empty.etag
    assert await read(client) == named
    request = updating(named.etag, [], "issuer")
    assert not (await client.policy.UpdatePolicy(request)).policy.issuer
    assert not (await read(client)).issuer


async def test_the_time_to_enrol_is_set_shown_used_and_taken_away(client, clock):
    enroll_by = clock.now() + timedelta(days=30)
    request = updating(
        (await read(client)).etag, [{"operation": OSQUERY}], "enabled", "operations", "enroll_by"
    )
    request.policy.enroll_by.FromDatetime(enroll_by)
    request.policy.enroll_by.nanos += 999  # finer than what is stored
    given = (await client.policy.UpdatePolicy(request)).policy
    assert instant(given.enroll_by) == enroll_by
    assert await read(client) == given

    answer = await client.step_up.CheckStepUp(checking())
    assert answer == step_up.CheckStepUpResponse(
        decision=step_up.DECISION_ALLOWED,
        reason=step_up.DECISION_REASON_ENROLLMENT_GRACE,
        decision_id=answer.decision_id,
        policy_etag=given.etag,
        enroll_by=given.enroll_by,
    )

    request = updating(given.etag, [], "enroll_by")
    assert not (await client.policy.UpdatePolicy(request)).policy.HasField("enroll_by")
    answer = await client.step_up.CheckStepUp(checking())
    assert answer.reason == step_up.DECISION_REASON_NOT_ENROLLED
    assert not answer.HasField("enroll_by")


async def test_a_max_age_of_fifteen_minutes_is_as_old_as_elevations_get(client):
    operation = policy.SelectedOperation(operation=OSQUERY, max_age=timedelta(minutes=15))
    request = updating((await read(client)).etag, [operation], "operations")
    [answer] = (await client.policy.UpdatePolicy(request)).policy.operations
    assert not answer.HasField("max_age")


async def test_what_the_mask_does_not_name_stays(worker, client):
    etag = (await worker.select(OSQUERY)).etag
    answer = (await client.policy.UpdatePolicy(updating(etag, [], "enabled"))).policy
    assert [selected.operation for selected in answer.operations] == [OSQUERY]


async def test_the_tenant_of_the_actor_counts(worker, client):
    request = updating((await read(client)).etag, [], "enabled")
    request.policy.tenant_id = "globex"
    await client.policy.UpdatePolicy(request)
    assert (await worker.policy()).enabled
    assert not (await worker.policy(person(tenant="globex").tenant_id)).enabled


async def test_the_catalogue_is_listed_in_its_order(worker, client):
    answer = await client.policy.ListOperations(policy.ListOperationsRequest())
    assert [
        (category.id, [(operation.id, operation.title) for operation in category.operations])
        for category in answer.categories
    ] == [
        (category.id, [(operation.id, operation.title) for operation in members])
        for category, members in worker.catalogue
    ]


def listing(**fields):
    return audit.ListAuditEventsRequest(tenant_id="acme", **fields)


async def test_an_event_has_its_place_and_what_happened(worker, client, clock):
    await worker.revoke(ALICE)
    [stored] = await worker.events()
    [event] = (await client.audit.ListAuditEvents(listing())).events
    assert event == audit.AuditEvent(
        tenant_id="acme",
        sequence=1,
        event_id=stored.event_id,
        occurred_at=clock.now(),
        kind=audit.AUDIT_EVENT_KIND_ELEVATIONS_REVOKED,
        caller="response-actions",
        actor_user_id="alice",
        subject_user_id="alice",
        details=details_of(ALICE, scope="session"),
        previous_hash=bytes(32),
        hash=event.hash,
    )
    assert len(event.hash) == 32


async def test_an_event_has_the_device_that_the_caller_named(client):
    device = actor_pb2.Client(address="192.0.2.7", user_agent="Firefox")
    actor = actor_pb2.ActorContext()
    actor.CopyFrom(ON_WIRE)
    actor.client.CopyFrom(device)
    scope = step_up.REVOCATION_SCOPE_SESSION
    await client.step_up.RevokeElevations(step_up.RevokeElevationsRequest(actor=actor, scope=scope))
    [event] = (await client.audit.ListAuditEvents(listing())).events
    assert event.client == device
    assert len(event.details["client"]) == 64


async def test_an_event_of_the_tenant_has_no_subject(worker, client):
    await worker.select(OSQUERY)
    [event] = (await client.audit.ListAuditEvents(listing())).events
    assert event.subject_user_id == ""
    assert event.details["after"]["operations"][OSQUERY] == 900


async def test_an_event_of_a_device_of_which_nothing_is_known_has_none(client):
    actor = actor_pb2.ActorContext()
    actor.CopyFrom(ON_WIRE)
    actor.client.SetInParent()
    scope = step_up.REVOCATION_SCOPE_SESSION
    await client.step_up.RevokeElevations(step_up.RevokeElevationsRequest(actor=actor, scope=scope))
    [event] = (await client.audit.ListAuditEvents(listing())).events
    assert not event.HasField("client")
    assert "client" not in event.details


@pytest.mark.parametrize(("size", "expected"), [(0, 50), (1, 1), (100, 100)])
async def test_a_page_has_as_many_events_as_asked_for(worker, client, size, expected):
    for _ in range(101):
        await worker.revoke(ALICE)
    answer = await client.audit.ListAuditEvents(listing(page_size=size))
    assert len(answer.events) == expected
    assert answer.next_page_token


async def test_the_newest_events_come_first_on_request(worker, client):
    await worker.begin(ALICE)
    await worker.revoke(ALICE)
    answer = await client.audit.ListAuditEvents(listing(newest_first=True))
    assert [event.sequence for event in answer.events] == [2, 1]


async def test_a_filter_narrows_the_events(worker, client, clock):
    await worker.revoke(person("bob"))
    await worker.begin(ALICE)
    await worker.advance(seconds=1)
    await worker.revoke(ALICE)
    wanted = audit.AuditEventFilter(
        start_time=clock.now() - timedelta(seconds=1),
        end_time=clock.now() + timedelta(microseconds=1),
        user_id="alice",
        kinds=[audit.AUDIT_EVENT_KIND_ELEVATIONS_REVOKED],
    )
    answer = await client.audit.ListAuditEvents(listing(filter=wanted))
    assert [event.sequence for event in answer.events] == [3]


@pytest.mark.parametrize("after", [0, 2])
async def test_an_export_streams_from_a_cursor(worker, client, after):
    for _ in range(3):
        await worker.revoke(ALICE)
    request = audit.ExportAuditEventsRequest(tenant_id=ACME, after_sequence=after)
    streamed = [answer.event.sequence async for answer in client.audit.ExportAuditEvents(request)]
    assert streamed == list(range(after + 1, 4))
