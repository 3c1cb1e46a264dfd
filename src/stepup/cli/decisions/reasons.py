"""Why a recorded decision was made, in sentences for people."""

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from stepup.cli.decisions.events import RecordedEvent
from stepup.cli.times import shown
from stepup.domain.decision import Reason
from stepup.domain.elevation import LIFETIME
from stepup.domain.explained_rules import CHALLENGE_REJECTIONS, MATCHES
from stepup.domain.item_use import ChallengeRejection
from stepup.domain.not_elevated import NotElevatedDetail
from stepup.domain.operations import SIGN_IN
from stepup.domain.receipts import ReceiptRejection

_MINUTES: Final = LIFETIME // timedelta(minutes=1)
_RECEIPTS: Final = {
    ReceiptRejection.NOT_AUTHENTIC: "This service did not issue the receipt.",
    ReceiptRejection.EXPIRED: "The retry window of the receipt has ended.",
    ReceiptRejection.OTHER_CALLER: "The receipt belongs to another caller.",
    ReceiptRejection.OTHER_ACTOR: "The receipt belongs to another person or session.",
    ReceiptRejection.OTHER_OPERATION: "The receipt belongs to another operation.",
    ReceiptRejection.OTHER_TARGET: "The receipt belongs to another target.",
    ReceiptRejection.ALREADY_USED: "The receipt has allowed a retry before.",
    ReceiptRejection.REVOKED: "A revocation or the end of the authenticator voided the receipt.",
    ReceiptRejection.EXEMPTION_NOT_CLAIMED: (
        "An exemption earned the receipt, and the caller did not claim the exemption again."
    ),
}


def sentences_of(
    row: Mapping[str, Any], elevated_at: datetime | None, policy: RecordedEvent | None
) -> Iterator[str]:
    """Explain a decision of the log.

    Args:
        row: the decision, with all columns.
        elevated_at: when the person gave the last code in the session before the decision, as far
            as the files show; None if they show none.
        policy: the event that set the policy of the decision; None if it is not at hand.
    """
    yield from _rejections(row)
    yield _reason(row)
    if row["reason"] == Reason.NOT_ELEVATED:
        yield _end_of_elevation(row["detail"], elevated_at)
    elif row["reason"] == Reason.ELEVATION_TOO_OLD and elevated_at is not None:
        yield f"The code of this session was given at {shown(elevated_at)}."
    if policy is not None:
        demand = _demand(policy.details["after"], row["operation"])
        yield f"The policy was set at {shown(policy.occurred_at)} by {policy.actor}: {demand}."


def _reason(row: Mapping[str, Any]) -> str:
    match row["reason"]:
        case Reason.MFA_NOT_ENABLED if row["operation"] == SIGN_IN:
            return "The policy is not enabled, and MFA is off for the person's own account."
        case Reason.OPERATION_NOT_SELECTED:
            return f"The policy does not select {row['operation']}."
        case Reason.ELEVATED:
            return f"The person gave a code in this session at {_instant(row['elevated_at'])}."
        case Reason.CHALLENGE_APPROVED:
            return (
                f"The person approved this action at {_instant(row['approved_at'])} by the"
                f" challenge {row['challenge_id']}."
            )
        case Reason.EXEMPT_TIMED_OUT_RETRY:
            return (
                f"The action is a retry of the decision {row['retry_of']}: its receipt was valid."
                f" The action was first allowed at {_instant(row['first_authorised_at'])}."
            )
        case Reason.ENROLLMENT_GRACE:
            return (
                "The person never had an authenticator in this tenant, and had time to enrol until"
                f" {_instant(row['enroll_by'])}."
            )
        case reason if reason in MATCHES:
            return MATCHES[Reason(reason)]
        case reason:
            return f"The rule is {reason}, which this version of stepup does not know."


def _end_of_elevation(detail: str | None, elevated_at: datetime | None) -> str:
    """Why the session was not elevated."""
    code = "a code" if elevated_at is None else f"the code of {shown(elevated_at)}"
    match detail:
        case NotElevatedDetail.NEVER:
            return f"The person gave no code in the {_MINUTES} minutes before, in any session."
        case NotElevatedDetail.OTHER_SESSION:
            return (
                f"The person gave a code in another session in the {_MINUTES} minutes before. It"
                " does not count for this session."
            )
        case NotElevatedDetail.EXPIRED if elevated_at is not None:
            return (
                f"The elevation by {code} ended at {shown(elevated_at + LIFETIME)}: it lasts"
                f" {_MINUTES} minutes, and its use does not lengthen it."
            )
        case NotElevatedDetail.EXPIRED:
            return (
                f"The elevation of this session had ended: it lasts {_MINUTES} minutes, and its use"
                " does not lengthen it."
            )
        case NotElevatedDetail.REVOKED:
            return (
                f"A sign-out, a revocation or the end of the authenticator ended the elevation by"
                f" {code}."
            )
        case _ if elevated_at is not None:
            return (
                f"The elevation by {code} did not exist any more. The log has no cause: Redis may"
                " have lost it."
            )
        case _:
            return "The logs have no code of this session."


def _rejections(row: Mapping[str, Any]) -> Iterator[str]:
    if rejection := row["receipt_rejection"]:
        yield f"The receipt did not count: {_known(ReceiptRejection, rejection, _RECEIPTS)}"
    if rejection := row["challenge_rejection"]:
        sentence = _known(ChallengeRejection, rejection, CHALLENGE_REJECTIONS)
        yield f"The challenge {row['challenge_id']} did not count: {sentence}"


def _known(kind: Any, value: str, sentences: Mapping[Any, str]) -> str:
    try:
        return sentences[kind(value)]
    except (ValueError, KeyError):
        return f"{value}."


def _demand(policy: Mapping[str, Any], operation: str) -> str:
    """What a policy, as an audit event has it, demands for an operation."""
    if not policy.get("enabled"):
        return "not enabled"
    if operation == SIGN_IN:
        return "enabled"
    operations = policy.get("operations")
    demanded = operations.get(operation) if isinstance(operations, dict) else None
    if demanded is None:
        return f"enabled, and {operation} is not selected"
    if demanded == "every_time":
        return f"an approval of each {operation}, by a challenge"
    return f"for {operation} a code of the last {demanded} seconds"


def _instant(value: datetime | None) -> str:
    return "an unknown time" if value is None else shown(value)
