"""The page *Enable MFA*: what it is, and the way into the wizard."""

from datetime import UTC, datetime
from typing import Final

from starlette.responses import Response

from stepup.client import StepUpError
from stepup.v1 import actor_pb2
from stepup.v1 import policy_service_pb2 as policy_pb
from stepup.web.forms import Form
from stepup.web.pages.wizard_progress import SAML
from stepup.web.rendering import leave, render
from stepup.web.routing import PageRoute
from stepup.web.visits import Visit


async def show(visit: Visit, _: Form) -> Response:
    """Show *Enable MFA*; or that the person has an authenticator already, and the way back."""
    standing = await visit.stepup.enrollment.get(metadata=visit.metadata)
    policy = await policy_of(visit)
    return render(
        visit,
        "enroll.html",
        standing=standing,
        is_enrolled=standing.HasField("active"),
        is_pending=standing.HasField("pending"),
        is_administrator=visit.session.role == actor_pb2.ROLE_MASTER_ADMINISTRATOR,
        is_saml=visit.session.account_type in SAML,
        policy=policy,
        grace_ends=policy.enroll_by if policy and _has_grace(policy) else None,
    )


async def policy_of(visit: Visit) -> policy_pb.Policy | None:
    """The policy of the business; None where the backend may not read it: the page does without."""
    try:
        answer = await visit.stepup.policy.get(tenant_id="", metadata=visit.metadata)
    except StepUpError as error:
        if error.reason == "CALLER_NOT_PERMITTED":
            return None
        raise
    return answer.policy


def _has_grace(policy: policy_pb.Policy) -> bool:
    return (
        policy.enabled
        and policy.HasField("enroll_by")
        and policy.enroll_by.ToDatetime(UTC) > datetime.now(UTC)
    )


ROUTES: Final = (PageRoute("", show), PageRoute("leave", leave, method="POST"))
