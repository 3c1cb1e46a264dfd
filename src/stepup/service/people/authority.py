"""The authority of acts on other users: a Master Administrator, an operator, or deprovisioning."""

from collections.abc import Mapping

from stepup.domain.actor import Operator, UserId
from stepup.domain.audit import Json
from stepup.domain.elevation import Elevation
from stepup.domain.errors import NotForOneselfError
from stepup.domain.person import EndedBy
from stepup.domain.text import StatedReason
from stepup.service.calls.context import AnyContext, Context
from stepup.service.step_up.elevated import Elevated


async def demand_authority(
    elevated: Elevated, context: AnyContext, user_id: UserId, purpose: str
) -> Elevation | None:
    """Demand that the actor may act on a user of the tenant (S16).

    The rules of the caller have granted an outsider's claim before, and the handler has read only
    the claims that its method accepts.

    Args:
        elevated: looks up the elevation of a person.
        context: the call.
        user_id: the user on whom the actor acts.
        purpose: the act, as the subject of the refusal: "unlocking a user".

    Returns:
        The elevation that permits the act of a person, for `demand_unrevoked` in the transaction of
        the act. None for an outsider, who needs no elevation.

    Raises:
        RoleRequiredError: the actor is a person and not a Master Administrator.
        NotForOneselfError: the user is the actor.
        ElevationRequiredError: the session of the actor is not elevated.
        StoreUnavailableError: the elevation cannot be known.
    """
    if not isinstance(context, Context):
        return None
    context.actor.require_master_administrator()
    if user_id == context.actor.user_id:
        raise NotForOneselfError(f"{purpose} is for other users only, not for oneself")
    return await elevated.require(context, purpose)


def authority_of(context: AnyContext) -> EndedBy:
    """The authority by which the actor acts on another user: it selects the kind of the event."""
    if isinstance(context, Context):
        return EndedBy.ADMINISTRATOR
    if isinstance(context.actor, Operator):
        return EndedBy.OPERATOR
    return EndedBy.DEPROVISIONING


def reason_details(reason: StatedReason | None) -> Mapping[str, Json]:
    """Return the details of an event that have the reason of a request, if it has one.

    The reason of an operator is in `operator` instead.
    """
    return {} if reason is None else {"reason": reason}
