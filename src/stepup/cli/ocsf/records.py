"""What all OCSF records of stepup share: classes, activities, metadata."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import IntEnum
from typing import Final

from stepup.domain.audit import Json, written
from stepup.domain.instants import EPOCH
from stepup.system import distribution

VERSION: Final = "1.8.0"
PRODUCT: Final = "stepup"
OTHER: Final = 99
_MILLISECOND: Final = timedelta(milliseconds=1)


class OcsfStatus(IntEnum):
    """Whether the activity succeeded."""

    SUCCESS = 1
    FAILURE = 2


class OcsfSeverity(IntEnum):
    """How much attention a record needs."""

    INFORMATIONAL = 1
    LOW = 2
    MEDIUM = 3
    HIGH = 4


@dataclass(frozen=True, slots=True)
class OcsfClass:
    """A class of OCSF, in its category."""

    uid: int
    name: str
    category_uid: int
    category_name: str


@dataclass(frozen=True, slots=True)
class OcsfActivity:
    """The class, activity and status of a record."""

    of: OcsfClass
    id: int
    name: str
    message: str
    status: OcsfStatus = OcsfStatus.SUCCESS


_IAM = (3, "Identity & Access Management")
AUTHENTICATION: Final = OcsfClass(3002, "Authentication", *_IAM)
ACCOUNT_CHANGE: Final = OcsfClass(3001, "Account Change", *_IAM)
API_ACTIVITY: Final = OcsfClass(6003, "API Activity", 6, "Application Activity")

TOTP_FACTOR: Final[Mapping[str, Json]] = {
    "factor_type_id": 7,
    "factor_type": "OTP",
    "is_totp": True,
}
RESET_CODE_FACTOR: Final[Mapping[str, Json]] = {
    "factor_type_id": OTHER,
    "factor_type": "Reset code",
}


def classification(activity: OcsfActivity, severity: OcsfSeverity) -> dict[str, Json]:
    """The attributes that classify a record."""
    of = activity.of
    return {
        "category_uid": of.category_uid,
        "category_name": of.category_name,
        "class_uid": of.uid,
        "class_name": of.name,
        "activity_id": activity.id,
        "activity_name": activity.name,
        "type_uid": of.uid * 100 + activity.id,
        "type_name": f"{of.name}: {activity.name if activity.id != OTHER else 'Other'}",
        "severity_id": severity.value,
        "severity": severity.name.capitalize(),
        "status_id": activity.status.value,
        "status": activity.status.name.capitalize(),
        "message": activity.message,
    }


def metadata_of(
    log: str, *, uid: Json, tenant_id: Json, code: Json, at: datetime, request_id: Json
) -> dict[str, Json]:
    """The metadata of a record.

    Args:
        log: the record that stepup keeps: `audit` or `decisions`.
        uid: the id of the event or of the decision.
        tenant_id: the business.
        code: the kind of the event or of the decision.
        at: when the call was received.
        request_id: the call; None if no call caused the event.
    """
    found: dict[str, Json] = {
        "version": VERSION,
        "product": {"name": PRODUCT, "vendor_name": PRODUCT, "version": distribution.version()},
        "log_name": log,
        "uid": uid,
        "tenant_uid": tenant_id,
        "event_code": code,
        "original_time": written(at),
    }
    if request_id is not None:
        found["correlation_uid"] = request_id
    return found


def milliseconds(at: datetime) -> int:
    """The instant as OCSF writes it: milliseconds since 1970."""
    return (at - EPOCH) // _MILLISECOND
