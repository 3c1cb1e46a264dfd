"""The handlers of `ChallengeService`."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass

from stepup.domain.actor import TenantId
from stepup.domain.challenge_rights import ANSWER_CHALLENGE
from stepup.domain.operations import Catalogue
from stepup.domain.origins import WebOrigin
from stepup.domain.totp import OtpCode
from stepup.rpc.pipeline.call import Call
from stepup.rpc.wire import actors, acts, challenges, decode
from stepup.service.challenges.answer import AnswerChallenge
from stepup.service.challenges.create import CreateChallenge
from stepup.service.challenges.end import EndChallenge
from stepup.service.challenges.read import ReadChallenges, View
from stepup.service.challenges.waits import Waits
from stepup.v1 import challenge_service_pb2 as pb


@dataclass(frozen=True, slots=True)
class ChallengeHandlers:
    """Creates, reads and ends challenges."""

    catalogue: Catalogue
    create: CreateChallenge
    read: ReadChallenges
    answer: AnswerChallenge
    end: EndChallenge
    waits: Waits
    portal_url: WebOrigin | None

    async def create_challenge(
        self, request: pb.CreateChallengeRequest, call: Call
    ) -> pb.CreateChallengeResponse:
        actor = actors.actor(request)
        new = challenges.new_challenge(self.catalogue, request)
        operations = {item.operation.id for item in new.items}
        context = await call.authorize_and_charge(actor, *operations)
        view = await self.create(context, new, call.admitted.caller.title_for_people)
        return pb.CreateChallengeResponse(challenge=self._encoded(view))

    async def get_challenge(
        self, request: pb.GetChallengeRequest, call: Call
    ) -> pb.GetChallengeResponse:
        actor = actors.actor_or_operator(request)
        challenge_id = challenges.challenge_id(request.challenge_id)
        context = await call.authorize_and_charge(actor)
        may_answer = may_read_all(call, actor.tenant_id)
        view = await self.read.get(context, challenge_id, may_answer=may_answer)
        return pb.GetChallengeResponse(challenge=self._encoded(view))

    async def list_challenges(
        self, request: pb.ListChallengesRequest, call: Call
    ) -> pb.ListChallengesResponse:
        actor = actors.actor_or_operator(request)
        user_id = acts.user_of(actor, request.user_id)
        limit = decode.page_size(request.page_size)
        views = await self.read.list(await call.authorize_and_charge(actor), user_id, limit)
        return pb.ListChallengesResponse(challenges=[self._encoded(view) for view in views])

    async def answer_challenge(
        self, request: pb.AnswerChallengeRequest, call: Call
    ) -> pb.AnswerChallengeResponse:
        context = await call.authorize_and_charge(actors.actor(request))
        challenge_id = challenges.challenge_id(request.challenge_id)
        code = decode.parse("code", OtpCode, request.code)
        request_id = decode.uuid("request_id", request.request_id)
        answered = await self.answer(context, challenge_id, code, request_id)
        call.conclude(outcome=answered.verification.outcome.value)
        return challenges.answered(answered, self._encoded(answered.view))

    async def await_challenge(
        self, request: pb.AwaitChallengeRequest, call: Call
    ) -> AsyncGenerator[pb.AwaitChallengeResponse]:
        actor = actors.actor(request)
        challenge_id = challenges.challenge_id(request.challenge_id)
        context = await call.authorize_and_charge(actor)
        may_answer = may_read_all(call, actor.tenant_id)
        views = self.waits.views(context, challenge_id, may_answer=may_answer)
        async with aclosing(views):
            async for view in views:
                challenge = self._encoded(view)
                del view  # a wait for the next one may last minutes (S18)
                yield pb.AwaitChallengeResponse(challenge=challenge)
                del challenge

    async def decline_challenge(
        self, request: pb.DeclineChallengeRequest, call: Call
    ) -> pb.DeclineChallengeResponse:
        actor = actors.actor(request)
        challenge_id = challenges.challenge_id(request.challenge_id)
        view = await self.end.decline(await call.authorize_and_charge(actor), challenge_id)
        return pb.DeclineChallengeResponse(challenge=self._encoded(view))

    async def cancel_challenge(
        self, request: pb.CancelChallengeRequest, call: Call
    ) -> pb.CancelChallengeResponse:
        actor = actors.actor_or_operator(request)
        challenge_id = challenges.challenge_id(request.challenge_id)
        view = await self.end.cancel(await call.authorize_and_charge(actor), challenge_id)
        return pb.CancelChallengeResponse(challenge=self._encoded(view))

    def _encoded(self, view: View) -> pb.Challenge:
        return challenges.challenge(self.catalogue, view, self.portal_url)


def may_read_all(call: Call, tenant_id: TenantId) -> bool:
    """Whether the caller may also read challenges of the actor that other callers created."""
    # A portal session reaches its own challenge only.
    return (
        call.portal is not None
        or call.admitted.caller.rule_for(ANSWER_CHALLENGE, tenant_id) is not None
    )
