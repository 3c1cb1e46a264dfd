"""The handlers of `EnrollmentService`."""

from dataclasses import dataclass
from datetime import datetime

from stepup.domain.actor import UserId
from stepup.domain.errors import InvalidFieldError
from stepup.domain.labels import label_of_id
from stepup.domain.reset_code import ResetCode
from stepup.domain.totp import Label, OtpCode
from stepup.rpc.pipeline.call import Call
from stepup.rpc.wire import actors, acts, decode, encode
from stepup.rpc.wire.qr import Pictures
from stepup.service.calls.limits import TenantShare
from stepup.service.calls.tallies import count_mistyped_reset_code
from stepup.service.enrollment.account_mfa import SetAccountMfa
from stepup.service.enrollment.begin import BeginEnrollment, Screen
from stepup.service.enrollment.complete import CompleteEnrollment
from stepup.service.enrollment.confirm import ConfirmEnrollment
from stepup.service.enrollment.end import EndEnrollment
from stepup.service.enrollment.issue_reset_code import IssueResetCode
from stepup.service.enrollment.wizard import CancelEnrollment, GetEnrollment
from stepup.service.step_up.elevated import Elevated
from stepup.v1 import enrollment_service_pb2 as pb


@dataclass(frozen=True, slots=True)
class EnrollmentHandlers:
    """Enrolls authenticators step by step, and removes and resets them."""

    begin: BeginEnrollment
    confirm: ConfirmEnrollment
    complete: CompleteEnrollment
    cancel: CancelEnrollment
    get: GetEnrollment
    elevated: Elevated
    end: EndEnrollment
    issue: IssueResetCode
    account_mfa: SetAccountMfa
    pictures: Pictures
    beginning: TenantShare

    async def begin_enrollment(
        self, request: pb.BeginEnrollmentRequest, call: Call
    ) -> pb.BeginEnrollmentResponse:
        """Begin an enrollment, or reject the reset code.

        Raises:
            OverloadedError: too many of these calls of the tenant are in flight.
        """
        context = await call.authorize_and_charge(actors.actor(request))
        account_name = (
            decode.parse("account_name", Label, request.account_name)
            if request.account_name
            else label_of_id(context.actor.user_id)
        )
        reset_code = None
        if request.reset_code:
            reset_code = decode.parse("reset_code", ResetCode.parse, request.reset_code)
            if reset_code is None:
                count_mistyped_reset_code()
                return pb.BeginEnrollmentResponse(outcome=pb.RESET_OUTCOME_MISTYPED)
        async with self.beginning.turn(context.actor.tenant_id):
            begun = await self.begin(context, account_name, reset_code)
            if isinstance(begun, Screen):
                return await self._screen(begun, context.now)
        return pb.BeginEnrollmentResponse(
            outcome=encode.RESET_OUTCOMES[begun.outcome],
            attempts_remaining=begun.attempts_remaining,
            retry_after=encode.duration(begun.retry_after),
        )

    async def _screen(self, screen: Screen, now: datetime) -> pb.BeginEnrollmentResponse:
        response = pb.BeginEnrollmentResponse(
            outcome=pb.RESET_OUTCOME_ACCEPTED
            if screen.by_reset_code
            else pb.RESET_OUTCOME_NOT_CHECKED,
            enrollment_id=screen.enrollment_id,
            expires_at=encode.timestamp(screen.expires_at),
            state=encode.ENROLLMENT_STATES[screen.state],
        )
        if screen.secret is not None and screen.otpauth_uri is not None:
            picture = await self.pictures.find_or_draw(
                screen.enrollment_id, screen.otpauth_uri, screen.expires_at, now
            )
            response.secret = screen.secret.base32
            response.otpauth_uri = screen.otpauth_uri
            response.qr_svg, response.qr_png = picture.svg, picture.png
        else:
            self.pictures.forget(screen.enrollment_id)
        return response

    async def confirm_enrollment(
        self, request: pb.ConfirmEnrollmentRequest, call: Call
    ) -> pb.ConfirmEnrollmentResponse:
        context = await call.authorize_and_charge(actors.actor(request))
        confirmation = await self.confirm(context, decode.parse("code", OtpCode, request.code))
        if confirmation.reset_code is None:
            return pb.ConfirmEnrollmentResponse(
                outcome=pb.CONFIRM_OUTCOME_REJECTED,
                attempts_remaining=confirmation.tries_remaining,
                next_code_after=encode.duration(confirmation.next_code_after),
            )
        return pb.ConfirmEnrollmentResponse(
            outcome=pb.CONFIRM_OUTCOME_CONFIRMED,
            reset_code=confirmation.reset_code.text,
            attempts_remaining=confirmation.tries_remaining,
        )

    async def complete_enrollment(
        self, request: pb.CompleteEnrollmentRequest, call: Call
    ) -> pb.CompleteEnrollmentResponse:
        context = await call.authorize_and_charge(actors.actor(request))
        if not request.reset_code_stored:
            raise InvalidFieldError("reset_code_stored", "must be true: store the reset code first")
        completion = await self.complete(context)
        response = pb.CompleteEnrollmentResponse(
            # No enrollment is completed without its reset code.
            enrollment=encode.active(completion.authenticator, context.now, has_reset_code=True)
        )
        encode.set_elevation(response, completion.elevation)
        return response

    async def cancel_enrollment(
        self, request: pb.CancelEnrollmentRequest, call: Call
    ) -> pb.CancelEnrollmentResponse:
        await self.cancel(await call.authorize_and_charge(actors.actor(request)))
        return pb.CancelEnrollmentResponse()

    async def get_enrollment(
        self, request: pb.GetEnrollmentRequest, call: Call
    ) -> pb.GetEnrollmentResponse:
        context = await call.authorize_and_charge(actors.actor(request))
        standing = await self.get(context)
        response = pb.GetEnrollmentResponse(
            active=encode.active(
                standing.active, context.now, has_reset_code=standing.has_reset_code
            )
            if standing.active
            else None,
            pending=encode.pending(standing.pending) if standing.pending else None,
            account_mfa_enabled=standing.account_mfa_enabled,
        )
        encode.set_elevation(response, await self.elevated.find_live_if_known(context))
        return response

    async def remove_enrollment(
        self, request: pb.RemoveEnrollmentRequest, call: Call
    ) -> pb.RemoveEnrollmentResponse:
        await self.end.remove(await call.authorize_and_charge(actors.actor(request)))
        return pb.RemoveEnrollmentResponse()

    async def reset_enrollment(
        self, request: pb.ResetEnrollmentRequest, call: Call
    ) -> pb.ResetEnrollmentResponse:
        context = await call.authorize_and_charge(actors.actor(request))
        code = decode.parse("reset_code", ResetCode.parse, request.reset_code)
        if code is None:
            count_mistyped_reset_code()
            return pb.ResetEnrollmentResponse(outcome=pb.RESET_OUTCOME_MISTYPED)
        attempt = await self.end.reset(context, code)
        return pb.ResetEnrollmentResponse(
            outcome=encode.RESET_OUTCOMES[attempt.outcome],
            attempts_remaining=attempt.attempts_remaining,
            retry_after=encode.duration(attempt.retry_after),
        )

    async def admin_reset_enrollment(
        self, request: pb.AdminResetEnrollmentRequest, call: Call
    ) -> pb.AdminResetEnrollmentResponse:
        actor = actors.actor_or_operator(request)
        context = await call.authorize_and_charge(actor)
        user_id = decode.parse_id("user_id", UserId, request.user_id)
        await self.end.admin_reset(context, user_id, acts.reason(actor, request.reason))
        return pb.AdminResetEnrollmentResponse()

    async def issue_reset_code(
        self, request: pb.IssueResetCodeRequest, call: Call
    ) -> pb.IssueResetCodeResponse:
        code = await self.issue(await call.authorize_and_charge(actors.actor(request)))
        return pb.IssueResetCodeResponse(reset_code=code.text)

    async def set_account_mfa(
        self, request: pb.SetAccountMfaRequest, call: Call
    ) -> pb.SetAccountMfaResponse:
        context = await call.authorize_and_charge(actors.actor(request))
        await self.account_mfa(context, request.enabled)
        return pb.SetAccountMfaResponse(enabled=request.enabled)
