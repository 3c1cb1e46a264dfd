"""Compares policies with the questions on record, and with the maps of guarded services."""

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from stepup.cli.decisions.reading import Decisions, several_tenants
from stepup.cli.times import shown
from stepup.domain.operations import SIGN_IN
from stepup.system.json_texts import RepeatedNameError, json_with_unique_names

COLUMNS: Final = ("decided_at", "caller", "tenant_id", "operation")
"""The columns of the decision log that a comparison needs."""
_SPAN: Final = "SELECT min(decided_at) AS begins, max(decided_at) AS ends FROM decisions"
_ASKED: Final = """
    SELECT operation, count(*) AS decisions, max(decided_at) AS last,
        list_sort(list(DISTINCT caller)) AS callers
    FROM decisions WHERE tenant_id = $tenant GROUP BY operation
"""
_CALLERS: Final = "SELECT DISTINCT caller FROM decisions"


class MethodMapError(ValueError):
    """The file is not a map of methods; the message names the file."""


def read_method_map(file: Path) -> Mapping[str, str | None]:
    """Read the operation of each method from a file of `stepup.client.guards.write_method_map`.

    Raises:
        MethodMapError: the file cannot be read, or has another content.
    """
    try:
        operations = json_with_unique_names(file.read_text("utf-8"))["methods"]
    except OSError as error:
        raise MethodMapError(f"{file}: {error.strerror}") from error
    except RepeatedNameError as error:
        raise MethodMapError(f"{file}: {error}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise MethodMapError(f"{file}: is not a file of write_method_map") from error
    if not isinstance(operations, dict) or not all(
        isinstance(each, str | None) for each in operations.values()
    ):
        raise MethodMapError(f"{file}: methods must have a text or null for each method")
    return operations


def span_of(decisions: Decisions) -> dict[str, str | None]:
    """When the first and the last decision of the logs was made: `begins`, `ends`."""
    [row] = decisions.rows(_SPAN)
    return {name: None if instant is None else shown(instant) for name, instant in row.items()}


def gaps_of(
    decisions: Decisions,
    tenant_id: str | None,
    selected: Collection[str],
    since: datetime | None,
    methods: Iterable[Mapping[str, str | None]],
) -> dict[str, Any]:
    """Compare the selected operations of a policy with the questions of its tenant.

    Args:
        decisions: with COLUMNS.
        tenant_id: the business; None for the one whose decisions these are.
        selected: the operations that the policy selects.
        since: earlier questions do not count; None counts all.
        methods: the maps of guarded services.

    Returns:
        The keys of the command's JSON: `selected` has each operation that the policy selects,
        `not_selected` each other one with a question, `never_asked` those of `selected` without.

    Raises:
        LogsError: as `Decisions.rows`; or there is no `tenant_id`, and several businesses have
            decisions.
    """
    if tenant_id is None:
        tenants = decisions.tenant_ids()
        if len(tenants) > 1:
            raise several_tenants(tenants)
        tenant_id = next(iter(tenants), None)
    found = {row["operation"]: row for row in decisions.rows(_ASKED, tenant=tenant_id)}
    found.pop(SIGN_IN, None)  # no policy selects it
    guarding: dict[str | None, list[str]] = {}
    for operations in methods:
        for method, operation in operations.items():
            guarding.setdefault(operation, []).append(method)

    def described(operation: str) -> dict[str, Any]:
        row = found.get(operation, {"decisions": 0, "last": None, "callers": []})
        return {
            "operation": operation,
            "last": None if row["last"] is None else shown(row["last"]),
            "decisions": row["decisions"],
            "callers": row["callers"],
            "methods": sorted(guarding.get(operation, ())),
        }

    def is_asked(operation: str) -> bool:
        return operation in found and (since is None or found[operation]["last"] >= since)

    return {
        "tenant_id": tenant_id,
        "selected": [described(each) for each in sorted(selected)],
        "not_selected": [described(each) for each in sorted(found.keys() - set(selected))],
        "never_asked": [each for each in sorted(selected) if not is_asked(each)],
    }


def silent_callers(decisions: Decisions, callers: Iterable[str]) -> list[str]:
    """Those of the callers that never ask."""
    asking = {row["caller"] for row in decisions.rows(_CALLERS)}
    return sorted(set(callers) - asking)
