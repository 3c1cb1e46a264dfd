"""What programs call before they carry out an action.

    from stepup.client import ActorContext, StepUpClient

    stepup = StepUpClient.from_env()
    actor = ActorContext(tenant_id="acme", user_id="bob", session_id="bob-monday")
    with stepup.action(actor, "response.run_osquery", target="host-7"):
        ...  # runs only if the action is allowed

`AsyncStepUpClient` is the same for asyncio. Everything else than an answer is raised
as a `StepUpError`.
The messages of the contract are in `stepup.client.messages`.
"""

from stepup.client.answers import (
    Allowed,
    Answer,
    Answers,
    Approved,
    EnrollmentRequired,
    NotVerified,
    StepUpRequired,
    Verification,
    Verified,
)
from stepup.client.asynchronous.action import AsyncAction
from stepup.client.asynchronous.client import AsyncStepUpClient
from stepup.client.channels import SERVICE_CONFIG
from stepup.client.credentials import CallerCredentials
from stepup.client.errors import (
    AnswerError,
    NotAllowedError,
    NotApprovedError,
    RequestError,
    StateError,
    StepUpError,
    UnavailableError,
    error_of,
)
from stepup.client.synchronous.action import Action
from stepup.client.synchronous.client import StepUpClient
from stepup.v1.actor_pb2 import ActorContext, PlaybookRun
from stepup.v1.challenge_service_pb2 import NewChallengeItem
from stepup.v1.step_up_service_pb2 import OperationCheck

__all__ = [
    "SERVICE_CONFIG",
    "Action",
    "ActorContext",
    "Allowed",
    "Answer",
    "AnswerError",
    "Answers",
    "Approved",
    "AsyncAction",
    "AsyncStepUpClient",
    "CallerCredentials",
    "EnrollmentRequired",
    "NewChallengeItem",
    "NotAllowedError",
    "NotApprovedError",
    "NotVerified",
    "OperationCheck",
    "PlaybookRun",
    "RequestError",
    "StateError",
    "StepUpClient",
    "StepUpError",
    "StepUpRequired",
    "UnavailableError",
    "Verification",
    "Verified",
    "error_of",
]
