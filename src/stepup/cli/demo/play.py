"""`stepup demo`: the main job, performed against a server process through its gRPC API only."""

import sys
from typing import Any

import grpc
import typer
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from rich.markup import escape

from stepup.cli.demo.stage import (
    App,
    Stage,
    UnexpectedAnswerError,
    channel_to,
    console_on,
    expect,
    is_shown,
    server_process,
)
from stepup.client import StepUpError, rpcs
from stepup.client.messages import actor as people
from stepup.client.messages import audit, challenge, enrollment, policy, step_up
from stepup.rpc.wire import qr

TENANT = "acme"
SHELL = "response.start_remote_shell"
OSQUERY = "response.run_osquery"


def demo() -> None:
    """Start a server with a temporary data directory, and show a step-up through its API."""
    raise typer.Exit(_perform())


def _perform() -> int:
    """Perform all scenes in order; returns the exit status."""
    console = console_on(sys.stdout)
    ada = _person("ada", "ada-monday", role=people.ROLE_MASTER_ADMINISTRATOR)
    bob = _person("bob", "bob-monday")
    bob_later = _person("bob", "bob-tuesday")
    with server_process() as address, channel_to(address) as channel:
        stage = Stage(console, channel)
        console.print(f"[dim]A server process listens on {address}; every call uses gRPC.[/]")
        try:
            _call_without_mfa(stage, bob)
            _enable_mfa(stage, ada)
            _refuse_without_authenticator(stage, bob)
            app = _enroll(stage, bob)
            receipt = _elevate_another_session(stage, bob_later, app)
            _show_exemptions(stage)
            _retry(stage, bob_later, receipt)
            _approve_named_actions(stage, ada, _person("bob", "bob-wednesday"), app)
            _refuse_weaker_policy(stage, ada)
            _list_audit_events(stage)
        except (UnexpectedAnswerError, StepUpError, grpc.RpcError) as error:
            console.print(f"[bold red]The demo failed:[/] {escape(str(error))}")
            return 1
    console.print("\n[bold green]That was the main job.[/] Next: `make run`, and the README.")
    return 0


def _call_without_mfa(stage: Stage, bob: people.ActorContext) -> None:
    stage.scene("Before: MFA is off", "A backend asks before it opens a remote shell for Bob.")
    stage.check(bob, SHELL, "ALLOWED", "MFA_NOT_ENABLED")


def _enable_mfa(stage: Stage, ada: people.ActorContext) -> None:
    stage.scene(
        "The policy panel",
        "Ada, a Master Administrator, turns MFA on and selects two operations. For a remote"
        " shell the code may be five minutes old at most.",
    )
    wanted = policy.Policy(
        enabled=True,
        etag=_stored_policy(stage).etag,
        operations=[
            policy.SelectedOperation(operation=OSQUERY),
            policy.SelectedOperation(operation=SHELL, max_age=Duration(seconds=300)),
        ],
    )
    request = policy.UpdatePolicyRequest(
        actor=ada, policy=wanted, update_mask=FieldMask(paths=["enabled", "operations"])
    )
    stage.call(rpcs.UPDATE_POLICY, request)


def _refuse_without_authenticator(stage: Stage, bob: people.ActorContext) -> None:
    stage.scene("Bob has no authenticator yet", "The same question now has another answer.")
    stage.check(bob, SHELL, "ENROLLMENT_REQUIRED", "NOT_ENROLLED")
    stage.say("Operations that Ada has not selected still need no code:")
    stage.check(bob, "response.collect_file", "ALLOWED", "OPERATION_NOT_SELECTED")


