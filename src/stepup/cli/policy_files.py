"""Policies as files: JSON, or YAML (extra `analysis`), with the names of `stepup.v1.Policy`.

    {"enabled": true, "operations": [{"operation": "response.run_osquery", "max_age": "300s"}]}

`stepup ctl policy show --json` writes such a file. To read one, no server is necessary.
"""

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

from stepup.cli import output
from stepup.cli.times import duration_of
from stepup.domain.actor import TenantId
from stepup.domain.elevation import LIFETIME
from stepup.domain.errors import InvalidValueError
from stepup.domain.operations import SHIPPED, OperationId
from stepup.domain.policy import EVERY_TIME, Policy, PolicyChange, checked_max_age
from stepup.domain.totp import Label
from stepup.system.distribution import missing_extra
from stepup.system.json_texts import demand_unique_names, json_with_unique_names
from stepup.system.near_names import instead_of

STDIN: Final = "-"
_NAMES: Final = {
    "tenant_id", "enabled", "operations", "etag", "update_time", "issuer", "enroll_by",
}  # fmt: skip
_OPERATION_NAMES: Final = {"operation", "max_age", "every_time"}
_KINDS: Final = {
    bool: "true or false", dict: "an object", float: "a number", int: "a number", list: "a list",
    str: "a string", type(None): "null",
}  # fmt: skip
_T = TypeVar("_T")


class PolicyFileError(ValueError):
    """The text is not a policy; the message names the file and the field."""


@dataclass(frozen=True, slots=True)
class PolicyFile:
    """What a file says about a policy.

    Attributes:
        tenant_id: the business; None if the file does not name one.
        change: the fields that the file has. Its etag is empty if the file has none.
    """

    tenant_id: TenantId | None
    change: PolicyChange

    def whole_policy(self, tenant_id: TenantId) -> Policy:
        """The policy of this tenant that the file describes, without a stored one.

        Raises:
            PolicyFileError: the file has no `enabled` or no `operations`, or names another tenant.
        """
        if self.tenant_id not in (None, tenant_id):
            raise PolicyFileError(f"tenant_id: is {self.tenant_id}, and not {tenant_id}")
        for name, value in (("enabled", self.change.enabled), ("operations", self.change.max_ages)):
            if value is None:
                raise PolicyFileError(f"{name}: is required")
        return self.change.applied_to(Policy(tenant_id))


def read_policy(source: str) -> PolicyFile:
    """Read a policy from a file, or from standard input (`-`).

    Raises:
        PolicyFileError: the source cannot be read, or is not a policy.
    """
    try:
        text = sys.stdin.read() if source == STDIN else Path(source).read_text("utf-8")
        return policy_of(_document(text))
    except OSError as error:
        raise PolicyFileError(f"{source}: {error.strerror}") from error
    except ValueError as error:
        raise PolicyFileError(f"{source}: {error}") from error


def operation_ids(place: str, names: Sequence[str]) -> list[OperationId]:
    """The ids of the operations that an operator names at this place, such as an option.

    Raises:
        PolicyFileError: the catalogue has no such operation; the message names the place.
    """
    try:
        return [OperationId(name) for name in names]
    except InvalidValueError as error:
        raise PolicyFileError(f"{place} {error}; `stepup ctl operations` lists them") from error


def warn_of_unknown_operations(operations: Iterable[OperationId]) -> None:
    """Name the operations that the shipped catalogue does not have, on standard error.

    They may be mistyped. This is only a warning, since a server may have further operations.

    Args:
        operations: those without a decision on record.
    """
    for operation in operations:
        if SHIPPED.find(operation) is None:
            output.write_problem(
                f"{operation}: the shipped catalogue and the logs do not have this operation"
                + instead_of(operation, (), SHIPPED.ids, most=1)
            )


def selecting(
    policy: Policy, operations: Sequence[OperationId], max_age: timedelta | None = None
) -> PolicyChange:
    """The change that selects these operations as well.

    Without a `max_age` an operation that is selected keeps its own, and another gets the longest.
    """
    selected = {
        name: policy.max_ages.get(name, LIFETIME) if max_age is None else max_age
        for name in operations
    }
    return PolicyChange("", max_ages={**policy.max_ages, **selected})


def policy_of(document: object) -> PolicyFile:
    """The policy of a document with the names and the JSON values of `stepup.v1.Policy`.

    A field that is absent says nothing; `null` removes an issuer or an `enroll_by`.

    Raises:
        PolicyFileError: a field is unknown, or has no valid value.
    """
    fields = _mapping("policy", document, _NAMES)
    tenant_id = fields.get("tenant_id")
    return PolicyFile(
        _parsed("tenant_id", TenantId, tenant_id) if tenant_id else None,
        PolicyChange(
            etag=_text("etag", fields.get("etag") or ""),
            enabled=_boolean("enabled", fields["enabled"]) if "enabled" in fields else None,
            max_ages=_max_ages(fields["operations"]) if "operations" in fields else None,
            issuer=_optional("issuer", Label, fields),
            enroll_by=_optional("enroll_by", _instant, fields),
        ),
    )


