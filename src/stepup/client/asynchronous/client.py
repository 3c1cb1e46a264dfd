"""The client. A program calls it before it carries out an action."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any

import grpc

from stepup.client import environment, rpcs
from stepup.client.answers import (
    Allowed,
    Answer,
    Answers,
    Approved,
    Verification,
    answer_of,
    verification_of,
)
from stepup.client.asynchronous.action import AsyncAction
from stepup.client.asynchronous.approvals import AsyncApprovals
from stepup.client.asynchronous.io import no_truth_value
from stepup.client.asynchronous.namespaces import (
    AsyncAuditMethods,
    AsyncChallengesMethods,
    AsyncEnrollmentMethods,
    AsyncPeopleMethods,
    AsyncPolicyMethods,
    AsyncPortalMethods,
)
from stepup.client.asynchronous.transport import AsyncRpcTransport
from stepup.client.channels import Endpoint, Options
from stepup.client.credentials import CallerCredentials
from stepup.client.errors import AnswerError, NotAllowedError
from stepup.client.requests import Metadata, new_request_id, presenting, request_id_of_check
from stepup.v1.actor_pb2 import ActorContext
from stepup.v1.challenge_service_pb2 import Challenge, NewChallengeItem
from stepup.v1.step_up_service_pb2 import (
    REVOCATION_SCOPE_SESSION,
    REVOCATION_SCOPE_USER,
    BatchCheckStepUpRequest,
    CheckStepUpRequest,
    ExplainStepUpRequest,
    ExplainStepUpResponse,
    OperationCheck,
    RevokeElevationsRequest,
    VerifyOtpRequest,
)

if TYPE_CHECKING:
    from typing_extensions import Self


class AsyncStepUpClient:
    """A client of the service. It opens its connection with the first call, and may be shared.

        async with AsyncStepUpClient("stepup:50051", credentials) as stepup:
            await stepup.require(actor, "response.run_osquery", target="host-7")
            ...  # run the action

    An action may run only after an answer that is `Allowed`. Every method that takes an `actor`
    acts for that person in that session; the program vouches for each field. If the service does
    not answer, for any reason, the call raises a `StepUpError`.

    Args:
        target: host and port, such as `stepup.prod:50051`, or `unix:/path`.
        credentials: how this program proves which caller it is; or channel credentials of grpc,
            which are never read again. None only for a server on this machine, or with `insecure`.
        insecure: send everything in plain text to another machine, for trials on a network that you
            trust: everybody on that network can read codes, and answer that actions are allowed.
        timeout: seconds for each call that names no other time, including all resends.
        wait_for_ready: whether calls wait for a connection until their deadline. Otherwise they
            fail with `UnavailableError` as soon as the server cannot be reached.
        options: further channel arguments of grpc; they win over those of the client.

    Every method takes `timeout`, in seconds, and `metadata`, such as
    `[("stepup-portal-session", session_id)]`.

    Attributes:
        challenges: methods of ChallengeService, for programs that show challenges to people.
        enrollment: methods of EnrollmentService: the wizard, reset codes, the account's MFA.
        people: methods of PeopleService.
        policy: methods of PolicyService.
        portal: methods of PortalService.
        audit: methods of AuditService.

    Raises:
        ValueError: the target needs credentials, or an argument is not a value.
    """

    def __init__(
        self,
        target: str,
        credentials: CallerCredentials | grpc.ChannelCredentials | None = None,
        *,
        insecure: bool = False,
        timeout: float = 5.0,
        wait_for_ready: bool = False,
        options: Options = (),
    ) -> None:
        endpoint = Endpoint(target, credentials, insecure=insecure, options=options)
        transport = AsyncRpcTransport(endpoint, timeout=timeout, wait_for_ready=wait_for_ready)
        self._transport = transport
        self._approvals = AsyncApprovals(transport, endpoint)
        self.challenges = AsyncChallengesMethods(transport)
        self.enrollment = AsyncEnrollmentMethods(transport)
        self.people = AsyncPeopleMethods(transport)
        self.policy = AsyncPolicyMethods(transport)
        self.portal = AsyncPortalMethods(transport)
        self.audit = AsyncAuditMethods(transport)

    @classmethod
    def from_env(cls, variables: Mapping[str, str] = os.environ, **changes: Any) -> Self:
        """Make a client from `STEPUP_CLIENT_*` variables. See `stepup.client.environment`.

        Args:
            variables: the environment.
            changes: arguments of the client that win over the variables.

        Raises:
            ValueError: a variable is missing or is not a value; the message names it.
        """
        return cls(**{**environment.arguments(variables), **changes})

    async def __aenter__(self) -> Self:
        """Return the client, which is closed at the end of the block."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections."""
        await self._approvals.close()
        await self._transport.close()

    @no_truth_value
    async def check(
        self,
        actor: ActorContext,
        operation: str,
        *,
        target: str = "",
        challenge_id: str = "",
        receipt: str = "",
        timeout: float | None = None,
        metadata: Metadata = (),
    ) -> Answer:
        """Ask whether an action may run. The answer has no truth value: ask for its class.

        Args:
            actor: the person who wants the action, in the present session.
            operation: the catalogue id of the action, such as `response.run_osquery`.
            target: the object of the action, or a digest of its parameters: at most 256 bytes.
            challenge_id: the challenge that the person approved for this action. See `approve`.
            receipt: the receipt of the answer that allowed the action at first, if this is the
                retry of an action that timed out. See `action`.

        Raises:
            StepUpError: there is no answer, and the action must not run.
        """
        presented = presenting(actor, receipt, challenge_id)
        request = CheckStepUpRequest(
            actor=presented,
            operation=operation,
            target=target,
            request_id=request_id_of_check(presented),
        )
        return answer_of(
            await self._transport.unary(rpcs.CHECK_STEP_UP, request, timeout, metadata)
        )

    @no_truth_value
    async def require(
        self,
        actor: ActorContext,
        operation: str,
        *,
        target: str = "",
        challenge_id: str = "",
        receipt: str = "",
        timeout: float | None = None,
        metadata: Metadata = (),
    ) -> Allowed:
        """Return the answer of `check` if the action may run; else raise an error.

        Raises:
            NotAllowedError: the person must do something first: see its `answer`.
            StepUpError: there is no answer, and the action must not run.
        """
        answer = await self.check(
            actor,
            operation,
            target=target,
            challenge_id=challenge_id,
            receipt=receipt,
            timeout=timeout,
            metadata=metadata,
        )
        return _demand_allowed(answer)

    @no_truth_value
    async def check_many(
        self,
        actor: ActorContext,
        checks: Iterable[OperationCheck],
        *,
        challenge_id: str = "",
        timeout: float | None = None,
        metadata: Metadata = (),
    ) -> Answers:
        """Ask for up to 100 actions of one person at once.

        Args:
            checks: the actions, each with the receipt of its own earlier answer, if this is a retry
                of actions that timed out.

        Returns:
            The answers, in the order of the checks.

        Raises:
            StepUpError: there is no answer, and none of the actions must run.
        """
        request = BatchCheckStepUpRequest(
            actor=presenting(actor, "", challenge_id),
            checks=checks,
            request_id=new_request_id(),
        )
        response = await self._transport.unary(rpcs.BATCH_CHECK_STEP_UP, request, timeout, metadata)
        if len(response.decisions) != len(request.checks):
            raise AnswerError(
                f"the server answered {len(response.decisions)} of {len(request.checks)} checks"
            )
        return Answers(map(answer_of, response.decisions))

    @no_truth_value
    async def verify(
        self,
        actor: ActorContext | None,
        code: str,
        *,
        timeout: float | None = None,
        metadata: Metadata = (),
    ) -> Verification:
        """Check the code that the person typed; a right code elevates the session for 15 minutes.

        The client resends a code whose answer was lost, which does not count as another attempt.

        Args:
            actor: the person. None only within a portal session, which the metadata names.
            code: six digits. White space, which people type or paste, does not count.

        Raises:
            StepUpError: there is no answer. The code may be used up: ask for the next one.
        """
        request = VerifyOtpRequest(
            actor=actor, code="".join(code.split()), request_id=new_request_id()
        )
        response = await self._transport.resent(rpcs.VERIFY_OTP, request, timeout, metadata)
        return verification_of(response)

    def action(
        self,
        actor: ActorContext,
        operation: str,
        *,
        target: str = "",
        challenge_id: str = "",
        receipt: str = "",
        timed_out: tuple[type[BaseException], ...] = (),
        timeout: float | None = None,
        metadata: Metadata = (),
    ) -> AsyncAction:
        """Return the action as a block that runs only if it is allowed, and again if it timed out.

            action = stepup.action(actor, "response.run_osquery", target="host-7")
            async with action:
                ...  # run the action

        See `AsyncAction`.

        Args:
            receipt: the receipt that an earlier process kept of this action, which timed out.
            timed_out: further errors of the block that mean that the action timed out, beside
                TimeoutError.
        """
        request = CheckStepUpRequest(
            actor=presenting(actor, "", challenge_id), operation=operation, target=target
        )

        async def check(request: CheckStepUpRequest) -> Allowed:
            return _demand_allowed(
                answer_of(
                    await self._transport.unary(rpcs.CHECK_STEP_UP, request, timeout, metadata)
                )
            )

        return AsyncAction(check, request, receipt or actor.retry_receipt, timed_out)

    @no_truth_value
    async def approve(
        self,
        actor: ActorContext,
        items: Iterable[NewChallengeItem],
        message: str,
        *,
        show: Callable[[Challenge], Any] | None = None,
        challenge_id: str = "",
        expires_in: timedelta | None = None,
        valid_for: timedelta | None = None,
        timeout: float | None = None,
        metadata: Metadata = (),
    ) -> Approved:
        """Ask the person to approve actions by name, and wait for the approval.

        Then check each item with the `challenge_id` of the approval, in the same session. Waits
        have connections of their own, and continue after a server was replaced.

        Args:
            actor: the person to ask, in the session in which the actions will run.
            items: 1 to 100 actions: operation, target, and a label for people.
            message: says to the person what they approve: 1 to 500 characters.
            show: called once, when the person can answer: shows its `message` and `items`, or the
                address of its page (`portal_url`), to the person. The function may be asynchronous.
            challenge_id: an earlier challenge for the same actions: the client waits for it, or
                returns its approval, instead of asking again. An ended challenge is replaced.
            expires_in: how long the person has to answer: 10 minutes if None, which is the most.
            valid_for: how long the approval lasts: 15 minutes if None, 60 at most.
            timeout: seconds to wait; until the challenge ends if None.

        Raises:
            NotApprovedError: the person declined, or the challenge ended.
            StepUpError: there is no challenge.
        """
        return await self._approvals.approve(
            actor,
            items,
            message,
            show=show,
            challenge_id=challenge_id,
            expires_in=expires_in,
            valid_for=valid_for,
            timeout=timeout,
            metadata=metadata,
        )

    async def sign_out(
        self,
        actor: ActorContext,
        *,
        timeout: float | None = None,
        metadata: Metadata = (),
    ) -> None:
        """End the elevation of the actor's session, at its sign-out.

        Raises:
            StepUpError: the elevation may still be in force.
        """
        request = RevokeElevationsRequest(actor=actor, scope=REVOCATION_SCOPE_SESSION)
        await self._transport.unary(rpcs.REVOKE_ELEVATIONS, request, timeout, metadata)

    async def revoke_elevations(
        self,
        actor: ActorContext | None = None,
        *,
        user_id: str = "",
        timeout: float | None = None,
        metadata: Metadata = (),
    ) -> None:
        """End every elevation of a user, and void the user's receipts and challenges.

        Args:
            actor: the user, or an operator.
            user_id: the user, if the actor is an operator.

        Raises:
            StepUpError: elevations may still be in force.
        """
        request = RevokeElevationsRequest(actor=actor, scope=REVOCATION_SCOPE_USER, user_id=user_id)
        await self._transport.unary(rpcs.REVOKE_ELEVATIONS, request, timeout, metadata)

    async def explain(
        self,
        actor: ActorContext,
        subject: ActorContext,
        operation: str,
        *,
        target: str = "",
        timeout: float | None = None,
        metadata: Metadata = (),
    ) -> ExplainStepUpResponse:
        """Explain how a check would be answered now. The explanation never allows an action.

        Args:
            actor: the subject itself, a Master Administrator, or an operator.
            subject: the person of the check.

        Raises:
            StepUpError: there is no explanation.
        """
        request = ExplainStepUpRequest(
            actor=actor, subject=subject, operation=operation, target=target
        )
        return await self._transport.unary(rpcs.EXPLAIN_STEP_UP, request, timeout, metadata)


def _demand_allowed(answer: Answer) -> Allowed:
    if not isinstance(answer, Allowed):
        raise NotAllowedError(answer)
    return answer
