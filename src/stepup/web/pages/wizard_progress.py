"""The progress of a person in the wizard, as the core reports it, and the step that shows it."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Final

from starlette.responses import Response

from stepup.client import StepUpError
from stepup.v1 import actor_pb2
from stepup.v1 import enrollment_service_pb2 as pb
from stepup.v1 import portal_service_pb2 as portal_pb
from stepup.web.rendering import to
from stepup.web.texts import N_
from stepup.web.visits import Visit

_LIFETIME: Final = timedelta(minutes=10)
"""How long the core keeps a wizard, and for how long its completion may be repeated."""
WHY: Final[Mapping[str, str]] = {
    "ended": N_(
        "Your setup has ended: it lasts 10 minutes, and takes at most 5 wrong codes. Nothing has"
        " changed. You can begin again."
    ),
    "changed": N_(
        "This setup cannot be finished, because your authenticator has changed meanwhile: you set"
        " up another one elsewhere, or an administrator reset it. If that was not you, tell your"
        " administrator."
    ),
}
"""Why a person is back at the first step, by `why` of the address."""

SAML: Final = frozenset({actor_pb2.ACCOUNT_TYPE_SAML, actor_pb2.ACCOUNT_TYPE_SAML_GROUP})
"""The accounts that give no code at sign-in."""


async def progress_of(visit: Visit) -> pb.GetEnrollmentResponse:
    """How far the person has come."""
    return await visit.stepup.enrollment.get(metadata=visit.metadata)


def path_of(state: pb.EnrollmentState.ValueType) -> str:
    """The path of the step that comes next."""
    return "wizard/scan" if state == pb.ENROLLMENT_STATE_PENDING else "wizard/reset-code"


def present(visit: Visit, standing: pb.GetEnrollmentResponse) -> Response:
    """Lead to the step that the person has reached."""
    if standing.HasField("pending"):
        return to(visit, path_of(standing.pending.state))
    if standing.HasField("active"):
        active_for = datetime.now(UTC) - standing.active.activated_at.ToDatetime(UTC)
        if active_for < _LIFETIME or visit.session.page == portal_pb.PORTAL_PAGE_CHALLENGE:
            return to(visit, "wizard/done")
    return to(visit, "wizard", why="ended")


async def elsewhere(visit: Visit, error: StepUpError) -> Response:
    """Lead to where a refused step has its explanation, or raise the error if no page has it."""
    fault = error.details.get("fault", "") if error.reason == "ENROLLMENT_STATE" else ""
    if fault == "OTHER_AUTHENTICATOR":
        await visit.stepup.enrollment.cancel(metadata=visit.metadata)
        return to(visit, "wizard", why="changed")
    # The page of a challenge is refused the wizard as soon as there is an authenticator.
    is_closed = visit.session.page == portal_pb.PORTAL_PAGE_CHALLENGE
    if fault or (is_closed and error.reason == "CALLER_NOT_PERMITTED"):
        standing = await progress_of(visit)
        if fault or standing.HasField("active"):
            return present(visit, standing)
    raise error