def _enroll(stage: Stage, bob: people.ActorContext) -> App:
    stage.scene(
        "The wizard, screen 1", "Bob scans the QR code, or types the secret key, into his app."
    )
    screen = stage.call(
        rpcs.BEGIN_ENROLLMENT,
        enrollment.BeginEnrollmentRequest(actor=bob, account_name="bob@acme.example"),
        hide=("qr_svg", "qr_png"),
    )
    code = qr.terminal(screen.otpauth_uri)
    if is_shown(stage.console, code):
        stage.console.print(code, soft_wrap=True)
    else:
        stage.say("A terminal in UTF-8 would show the QR code here.")
    app = App(stage.console, screen.secret)

    stage.scene("The wizard, screen 2", "He types the app's code, and gets a reset code to store.")
    confirmed = stage.call(
        rpcs.CONFIRM_ENROLLMENT,
        enrollment.ConfirmEnrollmentRequest(actor=bob, code=app.next_code().digits),
    )
    expect(confirmed.outcome == enrollment.CONFIRM_OUTCOME_CONFIRMED, "CONFIRMED")

    stage.scene(
        "The wizard, screen 3", "He has stored the reset code. The authenticator is active."
    )
    stage.call(
        rpcs.COMPLETE_ENROLLMENT,
        enrollment.CompleteEnrollmentRequest(actor=bob, reset_code_stored=True),
    )
    stage.say("Bob has just given a code, so this session is elevated for 15 minutes:")
    stage.check(bob, SHELL, "ALLOWED", "ELEVATED")
    return app


def _elevate_another_session(stage: Stage, bob: people.ActorContext, app: App) -> str:
    stage.scene("Another session of Bob's", "An elevation belongs to one sign-in session only.")
    stage.check(bob, SHELL, "STEP_UP_REQUIRED", "NOT_ELEVATED")
    stage.say("A code is accepted once. Bob has used this code in the wizard:")
    stage.verify(bob, app.last_code(), "REJECTED")
    fresh = app.next_code()
    stage.say("Bob gives the next code:")
    stage.verify(bob, fresh, "VERIFIED")
    return stage.check(bob, SHELL, "ALLOWED", "ELEVATED", target="host-7").receipt


def _show_exemptions(stage: Stage) -> None:
    stage.scene("The exemptions", "Some actions need no code: the caller says for whom it acts.")
    stage.say("The Managed Services operations team:")
    olga = _person("olga", "olga-1", team=people.TEAM_MANAGED_SERVICES_OPERATIONS)
    stage.check(olga, SHELL, "ALLOWED", "EXEMPT_MANAGED_SERVICES")
    stage.say("An automatically triggered playbook:")
    automatic = _person("carl", "run-1", run=people.PLAYBOOK_TRIGGER_AUTOMATIC)
    stage.check(automatic, OSQUERY, "ALLOWED", "EXEMPT_AUTOMATIC_PLAYBOOK")
    stage.say("The same playbook, started by hand:")
    manual = _person("carl", "carl-1", run=people.PLAYBOOK_TRIGGER_MANUAL)
    stage.check(manual, OSQUERY, "ENROLLMENT_REQUIRED", "NOT_ENROLLED")
    stage.say("A SAML account at sign-in:")
    sue = _person("sue", "sue-1", account_type=people.ACCOUNT_TYPE_SAML)
    stage.check(sue, "account.sign_in", "ALLOWED", "SIGN_IN_NOT_SUPPORTED_FOR_SAML")


def _retry(stage: Stage, bob: people.ActorContext, receipt: str) -> None:
    stage.scene(
        "A timed-out action",
        "Bob has signed out. His remote shell on host-7 timed out, and the backend tries again"
        " with the receipt of the first decision.",
    )
    signed_out = step_up.RevokeElevationsRequest(actor=bob, scope=step_up.REVOCATION_SCOPE_SESSION)
    stage.call(rpcs.REVOKE_ELEVATIONS, signed_out)
    retry = people.ActorContext(retry_receipt=receipt)
    retry.MergeFrom(bob)
    stage.check(retry, SHELL, "ALLOWED", "EXEMPT_TIMED_OUT_RETRY", target="host-7")
    stage.say("A receipt is redeemed once:")
    stage.check(retry, SHELL, "STEP_UP_REQUIRED", "NOT_ELEVATED", target="host-7")


