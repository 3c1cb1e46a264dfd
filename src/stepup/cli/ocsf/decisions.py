"""Lines of the decision log in the Open Cybersecurity Schema Framework.

A decision is an API Activity (6003): the caller asked for the person in `actor`, and
`actor.authorizations` has the decision and the policy that gave it. The log has no address of the
person's device.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Final

from stepup.cli.ocsf.records import (
    API_ACTIVITY,
    OTHER,
    PRODUCT,
    OcsfActivity,
    OcsfSeverity,
    OcsfStatus,
    classification,
    metadata_of,
    milliseconds,
)
from stepup.domain.audit import Json

_ALLOWED: Final = OcsfActivity(API_ACTIVITY, OTHER, "Check", "An action was allowed")
_ASKED: Final = OcsfActivity(
    API_ACTIVITY, OTHER, "Check", "An action needs a one-time code", OcsfStatus.FAILURE
)
_NOT_ENROLLED: Final = OcsfActivity(
    API_ACTIVITY, OTHER, "Check", "An action needs an authenticator", OcsfStatus.FAILURE
)
_ACTIVITIES: Final = {
    "allowed": _ALLOWED,
    "step_up_required": _ASKED,
    "enrollment_required": _NOT_ENROLLED,
}


def ocsf_decision(line: Mapping[str, Json]) -> dict[str, Json]:
    """Write a line of the decision log as an OCSF record.

    Args:
        line: the parsed line. The whole line is in `unmapped`.

    Raises:
        KeyError: the line lacks a key that every line has (docs/auditing.md), or has a decision
            that is not known.
        ValueError: `decided_at` is not an ISO 8601 time with its zone.
    """
    decided_at = datetime.fromisoformat(str(line["decided_at"]))
    if decided_at.tzinfo is None:
        raise ValueError(f"decided_at: {line['decided_at']} has no time zone")
    resources: list[Json] = [{"type": "operation", "uid": line["operation"]}]
    if line.get("target"):
        resources.append({"type": "target", "uid": line["target"]})
    return {
        **classification(_ACTIVITIES[str(line["decision"])], OcsfSeverity.INFORMATIONAL),
        "time": milliseconds(decided_at),
        "metadata": metadata_of(
            "decisions",
            uid=line["decision_id"],
            tenant_id=line["tenant_id"],
            code=line["decision"],
            at=decided_at,
            request_id=line.get("request_id"),
        ),
        "actor": {
            "user": {"uid": line["user_id"]},
            "session": {"uid": line["session"]},
            "app_name": line["caller"],
            "authorizations": [
                {
                    "decision": line["decision"],
                    "policy": {"name": line["reason"], "version": line["policy_etag"]},
                }
            ],
        },
        "src_endpoint": {"svc_name": line["caller"]},
        "api": {"operation": "CheckStepUp", "service": {"name": PRODUCT}},
        "resources": resources,
        "status_detail": line["reason"],
        "unmapped": {"decision": dict(line)},
    }
