"""Converts the changes of policies from messages."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Literal

from stepup.domain.elevation import LIFETIME
from stepup.domain.errors import InvalidFieldError, InvalidValueError
from stepup.domain.operations import Catalogue, OperationId
from stepup.domain.policy import (
    EVERY_TIME,
    MAX_AGE_PROBLEM,
    MAX_SELECTED,
    PolicyChange,
    checked_max_age,
)
from stepup.domain.totp import Label
from stepup.rpc.wire import decode
from stepup.v1 import policy_service_pb2


def policy_change(
    catalogue: Catalogue, request: policy_service_pb2.UpdatePolicyRequest
) -> PolicyChange:
    """The change of a policy, of the fields that the update mask names.

    Raises:
        UnknownOperationError: an operation is not in the catalogue.
        InvalidFieldError: a field is missing, unknown, repeated, or out of range.
    """
    decode.required(request, "policy")
    if not request.policy.etag:
        raise InvalidFieldError("policy.etag", "is required")
    paths = set(request.update_mask.paths)
    if not paths:
        raise InvalidFieldError("update_mask", "is required")
    if unknown := sorted(paths - {"enabled", "operations", "issuer", "enroll_by"}):
        raise InvalidFieldError("update_mask", f"has the unknown path {unknown[0][:64]!r}")
    return PolicyChange(
        etag=request.policy.etag,
        enabled=request.policy.enabled if "enabled" in paths else None,
        max_ages=(
            _max_ages(catalogue, request.policy.operations) if "operations" in paths else None
        ),
        issuer=_issuer(request.policy.issuer) if "issuer" in paths else None,
        enroll_by=_enroll_by(request.policy) if "enroll_by" in paths else None,
    )


def _issuer(value: str) -> Label | Literal[""]:
    return decode.parse("policy.issuer", Label, value) if value else ""


def _enroll_by(policy: policy_service_pb2.Policy) -> datetime | Literal[""]:
    if not policy.HasField("enroll_by"):
        return ""
    return decode.instant("policy.enroll_by", policy.enroll_by)


def _max_ages(
    catalogue: Catalogue, selected: Iterable[policy_service_pb2.SelectedOperation]
) -> dict[OperationId, timedelta]:
    max_ages: dict[OperationId, timedelta] = {}
    for index, item in enumerate(selected):
        path = f"policy.operations[{index}]"
        if index >= MAX_SELECTED:
            raise InvalidFieldError("policy.operations", f"must be at most {MAX_SELECTED}")
        operation = decode.check(catalogue, item.operation, "", f"{path}.").operation
        if not catalogue.is_selectable(operation.id):
            raise InvalidFieldError(f"{path}.operation", "is built in and cannot be selected")
        if operation.id in max_ages:
            raise InvalidFieldError(f"{path}.operation", "is selected twice")
        max_ages[operation.id] = _max_age(f"{path}.max_age", item)
    return max_ages


def _max_age(field: str, item: policy_service_pb2.SelectedOperation) -> timedelta:
    if not item.HasField("max_age"):
        return EVERY_TIME if item.every_time else LIFETIME
    if item.every_time:
        raise InvalidFieldError(field, "must be absent with every_time")
    try:
        return checked_max_age(decode.duration(item.max_age))
    except InvalidValueError as error:
        raise InvalidFieldError(field, MAX_AGE_PROBLEM) from error
