"""Counts of decisions: exemptions, prompts of each person, operations.

A prompt is a call that asked for a code or for an enrollment: one code serves all checks of a call.
A decision that repeats an earlier one, because its answer was lost, does not count.
"""

from collections.abc import Mapping
from typing import Any, Final

from stepup.cli import output
from stepup.cli.decisions.reading import CALL, Decisions
from stepup.cli.output import counted, counted_people
from stepup.cli.times import shown
from stepup.domain.decision import Decision, Reason

COLUMNS: Final = (
    *CALL,
    *("operation", "decision", "reason", "repeated"),
)
"""The columns of the decision log that statistics need."""
EXEMPTIONS: Final = (
    Reason.EXEMPT_MANAGED_SERVICES,
    Reason.EXEMPT_AUTOMATIC_PLAYBOOK,
    Reason.EXEMPT_TIMED_OUT_RETRY,
    Reason.SIGN_IN_NOT_SUPPORTED_FOR_SAML,
    Reason.ENROLLMENT_GRACE,
)
"""The reasons for which no code is asked though the policy demands one."""
_MOST: Final = 5
_COUNTED: Final = f"""
    WITH counted AS (
        SELECT *, ({", ".join(CALL)}) AS call, (tenant_id, user_id) AS person,
            decision <> '{Decision.ALLOWED}' AS is_prompt,
            reason IN ({", ".join(f"'{reason}'" for reason in EXEMPTIONS)}) AS is_exempt
        FROM decisions WHERE repeated IS NOT true
    ), prompted AS (
        SELECT tenant_id, user_id, count(DISTINCT call) AS prompts
        FROM counted WHERE is_prompt GROUP BY ALL
    )
"""  # noqa: S608  # constants
_TOTAL: Final = """
    SELECT count(*) AS decisions, count(DISTINCT person) AS people,
        min(decided_at) AS first, max(decided_at) AS last FROM counted
"""
_ANSWERS: Final = """
    SELECT decision, reason, count(*) AS decisions, count(DISTINCT person) AS people
    FROM counted GROUP BY ALL ORDER BY decisions DESC, reason
"""
_EXEMPT: Final = """
    SELECT caller, reason, count(*) AS decisions, count(DISTINCT person) AS people
    FROM counted WHERE is_exempt GROUP BY ALL ORDER BY decisions DESC, caller, reason
"""
_PROMPTS: Final = """
    SELECT coalesce(sum(prompts), 0)::BIGINT AS prompts, count(*) AS people,
        quantile_disc(prompts, 0.5) AS median, quantile_disc(prompts, 0.9) AS p90,
        max(prompts) AS max
    FROM prompted
"""
_MOST_PROMPTED: Final = f"""
    SELECT * FROM prompted ORDER BY prompts DESC, tenant_id, user_id LIMIT {_MOST}
"""  # noqa: S608  # a constant
_OPERATIONS: Final = """
    SELECT operation, count(*) AS decisions,
        count(DISTINCT call) FILTER (is_prompt) AS prompts,
        count(*) FILTER (is_exempt) AS exempt, count(DISTINCT person) AS people,
        max(decided_at) AS last
    FROM counted GROUP BY ALL ORDER BY decisions DESC, operation
"""


def statistics_of(decisions: Decisions) -> dict[str, Any]:
    """Count the decisions; the keys are those of the command's JSON.

    Raises:
        LogsError: as `Decisions.rows`.
    """

    def rows(query: str) -> list[dict[str, Any]]:
        return [
            {name: _as_json(value) for name, value in row.items()}
            for row in decisions.rows(_COUNTED + query)
        ]

    [total], [prompts] = rows(_TOTAL), rows(_PROMPTS)
    return {
        **total,
        "answers": rows(_ANSWERS),
        "exemptions": rows(_EXEMPT),
        "prompts": {**prompts, "most": rows(_MOST_PROMPTED)},
        "operations": rows(_OPERATIONS),
    }


def write_statistics(counts: Mapping[str, Any]) -> None:
    """Write the counts as tables."""
    if not counts["decisions"]:
        output.write("no decisions")
        return
    output.write_wrapped(
        f"{counted(counts['decisions'], 'decision')} about {counted_people(counts['people'])},"
        f" from {counts['first']} to {counts['last']}"
    )
    _write_part("Answers", counts["answers"])
    _write_part("Exemptions", counts["exemptions"])
    prompts = counts["prompts"]
    output.write()
    output.write(f"Prompts: {prompts['prompts']}, of {counted_people(prompts['people'])}")
    if prompts["people"]:
        output.write(
            f"  per person: median {prompts['median']}, 90th percentile {prompts['p90']},"
            f" most {prompts['max']}"
        )
        _write_part("Most prompted", prompts["most"])
    _write_part("Operations", counts["operations"])


def _write_part(title: str, rows: list[dict[str, Any]]) -> None:
    output.write()
    output.write(title if rows else f"{title}: none")
    if rows:
        output.write_table(tuple(rows[0]), [tuple(row.values()) for row in rows])


def _as_json(value: Any) -> Any:
    return shown(value) if hasattr(value, "astimezone") else value