def _approve_named_actions(
    stage: Stage, ada: people.ActorContext, bob: people.ActorContext, app: App
) -> None:
    stage.scene("A challenge", "Ada now wants a code for each single remote shell.")
    request = policy.UpdatePolicyRequest(
        actor=ada,
        policy=policy.Policy(
            etag=_stored_policy(stage).etag,
            operations=[
                policy.SelectedOperation(operation=OSQUERY),
                policy.SelectedOperation(operation=SHELL, every_time=True),
            ],
        ),
        update_mask=FieldMask(paths=["operations"]),
    )
    stage.call(rpcs.UPDATE_POLICY, request)
    stage.check(bob, SHELL, "STEP_UP_REQUIRED", "EVERY_TIME", target="host-1")
    stage.say("An agent, which has no screen, asks Bob to approve two of them:")
    created = stage.call(
        rpcs.CREATE_CHALLENGE,
        challenge.CreateChallengeRequest(
            actor=bob,
            items=[
                challenge.NewChallengeItem(operation=SHELL, target="host-1", label="Mail server"),
                challenge.NewChallengeItem(operation=SHELL, target="host-2", label="File server"),
            ],
            message="Look into incident 7",
        ),
    ).challenge
    waiting = challenge.AwaitChallengeRequest(actor=bob, challenge_id=created.challenge_id)
    stage.say("The agent waits (AwaitChallenge):")
    states = stage.send(rpcs.AWAIT_CHALLENGE, waiting)
    stage.challenge_state(next(states).challenge, "PENDING")
    stage.say("In a session on his phone, Bob reads what he approves, and gives the next code:")
    answered = stage.call(
        rpcs.ANSWER_CHALLENGE,
        challenge.AnswerChallengeRequest(
            actor=_person("bob", "bobs-phone"),
            challenge_id=created.challenge_id,
            code=app.next_code().digits,
        ),
    )
    expect(answered.outcome == step_up.OUTCOME_VERIFIED, "VERIFIED")
    stage.say("The agent gets the answer:")
    stage.challenge_state(next(states).challenge, "APPROVED")
    stage.say("Each item is allowed once, and nothing else:")
    approved = people.ActorContext(challenge_id=created.challenge_id)
    approved.MergeFrom(bob)
    for target in ("host-1", "host-2"):
        stage.check(approved, SHELL, "ALLOWED", "CHALLENGE_APPROVED", target=target)
    for target in ("host-2", "host-3"):
        stage.check(approved, SHELL, "STEP_UP_REQUIRED", "EVERY_TIME", target=target)


def _refuse_weaker_policy(stage: Stage, ada: people.ActorContext) -> None:
    stage.scene("Turning MFA off", "An administrator who weakens the policy must be elevated.")
    request = policy.UpdatePolicyRequest(
        actor=ada,
        policy=policy.Policy(enabled=False, etag=_stored_policy(stage).etag),
        update_mask=FieldMask(paths=["enabled"]),
    )
    stage.call_refused(rpcs.UPDATE_POLICY, request, "ELEVATION_REQUIRED")


def _list_audit_events(stage: Stage) -> None:
    stage.scene("The audit trail", "Each change is recorded in a hash chain, one per tenant.")
    request = audit.ListAuditEventsRequest(tenant_id=TENANT)
    events = stage.send(rpcs.LIST_AUDIT_EVENTS, request).events
    for event in events:
        kind = audit.AuditEventKind.Name(event.kind).removeprefix("AUDIT_EVENT_KIND_")
        stage.say(
            f"{event.sequence:>2}  {kind:<22} {event.actor_user_id:<5} {event.hash.hex()[:16]}"
        )
    expect(len(events) > 0, "audit events")


def _stored_policy(stage: Stage) -> policy.Policy:
    request = policy.GetPolicyRequest(tenant_id=TENANT)
    response: policy.GetPolicyResponse = stage.send(rpcs.GET_POLICY, request)
    return response.policy


def _person(
    user_id: str,
    session_id: str,
    run: people.PlaybookTrigger.ValueType | None = None,
    **claims: Any,
) -> people.ActorContext:
    playbook_run = None
    if run is not None:
        playbook_run = people.PlaybookRun(playbook_id="isolate-host", run_id="run-1", trigger=run)
    return people.ActorContext(
        tenant_id=TENANT,
        user_id=user_id,
        session_id=session_id,
        playbook_run=playbook_run,
        **claims,
    )
