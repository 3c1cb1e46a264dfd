"""Converts challenges from and to messages."""

from datetime import timedelta
from functools import partial
from typing import Final
from uuid import UUID

from google.protobuf.duration_pb2 import Duration

from stepup.domain.challenge import (
    LONGEST_OPEN,
    LONGEST_VALID,
    MAX_ITEMS,
    VALID_FOR,
    ChallengeState,
    Item,
    ItemLabel,
    ItemTarget,
    Message,
    checked_duration,
)
from stepup.domain.errors import InvalidFieldError
from stepup.domain.operations import SIGN_IN, Catalogue
from stepup.domain.origins import WebOrigin
from stepup.rpc.wire import decode, encode
from stepup.service.challenges.answer import Answered
from stepup.service.challenges.create import NewChallenge, NewItem
from stepup.service.challenges.read import View
from stepup.v1 import challenge_service_pb2 as pb

STATES: Final = {
    state: pb.ChallengeState.Value(f"CHALLENGE_STATE_{state.name}")
    for state in ChallengeState
    if state is not ChallengeState.REVOKED
} | {ChallengeState.REVOKED: pb.CHALLENGE_STATE_CANCELLED}
"""A revoked challenge reads CANCELLED. Only a check reports REVOKED."""


def new_challenge(catalogue: Catalogue, request: pb.CreateChallengeRequest) -> NewChallenge:
    """Decode a request for a new challenge.

    Raises:
        UnknownOperationError: an operation is not in the catalogue.
        InvalidFieldError: a field is missing, out of range or repeated.
    """
    if not 1 <= len(request.items) <= MAX_ITEMS:
        raise InvalidFieldError("items", f"must be 1 to {MAX_ITEMS}")
    return NewChallenge(
        items=_items(catalogue, request),
        message=decode.parse("message", Message, request.message),
        expires_in=_duration(
            "expires_in",
            request.expires_in if request.HasField("expires_in") else None,
            default=LONGEST_OPEN,
            longest=LONGEST_OPEN,
        ),
        valid_for=_duration(
            "valid_for",
            request.valid_for if request.HasField("valid_for") else None,
            default=VALID_FOR,
            longest=LONGEST_VALID,
        ),
        request_id=decode.uuid("request_id", request.request_id),
    )


def _items(catalogue: Catalogue, request: pb.CreateChallengeRequest) -> tuple[NewItem, ...]:
    places: dict[tuple[str, str], int] = {}
    items = []
    for place, message in enumerate(request.items):
        path = f"items[{place}]"
        operation = decode.check(catalogue, message.operation, "", f"{path}.").operation
        if operation.id == SIGN_IN:
            raise InvalidFieldError(f"{path}.operation", "is built in: no challenge approves it")
        item = NewItem(
            operation,
            decode.parse(f"{path}.target", ItemTarget, message.target),
            decode.parse(f"{path}.label", ItemLabel, message.label),
        )
        first = places.setdefault((operation.id, item.target), place)
        if first != place:
            raise InvalidFieldError(path, f"names the action of items[{first}] again")
        items.append(item)
    return tuple(items)


def _duration(
    field: str, message: Duration | None, *, default: timedelta, longest: timedelta
) -> timedelta:
    if message is None:
        return default
    return decode.parse(field, partial(checked_duration, longest=longest), decode.duration(message))


def challenge_id(request_id: str) -> UUID:
    """The id of the challenge that a request names.

    Raises:
        InvalidFieldError: the id is missing, or not a UUID.
    """
    found = decode.uuid("challenge_id", request_id)
    if found is None:
        raise InvalidFieldError("challenge_id", "is required")
    return found


def challenge(catalogue: Catalogue, view: View, portal_url: WebOrigin | None) -> pb.Challenge:
    """Encode a challenge as the caller of a call sees it.

    The page at `portal_url` opens nothing: the person has to sign in at a backend (S20).
    """
    shown = view.challenge
    return pb.Challenge(
        challenge_id=str(shown.challenge_id),
        state=STATES[view.state],
        items=[_item(catalogue, item) for item in shown.items],
        requested_by=shown.requested_by,
        same_session=view.same_session,
        message=shown.message,
        create_time=encode.timestamp(shown.created_at),
        expires_at=encode.timestamp(shown.expires_at),
        answered_at=encode.timestamp(shown.answered_at) if shown.answered_at else None,
        usable_until=encode.timestamp(shown.approval.usable_until) if shown.approval else None,
        portal_url=f"{portal_url}/challenges/{shown.challenge_id}" if portal_url else "",
    )


def answered(answer: Answered, challenge: pb.Challenge) -> pb.AnswerChallengeResponse:
    """Encode the outcome of an attempt with a code, and its challenge."""
    verification = answer.verification
    return pb.AnswerChallengeResponse(
        outcome=encode.OUTCOMES[verification.outcome],
        challenge=challenge,
        attempts_remaining=verification.attempts_remaining,
        retry_after=encode.duration(verification.retry_after),
        next_code_after=encode.duration(verification.next_code_after),
    )


def _item(catalogue: Catalogue, item: Item) -> pb.ChallengeItem:
    operation = catalogue.find(item.operation)
    return pb.ChallengeItem(
        operation=item.operation,
        # Another server, whose configuration has the operation, may have created the challenge.
        title=operation.title if operation else item.operation,
        target=item.target,
        label=item.label,
        needed=item.needed,
        used_at=encode.timestamp(item.used.redeemed_at) if item.used else None,
    )