def _document(text: str) -> Any:
    if not text.strip():
        raise PolicyFileError("is empty")
    if text.lstrip().startswith("{"):
        return json_with_unique_names(text)
    try:
        import yaml  # noqa: PLC0415  # of an extra
    except ImportError as error:
        raise PolicyFileError(f"is not JSON, and YAML {missing_extra('analysis')}") from error

    class WithUniqueNames(yaml.SafeLoader):
        # A few aliases of aliases make a value that no memory holds.
        def compose_node(self, parent: Any, index: Any) -> Any:
            if self.check_event(yaml.AliasEvent):
                raise PolicyFileError("has an alias of YAML: write the value again")
            return super().compose_node(parent, index)

        def compose_mapping_node(self, anchor: Any) -> Any:
            node = super().compose_mapping_node(anchor)
            demand_unique_names(str(key.value) for key, _ in node.value)
            return node

    try:
        return yaml.load(text, WithUniqueNames)  # noqa: S506  # a SafeLoader
    except yaml.YAMLError as error:
        raise PolicyFileError(f"is neither JSON nor YAML: {_in_one_line(error)}") from error
    except RecursionError:
        raise PolicyFileError("is nested too deeply") from None
    except OverflowError:
        raise PolicyFileError("has an instant out of range") from None


def _in_one_line(error: Exception) -> str:
    """The place and the problem of an error of YAML, whose own text has several lines."""
    mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
    if mark is None or problem is None:
        return " ".join(str(error).split())
    return f"line {mark.line + 1}, column {mark.column + 1}: {problem}"


def _optional(
    name: str, parse: Callable[[str], _T], fields: Mapping[str, Any]
) -> _T | Literal[""] | None:
    if name not in fields:
        return None
    return _parsed(name, parse, fields[name]) if fields[name] else ""


def _max_ages(operations: object) -> dict[OperationId, timedelta]:
    if not isinstance(operations, list):
        raise PolicyFileError("operations: must be a list")
    max_ages: dict[OperationId, timedelta] = {}
    for index, each in enumerate(operations):
        place = f"operations[{index}]"
        item = _mapping(place, each, _OPERATION_NAMES)
        operation = _parsed(f"{place}.operation", OperationId, item.get("operation", ""))
        if operation in max_ages:
            raise PolicyFileError(f"{place}.operation: {operation} is selected twice")
        max_ages[operation] = _max_age(place, item)
    return max_ages


def _max_age(place: str, item: Mapping[str, Any]) -> timedelta:
    every_time = _boolean(f"{place}.every_time", item.get("every_time", False))
    if (max_age := item.get("max_age")) is None:
        return EVERY_TIME if every_time else LIFETIME
    if every_time:
        raise PolicyFileError(f"{place}.max_age: must be absent with every_time")
    if isinstance(max_age, int | float):
        raise PolicyFileError(f'{place}.max_age: must be a string with a unit, such as "300s"')
    return _parsed(f"{place}.max_age", lambda text: checked_max_age(duration_of(text)), max_age)


def _instant(text: str) -> datetime:
    instant = datetime.fromisoformat(text)
    return (instant if instant.tzinfo else instant.replace(tzinfo=UTC)).astimezone(UTC)


def _parsed(place: str, parse: Callable[[str], _T], value: object) -> _T:
    if isinstance(value, date):  # YAML has instants of its own
        value = value.isoformat()
    try:
        return parse(_text(place, value))
    except PolicyFileError:
        raise
    except OverflowError as error:
        raise PolicyFileError(f"{place}: is out of range") from error
    except (ValueError, InvalidValueError) as error:
        raise PolicyFileError(f"{place}: {error}") from error


def _text(place: str, value: object) -> str:
    if not isinstance(value, str):
        raise PolicyFileError(f"{place}: must be a string, and is {_kind(value)}")
    return value


def _kind(value: object) -> str:
    """The type of a value, which may be too large to show."""
    return _KINDS.get(type(value), "another value")


def _boolean(place: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise PolicyFileError(f"{place}: must be true or false, and is {_kind(value)}")
    return value


def _mapping(place: str, value: object, names: set[str]) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise PolicyFileError(f"{place}: must be an object with {', '.join(sorted(names))}")
    if unknown := sorted(str(name) for name in value.keys() - names):
        raise PolicyFileError(
            f"{place}: has no field {unknown[0]!r}; its fields are {', '.join(sorted(names))}"
        )
    return value
