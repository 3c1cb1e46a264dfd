"""The handlers of `StepUpService`."""

from dataclasses import dataclass

from stepup.domain.errors import InvalidFieldError
from stepup.domain.operations import Catalogue
from stepup.domain.totp import OtpCode
from stepup.rpc.pipeline.call import Call
from stepup.rpc.wire import actors, acts, decode, encode
from stepup.service.calls.context import Context
from stepup.service.step_up.check import CheckStepUp
from stepup.service.step_up.explain import ExplainStepUp
from stepup.service.step_up.revocation import RevokeElevations, Scope
from stepup.service.step_up.verify_otp import VerifyOtp
from stepup.v1 import step_up_service_pb2 as pb


@dataclass(frozen=True, slots=True)
class StepUpHandlers:
    """Checks and explains operations, accepts codes, and revokes elevations."""

    catalogue: Catalogue
    check: CheckStepUp
    explain: ExplainStepUp
    verify: VerifyOtp
    revoke: RevokeElevations

    async def check_step_up(
        self, request: pb.CheckStepUpRequest, call: Call
    ) -> pb.CheckStepUpResponse:
        actor = actors.actor(request)
        check = decode.check(self.catalogue, request.operation, request.target)
        request_id = decode.uuid("request_id", request.request_id)
        context = await call.authorize_and_charge(actor, check.operation.id)
        [answer] = await self.check(context, [check], request_id)
        verdict = answer.verdict
        call.conclude(decision=verdict.decision, decision_reason=verdict.reason)
        return encode.answer(answer)

    async def batch_check_step_up(
        self, request: pb.BatchCheckStepUpRequest, call: Call
    ) -> pb.BatchCheckStepUpResponse:
        actor, checks = actors.actor(request), decode.batch(self.catalogue, request)
        operations = {check.operation.id for check in checks}
        request_id = decode.uuid("request_id", request.request_id)
        retrying = {
            check.operation.id: check.presented_by(actor)
            for check in checks
            if check.retry_receipt is not None
        }
        context = await call.authorize_and_charge(
            actor, *operations, cost=len(checks), asserting=retrying
        )
        answers = await self.check(context, checks, request_id)
        verdicts = [answer.verdict for answer in answers]
        call.conclude(decisions=[f"{each.decision}/{each.reason}" for each in verdicts])
        return pb.BatchCheckStepUpResponse(decisions=map(encode.answer, answers))

    async def explain_step_up(
        self, request: pb.ExplainStepUpRequest, call: Call
    ) -> pb.ExplainStepUpResponse:
        actor, subject = actors.actor_or_operator(request), actors.subject(request)
        check = decode.check(self.catalogue, request.operation, request.target)
        context = await call.authorize_and_charge(actor, check.operation.id)
        return encode.explanation(await self.explain(context, subject, check))

    async def verify_otp(self, request: pb.VerifyOtpRequest, call: Call) -> pb.VerifyOtpResponse:
        context = await call.authorize_and_charge(actors.actor(request))
        code = decode.parse("code", OtpCode, request.code)
        request_id = decode.uuid("request_id", request.request_id)
        verification = await self.verify(context, code, request_id)
        call.conclude(outcome=verification.outcome.value)
        return encode.verification(verification)

    async def revoke_elevations(
        self, request: pb.RevokeElevationsRequest, call: Call
    ) -> pb.RevokeElevationsResponse:
        actor = actors.actor_or_operator(request)
        context = await call.authorize_and_charge(actor)
        scope, user_id = decode.scope(request.scope), acts.user_of(actor, request.user_id)
        if isinstance(context, Context):
            await self.revoke(context, scope)
        elif scope is Scope.USER:
            await self.revoke.by_operator(context, user_id)
        else:
            raise InvalidFieldError("scope", "must be REVOCATION_SCOPE_USER with an operator")
        return pb.RevokeElevationsResponse()
