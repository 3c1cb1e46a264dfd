"""`stepup demo`: the main job, played against a server process through its gRPC API only."""

import sys
from typing import Any

import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from rich.console import Console
from rich.markup import escape

from stepup.cli.demo.stage import (
    App,
    Stage,
    UnexpectedAnswerError,
    console_on,
    expect,
    is_shown,
    server_process,
)
from stepup.client import Client, connect
from stepup.client.messages import actor as people
from stepup.client.messages import audit, enrollment, policy, step_up
from stepup.rpc.wire import qr

TENANT = "acme"
SHELL = "response.start_remote_shell"
OSQUERY = "response.run_osquery"


def run() -> int:
    """Play the demo; returns the exit status."""
    console = console_on(sys.stdout)
    with server_process() as address, connect(address) as client:
        console.print(f"[dim]A server process listens on {address}; all that follows is gRPC.[/]")
        try:
            _Play(console, client).perform()
        except (UnexpectedAnswerError, grpc.RpcError) as error:
            console.print(f"[bold red]The demo failed:[/] {escape(str(error))}")
            return 1
    console.print("\n[bold green]That was the main job.[/] Next: `make run`, and the README.")
    return 0


class _Play:
    """The scenes. Whoever reads them from top to bottom knows the product."""

    def __init__(self, console: Console, client: Client) -> None:
        self._console = console
        self._client = client
        self._stage = Stage(console, client)

    def perform(self) -> None:
        """Play all scenes in order."""
        ada = _person("ada", "ada-monday", role=people.ROLE_MASTER_ADMINISTRATOR)
        bob = _person("bob", "bob-monday")
        bob_later = _person("bob", "bob-tuesday")
        self._nothing_is_protected(bob)
        self._the_administrator_enables_mfa(ada)
        self._a_user_has_to_enrol(bob)
        app = self._the_wizard(bob)
        receipt = self._a_code_elevates(bob_later, app)
        self._who_is_exempt()
        self._a_retry_is_proven(bob_later, receipt)
        self._weakening_needs_a_code(ada)
        self._everything_is_on_record()

    def _nothing_is_protected(self, bob: people.ActorContext) -> None:
        self._stage.scene(
            "Before: MFA is off", "A backend asks before it opens a remote shell for Bob."
        )
        self._stage.check(bob, SHELL, "ALLOWED", "MFA_NOT_ENABLED")

    def _the_administrator_enables_mfa(self, ada: people.ActorContext) -> None:
        self._stage.scene(
            "The policy panel",
            "Ada, a Master Administrator, turns MFA on and selects two operations. For a remote"
            " shell the code may be five minutes old at most.",
        )
        wanted = policy.Policy(
            enabled=True,
            etag=self._stored_policy().etag,
            operations=[
                policy.SelectedOperation(operation=OSQUERY),
                policy.SelectedOperation(operation=SHELL, max_age=Duration(seconds=300)),
            ],
        )
        request = policy.UpdatePolicyRequest(
            actor=ada, policy=wanted, update_mask=FieldMask(paths=["enabled", "operations"])
        )
        self._stage.call(self._client.policy.UpdatePolicy, request)

    def _a_user_has_to_enrol(self, bob: people.ActorContext) -> None:
        self._stage.scene(
            "Bob has no authenticator yet", "The same question now gets another answer."
        )
        self._stage.check(bob, SHELL, "ENROLLMENT_REQUIRED", "NOT_ENROLLED")
        self._stage.say("What is not selected goes on as before:")
        self._stage.check(bob, "response.collect_file", "ALLOWED", "OPERATION_NOT_SELECTED")

    def _the_wizard(self, bob: people.ActorContext) -> App:
        self._stage.scene(
            "The wizard, screen 1", "Bob scans the QR code, or types the secret key, into his app."
        )
        screen = self._stage.call(
            self._client.enrollment.BeginEnrollment,
            enrollment.BeginEnrollmentRequest(actor=bob, account_name="bob@acme.example"),
            hide=("qr_svg", "qr_png"),
        )
        code = qr.terminal(screen.otpauth_uri)
        if is_shown(self._console, code):
            self._console.print(code, soft_wrap=True)
        else:
            self._stage.say("A terminal in UTF-8 would show the QR code here.")
        app = App(self._console, screen.secret)

        self._stage.scene(
            "The wizard, screen 2", "He types the app's code, and gets a reset code to store."
        )
        confirmed = self._stage.call(
            self._client.enrollment.ConfirmEnrollment,
            enrollment.ConfirmEnrollmentRequest(actor=bob, code=app.next_code().digits),
        )
        expect(confirmed.outcome == enrollment.CONFIRM_OUTCOME_CONFIRMED, "CONFIRMED")

        self._stage.scene(
            "The wizard, screen 3", "He has stored the reset code: the authenticator is in force."
        )
        self._stage.call(
            self._client.enrollment.CompleteEnrollment,
            enrollment.CompleteEnrollmentRequest(actor=bob, reset_code_stored=True),
        )
        self._stage.say("He has just given a code, so this session is elevated for 15 minutes:")
        self._stage.check(bob, SHELL, "ALLOWED", "ELEVATED")
        return app

    def _a_code_elevates(self, bob: people.ActorContext, app: App) -> str:
        self._stage.scene(
            "Another session of Bob's", "An elevation belongs to one sign-in session; this is new."
        )
        self._stage.check(bob, SHELL, "STEP_UP_REQUIRED", "NOT_ELEVATED")
        self._stage.say("A code is accepted once; this one has confirmed the wizard:")
        self._stage.verify(bob, app.last_code(), "REJECTED")
        fresh = app.next_code()
        self._stage.say("With the next code:")
        self._stage.verify(bob, fresh, "VERIFIED")
        return self._stage.check(bob, SHELL, "ALLOWED", "ELEVATED", target="host-7").receipt

    def _who_is_exempt(self) -> None:
        self._stage.scene(
            "The exemptions", "Where nobody is there to type a code, the caller says why."
        )
        self._stage.say("The Managed Services operations team:")
        olga = _person("olga", "olga-1", team=people.TEAM_MANAGED_SERVICES_OPERATIONS)
        self._stage.check(olga, SHELL, "ALLOWED", "EXEMPT_MANAGED_SERVICES")
        self._stage.say("An automatically triggered playbook:")
        automatic = _person("carl", "run-1", run=people.PLAYBOOK_TRIGGER_AUTOMATIC)
        self._stage.check(automatic, OSQUERY, "ALLOWED", "EXEMPT_AUTOMATIC_PLAYBOOK")
        self._stage.say("The same playbook, started by hand:")
        manual = _person("carl", "carl-1", run=people.PLAYBOOK_TRIGGER_MANUAL)
        self._stage.check(manual, OSQUERY, "ENROLLMENT_REQUIRED", "NOT_ENROLLED")
        self._stage.say("A SAML account at sign-in:")
        sue = _person("sue", "sue-1", account_type=people.ACCOUNT_TYPE_SAML)
        self._stage.check(sue, "account.sign_in", "ALLOWED", "SIGN_IN_NOT_SUPPORTED_FOR_SAML")

    def _a_retry_is_proven(self, bob: people.ActorContext, receipt: str) -> None:
        self._stage.scene(
            "A timed-out action",
            "Bob has signed out. His remote shell on host-7 timed out, and the backend tries again"
            " with the receipt of the first decision.",
        )
        signed_out = step_up.RevokeElevationsRequest(
            actor=bob, scope=step_up.REVOCATION_SCOPE_SESSION
        )
        self._stage.call(self._client.step_up.RevokeElevations, signed_out)
        retry = people.ActorContext(retry_receipt=receipt)
        retry.MergeFrom(bob)
        self._stage.check(retry, SHELL, "ALLOWED", "EXEMPT_TIMED_OUT_RETRY", target="host-7")
        self._stage.say("A receipt is redeemed once:")
        self._stage.check(retry, SHELL, "STEP_UP_REQUIRED", "NOT_ELEVATED", target="host-7")

    def _weakening_needs_a_code(self, ada: people.ActorContext) -> None:
        self._stage.scene(
            "Turning MFA off", "Whoever weakens the policy has to be elevated themselves."
        )
        request = policy.UpdatePolicyRequest(
            actor=ada,
            policy=policy.Policy(enabled=False, etag=self._stored_policy().etag),
            update_mask=FieldMask(paths=["enabled"]),
        )
        self._stage.refused(self._client.policy.UpdatePolicy, request, "ELEVATION_REQUIRED")

    def _everything_is_on_record(self) -> None:
        self._stage.scene("The audit trail", "One hash chain per tenant, written with each change.")
        request = audit.ListAuditEventsRequest(tenant_id=TENANT)
        events = self._client.audit.ListAuditEvents(request).events
        for event in events:
            kind = audit.AuditEventKind.Name(event.kind).removeprefix("AUDIT_EVENT_KIND_")
            line = (
                f"{event.sequence:>2}  {kind:<22} {event.actor_user_id:<5} {event.hash.hex()[:16]}"
            )
            self._stage.say(line)
        expect(len(events) > 0, "audit events")

    def _stored_policy(self) -> policy.Policy:
        return self._client.policy.GetPolicy(policy.GetPolicyRequest(tenant_id=TENANT)).policy


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
