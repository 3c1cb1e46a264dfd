"""The values of a policy that the panel shows and changes."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from stepup.v1 import policy_service_pb2 as pb

EVERY_TIME: Final = 0
"""The age of a code for an operation that needs a code for each action."""
SHORTEST: Final = 30
"""The shortest age of a code that a policy may newly have, in seconds."""
LONGEST: Final = 900
"""The age of a code without a limit of the operation's own, in seconds."""


@dataclass(frozen=True, slots=True)
class PolicyValues:
    """What a Master Administrator sets.

    Args:
        ages: how old a code may be, in seconds, by the id of each selected operation: `EVERY_TIME`,
            or up to `LONGEST`.
        issuer: empty means that of the deployment.
        enroll_by: UTC; None means no time to enrol.
    """

    enabled: bool = False
    ages: Mapping[str, int] = field(default_factory=dict)
    issuer: str = ""
    enroll_by: datetime | None = None


def values_of(policy: pb.Policy) -> PolicyValues:
    """Return the values of a policy."""
    return PolicyValues(
        policy.enabled,
        {each.operation: _age_of(each) for each in policy.operations},
        policy.issuer,
        policy.enroll_by.ToDatetime(UTC) if policy.HasField("enroll_by") else None,
    )


def fields_that_differ(saved: PolicyValues, wanted: PolicyValues) -> list[str]:
    """Return the paths of the update mask: a field that stays is not sent."""
    different = {
        "enabled": saved.enabled != wanted.enabled,
        "operations": saved.ages != wanted.ages,
        "issuer": saved.issuer != wanted.issuer,
        "enroll_by": saved.enroll_by != wanted.enroll_by,
    }
    return [path for path, differs in different.items() if differs]


def policy_of(values: PolicyValues, etag: str) -> pb.Policy:
    """Return the message of an update.

    Args:
        values: the values after the update.
        etag: the version that the values are based on.
    """
    return pb.Policy(
        enabled=values.enabled,
        operations=[_selected(each, age) for each, age in sorted(values.ages.items())],
        etag=etag,
        issuer=values.issuer,
        enroll_by=_timestamp(values.enroll_by) if values.enroll_by else None,
    )


def _age_of(selected: pb.SelectedOperation) -> int:
    if selected.every_time:
        return EVERY_TIME
    return selected.max_age.seconds if selected.HasField("max_age") else LONGEST


def _selected(operation: str, age: int) -> pb.SelectedOperation:
    if age == EVERY_TIME:
        return pb.SelectedOperation(operation=operation, every_time=True)
    max_age = Duration(seconds=age) if age != LONGEST else None
    return pb.SelectedOperation(operation=operation, max_age=max_age)


def _timestamp(instant: datetime) -> Timestamp:
    timestamp = Timestamp()
    timestamp.FromDatetime(instant)
    return timestamp
