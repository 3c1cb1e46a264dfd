"""A program that type checkers must accept, with the mistakes that they must report.

`make lint` checks it with `mypy --strict` and `pyright`; an ignored mistake that a checker does not
report is an error itself.
"""

from datetime import timedelta

from stepup.client import (
    ActorContext,
    Allowed,
    AsyncStepUpClient,
    CallerCredentials,
    EnrollmentRequired,
    NewChallengeItem,
    NotAllowedError,
    NotVerified,
    StepUpClient,
    StepUpError,
    StepUpRequired,
    Verified,
)

BOB = ActorContext(tenant_id="acme", user_id="bob", session_id="monday")
OPERATION = "response.run_osquery"


async def every_answer_has_a_case(stepup: AsyncStepUpClient) -> str:
    match await stepup.check(BOB, OPERATION, target="host-7"):
        case Allowed(receipt=receipt):
            return receipt
        case StepUpRequired(needs_challenge=True):
            items = [NewChallengeItem(operation=OPERATION, target="host-7", label="Mail server")]
            approved = await stepup.approve(BOB, items, "Look into incident 7")
            return approved.challenge_id
        case StepUpRequired(max_age=max_age):
            return str(max_age or timedelta())
        case EnrollmentRequired():
            begun = await stepup.enrollment.begin(BOB, account_name="bob@acme.example")
            return begun.otpauth_uri


def errors_have_types(stepup: StepUpClient) -> str:
    try:
        with stepup.action(BOB, OPERATION) as action:
            return action.allowed.decision_id
    except NotAllowedError as error:
        return error.answer.reason
    except StepUpError as error:
        return error.reason + str(error.retry_after or "")


def outcomes_have_types(stepup: StepUpClient, code: str) -> str:
    match stepup.verify(BOB, code):
        case Verified(expires_at=expires_at):
            return expires_at.isoformat()
        case NotVerified(outcome=outcome):
            return outcome


async def a_forgotten_await_is_reported(stepup: AsyncStepUpClient) -> None:
    stepup.require(BOB, OPERATION)  # type: ignore[unused-coroutine]  # pyright: ignore[reportUnusedCoroutine]


def wrong_arguments_are_reported(stepup: StepUpClient) -> None:
    stepup.check("bob", OPERATION)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    stepup.enrollment.confirm(BOB)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    stepup.challenges.get(challenge_id=7)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    _ = stepup.check(BOB, OPERATION).receipt  # type: ignore[union-attr]  # pyright: ignore[reportAttributeAccessIssue]


def credentials_take_files_and_functions() -> StepUpClient:
    credentials = CallerCredentials(
        certificate="tls.crt", private_key="tls.key", token=lambda: "made"
    )
    return StepUpClient("stepup.prod:50051", credentials)
