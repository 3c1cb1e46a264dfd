"""The policy of a business as the server has it, and how commands show it."""

from datetime import timedelta
from typing import Final

from stepup.cli import output
from stepup.cli.ctl.messages import fields_of
from stepup.cli.ctl.operating import Operating
from stepup.cli.policy_files import policy_of
from stepup.client.messages import policy as messages
from stepup.domain.actor import TenantId
from stepup.domain.policy import EVERY_TIME, Policy

NOT_SELECTED: Final = "not selected"
"""What an operation demands that the policy does not select, in words."""


def stored_policy(work: Operating) -> tuple[Policy, messages.GetPolicyResponse]:
    """Read the policy of the tenant: as the rules know it, and as the server sent it.

    Standard error says if the tenant never had one, since its id may be mistyped.

    Raises:
        StepUpError: there is no answer.
    """
    answer = work.client.policy.get(tenant_id=work.tenant)
    if not answer.policy.HasField("update_time"):
        output.write_problem(
            f"{work.tenant} never had a policy: make sure that it is the id of the business"
        )
    change = policy_of(fields_of(answer.policy)).change
    return change.applied_to(Policy(TenantId(answer.policy.tenant_id))), answer


def document_of(message: messages.Policy) -> dict[str, object]:
    """A policy as JSON, with all its fields: what `policy set` takes."""
    return {"enroll_by": None, "update_time": None} | fields_of(message)


def demand_shown(max_age: timedelta) -> str:
    """What an operation with this `max_age` demands, in words."""
    if max_age == EVERY_TIME:
        return "approval each time"
    minutes, seconds = divmod(int(max_age.total_seconds()), 60)
    parts = [f"{minutes} min" if minutes else "", f"{seconds} s" if seconds else ""]
    return f"code of the last {' '.join(filter(None, parts))}"
