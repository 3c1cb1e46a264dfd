"""`stepup coverage`: selected operations that nobody asks about, and other forgotten gates."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from stepup.cli import output
from stepup.cli.coverage import gaps
from stepup.cli.decisions.options import AsJson, Logs, Tenant, logs_read
from stepup.cli.decisions.reading import Selection
from stepup.cli.output import failure
from stepup.cli.policy_files import (
    PolicyFile,
    PolicyFileError,
    read_policy,
    warn_of_unknown_operations,
)
from stepup.cli.times import FORMS, instant_option, shown
from stepup.domain.challenge_rights import CHECK_STEP_UP
from stepup.domain.operations import OperationId


def coverage(
    *,
    policies: Annotated[
        list[str],
        typer.Option("--policy", metavar="FILE", help="A policy, as `ctl policy show --json`."),
    ],
    logs: Logs,
    methods: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="A map that a guard wrote with write_method_map."),
    ] = None,
    config_file: Annotated[
        Path | None,
        typer.Option("--config", help="A server's settings: shows callers that never ask."),
    ] = None,
    tenant: Tenant = None,
    since: Annotated[
        str | None, typer.Option(help=f"Find operations without a question since then: {FORMS}.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Find gates that nobody passes: selected operations about which no program ever asks.

    The command also shows operations that somebody asks about and the policy does not select, with
    --config callers that never ask, and with --methods the methods without an operation. --policy,
    --decisions and --methods may be repeated. A policy without a `tenant_id` needs --tenant if
    several businesses have decisions. An operation whose last question is older than --since counts
    as never asked about; the rest of the output shows all questions of the logs.

    The exit code is 0 if somebody asked about each selected operation, 1 if not, 2 if the command
    failed.
    """
    first = instant_option("--since", since)
    files = [(source, _policy(source, tenant)) for source in policies]
    tenants = {file.tenant_id or tenant for _, file in files}
    callers = _checking_callers(config_file, tenants) if config_file else []
    try:
        maps = {str(file): gaps.read_method_map(file) for file in methods or ()}
    except gaps.MethodMapError as error:
        raise failure(error) from error
    with logs_read(logs, Selection(tenant_id=tenant), gaps.COLUMNS) as decisions:
        found: dict[str, Any] = {
            **gaps.span_of(decisions),
            "policies": [
                {
                    "file": source,
                    **gaps.gaps_of(
                        decisions,
                        file.tenant_id or tenant,
                        file.change.max_ages or (),
                        first,
                        maps.values(),
                    ),
                }
                for source, file in files
            ],
            "silent_callers": gaps.silent_callers(decisions, callers),
            "methods_without_operation": [
                {"file": file, "method": method}
                for file, operations in maps.items()
                for method, operation in operations.items()
                if operation is None
            ],
        }
    warn_of_unknown_operations(
        OperationId(row["operation"])
        for policy in found["policies"]
        for row in policy["selected"]
        if not row["decisions"]
    )
    if as_json:
        output.write_json(found)
    else:
        _write(found, first, tenant)
    if any(each["never_asked"] for each in found["policies"]):
        raise typer.Exit(1)


def _policy(source: str, tenant: str | None) -> PolicyFile:
    """Read a policy, whose operations matter.

    Raises:
        typer.Exit: the file is not such a policy, or names another business; status 2.
    """
    try:
        file = read_policy(source)
    except PolicyFileError as error:
        raise failure(error) from error
    if file.change.max_ages is None:
        raise failure(f"{source}: operations: is required")
    if tenant is not None and file.tenant_id not in (None, tenant):
        raise failure(f"{source}: tenant_id: is {file.tenant_id}, and not {tenant}")
    return file


def _checking_callers(config_file: Path, tenants: Collection[str | None]) -> list[str]:
    """The callers that may ask about one of the businesses, by the settings of a server.

    None is any business.
    """
    from stepup.cli.options import settings_of  # noqa: PLC0415  # it imports the stores

    return [
        caller.caller_id
        for caller in settings_of(config_file).registered_callers
        if any(caller.rule_for(CHECK_STEP_UP, tenant) for tenant in tenants)
    ]


def _write(found: Mapping[str, Any], since: datetime | None, tenant: str | None) -> None:
    if found["begins"] is None:
        output.write(f"the logs have no decision{f' of {tenant}' if tenant else ''}")
    else:
        output.write(f"decisions from {found['begins']} to {found['ends']}")
    for policy in found["policies"]:
        of = f", of {policy['tenant_id']}" if policy["tenant_id"] else ""
        _write_operations(f"Selected by {policy['file']}{of}", policy["selected"])
        _write_operations("Asked about, and not selected", policy["not_selected"])
    if found["silent_callers"]:
        output.write()
        output.write_wrapped(f"Callers that never ask: {', '.join(found['silent_callers'])}")
    if rows := found["methods_without_operation"]:
        output.write()
        output.write("Methods without an operation")
        output.write_table(tuple(rows[0]), [tuple(row.values()) for row in rows])
    output.write()
    never = [operation for each in found["policies"] for operation in each["never_asked"]]
    when = f" since {shown(since)}" if since else ""
    output.write_wrapped(
        f"selected operations that nobody asked about{when}: {', '.join(never) or 'none'}"
    )


def _write_operations(title: str, rows: Sequence[Mapping[str, Any]]) -> None:
    if not rows:
        return
    output.write()
    output.write(title)
    output.write_table(
        ("operation", "last question", "decisions", "callers", "methods"),
        [
            (
                row["operation"],
                row["last"] or "never",
                row["decisions"],
                ", ".join(row["callers"]),
                ", ".join(row["methods"]),
            )
            for row in rows
        ],
    )
