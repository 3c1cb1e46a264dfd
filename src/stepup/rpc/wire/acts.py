"""Converts the fields of acts on users, whose rules depend on who acts. See `decode`."""

from stepup.domain.actor import Actor, Deprovisioning, Operator, Outsider, UserId
from stepup.domain.errors import InvalidFieldError
from stepup.domain.text import StatedReason
from stepup.rpc.wire import decode


def reason(actor: Actor | Outsider, text: str) -> StatedReason | None:
    """The reason of an act; None if the request has none.

    Raises:
        InvalidFieldError: the reason is not valid; a person gives none; or an operator, whose
            reason is in the actor, gives one.
    """
    if isinstance(actor, Operator):
        if text:
            problem = "must be absent: the reason of an operator is actor.operator.reason"
            raise InvalidFieldError("reason", problem)
        return None
    if isinstance(actor, Deprovisioning) and not text:
        return None
    return decode.parse("reason", StatedReason, text)


def user_of(actor: Actor | Operator, user_id: str) -> UserId:
    """The user of an act that a person does for themselves, and an operator for anyone.

    Raises:
        InvalidFieldError: an operator names no user, or a person names one.
    """
    if isinstance(actor, Operator):
        return decode.parse_id("user_id", UserId, user_id)
    if user_id:
        raise InvalidFieldError("user_id", "must be absent: the user is the actor")
    return actor.user_id
