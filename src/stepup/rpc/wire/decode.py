"""Converts messages to values of the domain, and checks them. No later code checks them again."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Final, NoReturn, TypeVar
from uuid import UUID

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError, Message
from google.protobuf.timestamp_pb2 import Timestamp

from stepup.domain import actor as domain
from stepup.domain.audit import EventKind
from stepup.domain.errors import InvalidFieldError, InvalidValueError, UnknownOperationError
from stepup.domain.operations import MAX_BATCH, Catalogue
from stepup.domain.receipts import MAX_TARGET_BYTES
from stepup.service.ports import EventQuery
from stepup.service.step_up.check import Check
from stepup.service.step_up.revocation import Scope
from stepup.v1 import audit_service_pb2, step_up_service_pb2

T = TypeVar("T")
V = TypeVar("V")
M = TypeVar("M", bound=Message)


_FOLDED = ("tenant_id", "user_id")
MAX_KINDS = 32
DEFAULT_PAGE: Final = 50
MAX_PAGE: Final = 100

_SCOPES = {
    step_up_service_pb2.REVOCATION_SCOPE_SESSION: Scope.SESSION,
    step_up_service_pb2.REVOCATION_SCOPE_USER: Scope.USER,
}
EVENT_KINDS: Mapping[audit_service_pb2.AuditEventKind.ValueType, EventKind] = {
    audit_service_pb2.AuditEventKind.Value(f"AUDIT_EVENT_KIND_{kind.name}"): kind
    for kind in EventKind
}


def decoded(kind: type[M], payload: bytes) -> M:
    """Parse a message.

    Raises:
        InvalidFieldError: the bytes are not a valid message of this kind.
    """
    try:
        return kind.FromString(payload)
    except DecodeError as error:
        problem = f"is not a valid {kind.DESCRIPTOR.full_name} message"
        raise InvalidFieldError("request", problem) from error


def fold_ids(message: Message) -> None:
    """Fold every tenant and user id of a message to ASCII lower case, at any depth.

    Session ids and targets stay unchanged, because every deployment compares them byte by byte.
    """
    for field, value in message.ListFields():
        if isinstance(value, Message):
            fold_ids(value)
        elif field.message_type is not None:
            for inner in value:
                fold_ids(inner)
        elif field.name.endswith(_FOLDED):
            setattr(message, field.name, domain.folded(value))


def parse(field: str, make: Callable[[V], T], value: V) -> T:
    """Make the value of a field.

    Raises:
        InvalidFieldError: the value is not valid; the error names the field.
    """
    try:
        return make(value)
    except InvalidValueError as error:
        raise InvalidFieldError(field, str(error)) from error


def parse_id(field: str, make: Callable[[str], T], value: str) -> T:
    """Make the id of a field.

    Ids of earlier versions may begin or end with a blank in the stores. So this function checks for
    blanks, and the id does not.

    Raises:
        InvalidFieldError: the text is not valid, or begins or ends with a blank.
    """
    if value != value.strip():
        raise InvalidFieldError(field, "must not begin or end with a blank")
    return parse(field, make, value)


def required(message: Message, field: str) -> None:
    """Check that a message field is present.

    Raises:
        InvalidFieldError: the field is absent.
    """
    if not message.HasField(field):
        raise InvalidFieldError(field, "is required")


def refuse_value(field: str, value: int) -> NoReturn:
    """Refuse the value of an enum.

    Raises:
        InvalidFieldError: always: the value is 0, which means absent, or unknown.
    """
    raise InvalidFieldError(
        field, "is required" if value == 0 else f"has the unknown value {value}"
    )


def check(
    catalogue: Catalogue, operation: str, target: str, path: str = "", *, retry_receipt: str = ""
) -> Check:
    """The check of an operation. `path` is the prefix of its fields in errors.

    Raises:
        UnknownOperationError: the operation is not in the catalogue.
        InvalidFieldError: the target or the receipt is too long, or the operation is missing.
    """
    found = catalogue.find(operation)
    if found is None:
        if not operation:
            raise InvalidFieldError(f"{path}operation", "is required")
        raise UnknownOperationError(f"{path}operation", "is not in the catalogue")
    if len(target.encode()) > MAX_TARGET_BYTES:
        raise InvalidFieldError(f"{path}target", f"must be at most {MAX_TARGET_BYTES} bytes")
    if not retry_receipt:
        return Check(found, target)
    return Check(found, target, parse(f"{path}retry_receipt", domain.RetryReceipt, retry_receipt))


def batch(
    catalogue: Catalogue, request: step_up_service_pb2.BatchCheckStepUpRequest
) -> list[Check]:
    """The checks of a batch, 1 to 100.

    Raises:
        InvalidFieldError: the number of checks is out of range, or a check is not valid.
    """
    if not 1 <= len(request.checks) <= MAX_BATCH:
        raise InvalidFieldError("checks", f"must be 1 to {MAX_BATCH}")
    return [
        check(
            catalogue,
            item.operation,
            item.target,
            f"checks[{index}].",
            retry_receipt=item.retry_receipt,
        )
        for index, item in enumerate(request.checks)
    ]


def scope(value: step_up_service_pb2.RevocationScope.ValueType) -> Scope:
    """The scope of a revocation.

    Raises:
        InvalidFieldError: the scope is absent or unknown.
    """
    return _SCOPES.get(value) or refuse_value("scope", value)


def page_size(size: int) -> int:
    """How many entries a page has at most; 0 means the default.

    Raises:
        InvalidFieldError: the size is out of range.
    """
    if not 0 <= size <= MAX_PAGE:
        raise InvalidFieldError("page_size", f"must be 1 to {MAX_PAGE}")
    return size or DEFAULT_PAGE


def uuid(field: str, value: str) -> UUID | None:
    """The UUID of a field; None if the field is absent.

    Raises:
        InvalidFieldError: the text is not a UUID in the usual form (RFC 9562 §4).
    """
    if not value:
        return None
    try:
        parsed = UUID(value)
    except ValueError:
        parsed = None
    if parsed is None or str(parsed) != value.lower():
        raise InvalidFieldError(field, "must be a UUID")
    return parsed


def duration(message: Duration) -> timedelta:
    """A duration that must be whole seconds.

    If the message has nanoseconds, the result has a microsecond, so that its check refuses it. A
    duration that is too long for a timedelta is the longest one.
    """
    try:
        return timedelta(seconds=message.seconds, microseconds=1 if message.nanos else 0)
    except OverflowError:
        return timedelta.max


def event_query(request: audit_service_pb2.ListAuditEventsRequest) -> EventQuery:
    """The filter and the order of audit events.

    Raises:
        InvalidFieldError: the tenant is missing, or a filter is not valid.
    """
    message = request.filter
    if len(message.kinds) > MAX_KINDS:
        raise InvalidFieldError("filter.kinds", f"must be at most {MAX_KINDS}")
    return EventQuery(
        tenant_id=parse_id("tenant_id", domain.TenantId, request.tenant_id),
        start=instant("filter.start_time", message.start_time)
        if message.HasField("start_time")
        else None,
        end=instant("filter.end_time", message.end_time) if message.HasField("end_time") else None,
        user_id=parse_id("filter.user_id", domain.UserId, message.user_id)
        if message.user_id
        else None,
        kinds=frozenset(
            EVENT_KINDS.get(kind) or refuse_value(f"filter.kinds[{index}]", kind)
            for index, kind in enumerate(message.kinds)
        ),
        newest_first=request.newest_first,
    )


def instant(field: str, message: Timestamp) -> datetime:
    """An instant in UTC. Digits finer than a microsecond are cut off.

    Raises:
        InvalidFieldError: the message is not an instant of the years 1 to 9999.
    """
    try:
        return message.ToDatetime(UTC)
    except (ValueError, OverflowError) as error:
        raise InvalidFieldError(field, "must be in the years 1 to 9999") from error
