"""Bob, who is asked about: everything that makes him elevated is done through the API."""

import secrets

from google.protobuf.field_mask_pb2 import FieldMask
from stepup_tests.e2e.authenticator_app import AuthenticatorApp

from stepup.client.messages import actor as people
from stepup.client.messages import enrollment, policy, step_up

OPERATION = "response.run_osquery"
_CALL_SECONDS = 10


class Person:
    """A person of a tenant of their own, with ids as long as they are in production."""

    def __init__(self) -> None:
        self.actor = people.ActorContext(
            tenant_id=f"acme-{secrets.token_hex(4)}",
            user_id="bob@acme.example",
            session_id=secrets.token_urlsafe(24),
        )
        self._app: AuthenticatorApp | None = None

    @property
    def question(self):
        """May Bob query this host now?"""
        return step_up.CheckStepUpRequest(
            actor=self.actor, operation=OPERATION, target="host-000017"
        )

    def elevate(self, client, metadata):
        """Give a code; the first time in the wizard, which leaves the session elevated, too."""

        def call(method, request):
            return method(request, timeout=_CALL_SECONDS, metadata=metadata)

        if self._app is None:
            self._protect(client.policy, call)
            self._enrol(client.enrollment, call)
            return
        request = step_up.VerifyOtpRequest(actor=self.actor, code=self._app.code())
        answer = call(client.step_up.VerifyOtp, request)
        assert answer.outcome == step_up.OUTCOME_VERIFIED, answer

    def _protect(self, service, call):
        tenant = self.actor.tenant_id
        etag = call(service.GetPolicy, policy.GetPolicyRequest(tenant_id=tenant)).policy.etag
        selected = [policy.SelectedOperation(operation=OPERATION)]
        update = policy.UpdatePolicyRequest(
            actor=people.ActorContext(
                tenant_id=tenant,
                user_id="ada@acme.example",
                session_id="ada-monday",
                role=people.ROLE_MASTER_ADMINISTRATOR,
            ),
            policy=policy.Policy(enabled=True, etag=etag, operations=selected),
            update_mask=FieldMask(paths=["enabled", "operations"]),
        )
        call(service.UpdatePolicy, update)

    def _enrol(self, service, call):
        begin = enrollment.BeginEnrollmentRequest(actor=self.actor, account_name="bob")
        self._app = AuthenticatorApp(call(service.BeginEnrollment, begin).secret)
        confirm = enrollment.ConfirmEnrollmentRequest(actor=self.actor, code=self._app.code())
        answer = call(service.ConfirmEnrollment, confirm)
        assert answer.outcome == enrollment.CONFIRM_OUTCOME_CONFIRMED, answer
        complete = enrollment.CompleteEnrollmentRequest(actor=self.actor, reset_code_stored=True)
        call(service.CompleteEnrollment, complete)
