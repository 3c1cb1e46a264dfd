"""What the rules of a caller permit for challenges, for the advice of `check-config`."""

from collections.abc import Collection
from typing import Final

from stepup.domain.callers import Caller, Rule
from stepup.domain.operations import SIGN_IN, OperationId

CREATE_CHALLENGE: Final = "ChallengeService/CreateChallenge"
ANSWER_CHALLENGE: Final = "ChallengeService/AnswerChallenge"
"""A caller that may use this method may read the challenges that other callers created."""
CHECK_STEP_UP: Final = "StepUpService/CheckStepUp"


def creates_and_answers(
    caller: Caller, operations: Collection[OperationId]
) -> tuple[Rule, Rule] | None:
    """Two rules by which a caller may create and answer challenges of the same tenant.

    Such a caller can use a code that a person typed for another purpose to approve its own actions.

    Args:
        caller: the caller.
        operations: the operations of the catalogue.

    Returns:
        The rule for `CreateChallenge` and the rule for `AnswerChallenge`; None without such a pair.
    """
    for creating in caller.rules:
        if CREATE_CHALLENGE in creating.methods and any(
            operation in creating.operations for operation in operations
        ):
            for answering in caller.rules:
                if ANSWER_CHALLENGE in answering.methods and (
                    creating.tenants.overlaps(answering.tenants)
                ):
                    return creating, answering
    return None


def unchallengeable(caller: Caller, operations: Collection[OperationId]) -> list[OperationId]:
    """The operations that a caller may check, but not create challenges for, in some tenant."""
    return [
        operation
        for operation in operations
        if operation != SIGN_IN and not _may_create_wherever_it_checks(caller, operation)
    ]


def _may_create_wherever_it_checks(caller: Caller, operation: OperationId) -> bool:
    creating = _granting(caller, CREATE_CHALLENGE, operation)
    return all(
        any(rule.tenants.covers(tenant) for rule in creating)
        for checking in _granting(caller, CHECK_STEP_UP, operation)
        for tenant in checking.tenants.entries
    )


def _granting(caller: Caller, method: str, operation: OperationId) -> list[Rule]:
    return [rule for rule in caller.rules if rule.mismatch(method, None, operation, None) is None]
