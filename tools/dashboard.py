"""The dashboard for Grafana, as JSON on standard output: `make dashboard` writes dashboard.json.

Write a metric as `name{}` or `name{label="value"}`: the program puts the dashboard's variables,
which select an installation and its instances, between the braces.
"""

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from typing import Any

_SCOPE = 'namespace=~"$namespace", job=~"$job", instance=~"$instance"'
_SOURCE = {"type": "prometheus", "uid": "${datasource}"}
_CHECKS = 'method=~"StepUpService/(Batch)?CheckStepUp"'
_COLUMNS = 24
_HEIGHT = {"stat": 4, "timeseries": 8}
_OFF_ON = [{"color": "red", "value": None}, {"color": "green", "value": 1}]
_GOOD = [{"color": "green", "value": None}]


@dataclass(frozen=True)
class Panel:
    """One panel of the dashboard; `targets` are expressions with their legends.

    `unit` is Grafana's id of a unit; from `bad_from` on the panel is red; `columns` of 24.
    """

    title: str
    description: str
    unit: str
    targets: tuple[tuple[str, str], ...]
    columns: int = 8
    kind: str = "timeseries"
    stacked: bool = False
    bad_from: float | None = None
    on_is_good: bool = False


def _stat(
    title: str,
    description: str,
    unit: str,
    expression: str,
    *,
    bad_from: float | None = None,
    on_is_good: bool = False,
) -> Panel:
    targets = ((expression, title),)
    return Panel(
        title, description, unit, targets, 4, "stat", bad_from=bad_from, on_is_good=on_is_good
    )


def _rate(metric: str, by: str) -> str:
    return f"sum by ({by}) (rate({metric}[$__rate_interval]))"


def _quantile(quantile: float, metric: str, by: str) -> str:
    return f"histogram_quantile({quantile}, {_rate(metric, f'le, {by}')})"


def _ratio_of_failed() -> str:
    failed = f'stepup_calls_total{{{_CHECKS}, code=~"UNAVAILABLE|INTERNAL"}}'
    every = f"stepup_calls_total{{{_CHECKS}}}"
    return (
        f"(sum(rate({failed}[$__rate_interval])) or vector(0))"
        f" / sum(rate({every}[$__rate_interval]))"
    )


_FEED_AGE = "timestamp(stepup_change_feed_read_seconds{}) - stepup_change_feed_read_seconds{}"
_BREAK_GLASS_AGE = (
    "time() - (max by (namespace, job) (stepup_break_glass_last_used_timestamp_seconds{}) > 0)"
)
_CERTIFICATE = "(stepup_certificate_not_after_seconds{} > 0) - time()"

ROWS: tuple[tuple[str, tuple[Panel, ...]], ...] = (
    (
        "Overview",
        (
            _stat(
                "Servers",
                "Servers that Prometheus can scrape.",
                "short",
                "sum(up{})",
                on_is_good=True,
            ),
            _stat(
                "Checks",
                "Calls of CheckStepUp and BatchCheckStepUp that have ended.",
                "reqps",
                f"sum(rate(stepup_calls_total{{{_CHECKS}}}[$__rate_interval]))",
            ),
            _stat(
                "Checks that fail",
                "Checks that ended with UNAVAILABLE or INTERNAL; the objective permits 0.1 %.",
                "percentunit",
                _ratio_of_failed(),
                bad_from=0.001,
            ),
            _stat(
                "p99 of checks",
                "99 % of the checks take no longer; the objective is 100 ms.",
                "s",
                "histogram_quantile(0.99, sum by (le) (rate("
                'stepup_call_seconds_bucket{method="StepUpService/CheckStepUp"}'
                "[$__rate_interval])))",
                bad_from=0.1,
            ),
            _stat(
                "Stores that answer",
                "1 while all servers reach everything that they depend on.",
                "short",
                "min(stepup_dependency_up{})",
                on_is_good=True,
            ),
            _stat(
                "Certificate expires in",
                "Of the certificate that expires first. Empty without TLS.",
                "s",
                f"min({_CERTIFICATE})",
            ),
        ),
    ),
    (
        "Calls",
        (
            Panel(
                "Calls by method",
                "Calls that have ended, with any status.",
                "reqps",
                ((_rate("stepup_calls_total{}", "method"), "{{method}}"),),
                stacked=True,
            ),
            Panel(
                "Calls by caller",
                "By the names in the configuration; without a name: not admitted.",
                "reqps",
                ((_rate("stepup_calls_total{}", "caller"), "{{caller}}"),),
                stacked=True,
            ),
            Panel(
                "Calls that were not answered",
                "By status and method. FAILED_PRECONDITION and similar are answers to people;"
                " UNAVAILABLE and INTERNAL are faults of the service.",
                "reqps",
                (
                    (
                        _rate('stepup_calls_total{code!="OK"}', "code, method"),
                        "{{code}} {{method}}",
                    ),
                ),
            ),
            Panel(
                "Half of the calls take no longer",
                "The median by method, from arrival to answer.",
                "s",
                ((_quantile(0.5, "stepup_call_seconds_bucket{}", "method"), "{{method}}"),),
            ),
            Panel(
                "99 % of the calls take no longer",
                "By method, from arrival to answer.",
                "s",
                ((_quantile(0.99, "stepup_call_seconds_bucket{}", "method"), "{{method}}"),),
            ),
            Panel(
                "Calls over the caller's rate",
                "Refused with RESOURCE_EXHAUSTED, and calls that a worker counted alone because"
                " Redis did not answer.",
                "reqps",
                (
                    (_rate("stepup_caller_rate_limited_total{}", "caller"), "{{caller}}"),
                    (_rate("stepup_caller_rate_unknown_total{}", "instance"), "alone {{instance}}"),
                ),
            ),
        ),
    ),
    (
        "Decisions",
        (
            Panel(
                "Decisions by reason",
                "Recorded decisions, by the rule that decided.",
                "reqps",
                ((_rate("stepup_decisions_total{}", "reason"), "{{reason}}"),),
                stacked=True,
            ),
            Panel(
                "Decisions",
                "Allowed, or the step that people must do first.",
                "reqps",
                ((_rate("stepup_decisions_total{}", "decision"), "{{decision}}"),),
                stacked=True,
            ),
            Panel(
                "Calls for unknown tenants",
                "Their tenant never had a policy. If the configuration allows such tenants, a call"
                " with a misspelt tenant id is ALLOWED.",
                "reqps",
                ((_rate("stepup_unknown_tenant_calls_total{}", "instance"), "{{instance}}"),),
            ),
            Panel(
                "Receipts refused",
                "Retries whose receipt gave no exemption, by reason.",
                "cps",
                ((_rate("stepup_receipts_refused_total{}", "rejection"), "{{rejection}}"),),
            ),
        ),
    ),
    (
        "Codes",
        (
            Panel(
                "Codes by outcome",
                "Codes given to VerifyOtp or AnswerChallenge, by outcome and cause of a rejection.",
                "cps",
                (
                    (
                        _rate("stepup_verifications_total{}", "outcome, cause"),
                        "{{outcome}} {{cause}}",
                    ),
                ),
                columns=6,
                stacked=True,
            ),
            Panel(
                "Near misses",
                "Refused codes that fit the 30 seconds before or after: a clock is wrong, or"
                " somebody passes codes on.",
                "cps",
                ((_rate("stepup_near_misses_total{}", "step"), "{{step}}"),),
                columns=6,
            ),
            Panel(
                "Locks in 15 minutes",
                "How often wrong codes locked somebody.",
                "short",
                (("sum by (codes) (increase(stepup_locks_total{}[15m]))", "{{codes}}"),),
                columns=6,
                bad_from=10,
            ),
            Panel(
                "Reset codes by outcome",
                "Reset codes, by outcome.",
                "cps",
                ((_rate("stepup_resets_total{}", "outcome"), "{{outcome}}"),),
                columns=6,
            ),
        ),
    ),
    (
        "Challenges",
        (
            Panel(
                "Challenges by event",
                "Created, answered and ended challenges, in 15 minutes.",
                "short",
                (("sum by (event) (increase(stepup_challenges_total{}[15m]))", "{{event}}"),),
                columns=6,
            ),
            Panel(
                "Time to answer",
                "From the creation of a challenge to the person's answer.",
                "s",
                (
                    (_quantile(0.5, "stepup_challenge_answer_seconds_bucket{}", "job"), "half"),
                    (_quantile(0.95, "stepup_challenge_answer_seconds_bucket{}", "job"), "95 %"),
                ),
                columns=6,
            ),
            Panel(
                "Challenges that wait for an answer",
                "Of all tenants; every server reads the same number from the database. And the"
                " calls of AwaitChallenge under way.",
                "short",
                (
                    ("max by (namespace, job) (stepup_challenges_open{})", "challenges {{job}}"),
                    ("sum by (instance) (stepup_challenge_waits{})", "calls {{instance}}"),
                ),
                columns=6,
            ),
            Panel(
                "Challenges refused",
                "By the reason for which a check refused its challenge, by the limit that refused a"
                " new one, and refused calls of AwaitChallenge by their caller.",
                "cps",
                (
                    (_rate("stepup_challenges_refused_total{}", "rejection"), "{{rejection}}"),
                    (_rate("stepup_challenge_limits_reached_total{}", "limit"), "{{limit}}"),
                    (_rate("stepup_challenge_waits_refused_total{}", "caller"), "waits {{caller}}"),
                ),
                columns=6,
            ),
        ),
    ),
    (
        "People",
        (
            Panel(
                "Acts of operators",
                "Audit events of operators in 15 minutes, by their kind.",
                "short",
                (("sum by (kind) (increase(stepup_operator_acts_total{}[15m]))", "{{kind}}"),),
            ),
            Panel(
                "Users who were forgotten by callers",
                "By callers that provision users, in 15 minutes.",
                "short",
                (("sum by (job) (increase(stepup_users_deprovisioned_total{}[15m]))", "{{job}}"),),
            ),
            Panel(
                "Time since the last break-glass",
                "Since somebody last used stepup break-glass; empty if nobody did. Every server"
                " reads the same time from the database.",
                "s",
                ((_BREAK_GLASS_AGE, "{{job}}"),),
            ),
        ),
    ),
    (
        "Stores",
        (
            Panel(
                "Stores that answer",
                "1 while a store answers a server.",
                "short",
                (
                    (
                        "min by (dependency, instance) (stepup_dependency_up{})",
                        "{{dependency}} {{instance}}",
                    ),
                ),
                on_is_good=True,
            ),
            Panel(
                "99 % of the work takes no longer",
                "A round trip to Redis, a transaction or a snapshot in SQL.",
                "s",
                ((_quantile(0.99, "stepup_store_seconds_bucket{}", "work"), "{{work}}"),),
            ),
            Panel(
                "Work that fails",
                "Because a store was not available, or too slow.",
                "ops",
                ((_rate("stepup_store_failures_total{}", "work"), "{{work}}"),),
            ),
            Panel(
                "Work done",
                "Round trips to Redis, transactions and snapshots in SQL.",
                "ops",
                ((_rate("stepup_store_seconds_count{}", "work"), "{{work}}"),),
            ),
            Panel(
                "Age of the change feed",
                "Time since the change feed was read; after 5 s the server decides nothing.",
                "s",
                ((_FEED_AGE, "{{instance}}"),),
                bad_from=5,
            ),
            Panel(
                "Decision log",
                "Writes that failed; their checks were not answered.",
                "ops",
                ((_rate("stepup_decision_log_failures_total{}", "instance"), "{{instance}}"),),
            ),
        ),
    ),
    (
        "Credentials and keys",
        (
            Panel(
                "Certificate expires in",
                "By server. Empty without TLS.",
                "s",
                ((_CERTIFICATE, "{{instance}}"),),
            ),
            Panel(
                "Files that could not be used, in an hour",
                "The earlier content stays in effect.",
                "short",
                tuple(
                    (
                        f"sum(increase(stepup_{what}_reload_failures_total{{}}[1h]))",
                        what.replace("_", " "),
                    )
                    for what in ("certificate", "key_ring", "configuration")
                ),
            ),
            Panel(
                "Keys of issuers that could not be fetched, in an hour",
                "The keys that a server has count for at most an hour.",
                "short",
                (
                    (
                        "sum by (source) (increase(stepup_jwks_refresh_failures_total{}[1h]))",
                        "{{source}}",
                    ),
                ),
            ),
            Panel(
                "Secrets that could not be decrypted, in an hour",
                "Somebody wrote to the database, or a key is missing.",
                "short",
                (
                    (
                        "sum by (instance) (increase(stepup_sealed_secret_unreadable_total{}[1h]))",
                        "{{instance}}",
                    ),
                ),
                bad_from=1,
            ),
            Panel(
                "Callers without credentials are served",
                "1 on a server that runs as a trial.",
                "short",
                (("stepup_callers_unauthenticated{}", "{{instance}}"),),
                bad_from=1,
            ),
        ),
    ),
    (
        "Processes",
        (
            Panel(
                "Workers that can decide",
                "Of each supervisor; empty without workers.",
                "short",
                (("stepup_workers_serving{}", "{{instance}}"),),
                columns=6,
            ),
            Panel(
                "Workers that ended by themselves, in an hour",
                "The supervisor replaces each of them.",
                "short",
                (("increase(stepup_worker_failures_total{}[1h])", "{{instance}}"),),
                columns=6,
            ),
            Panel(
                "Versions",
                "The number of servers by version.",
                "short",
                (("count by (version) (stepup_build_info{})", "{{version}}"),),
                columns=6,
                stacked=True,
            ),
            Panel(
                "Engines",
                "The number of servers by engine.",
                "short",
                (("sum by (engine) (stepup_engine{})", "{{engine}}"),),
                columns=6,
                stacked=True,
            ),
            Panel(
                "Memory",
                "Resident memory; not for workers: use the metric of their container.",
                "bytes",
                (("process_resident_memory_bytes{}", "{{instance}}"),),
                columns=6,
            ),
            Panel(
                "CPU",
                "A process uses one core: at 1 it is fully loaded. Not for workers.",
                "short",
                (("rate(process_cpu_seconds_total{}[$__rate_interval])", "{{instance}}"),),
                columns=6,
                bad_from=0.8,
            ),
            Panel(
                "Open files",
                "As a share of the limit of a process. Not for workers.",
                "percentunit",
                (("process_open_fds{} / process_max_fds{}", "{{instance}}"),),
                columns=6,
                bad_from=0.8,
            ),
            Panel(
                "Garbage collections",
                "Of Python, by generation; the oldest has the longest pauses. Not for workers.",
                "ops",
                (
                    (
                        _rate("python_gc_collections_total{}", "generation"),
                        "generation {{generation}}",
                    ),
                ),
                columns=6,
            ),
        ),
    ),
)


def dashboard() -> dict[str, Any]:
    """The dashboard, as Grafana imports it."""
    return {
        "uid": "stepup",
        "title": "stepup",
        "description": "Step-up authorization: calls, decisions, codes, stores and processes.",
        "tags": ["stepup"],
        "timezone": "browser",
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "schemaVersion": 41,
        "time": {"from": "now-6h", "to": "now"},
        "templating": {"list": _variables()},
        "panels": list(_placed()),
    }


def _variables() -> list[dict[str, Any]]:
    source = {
        "type": "datasource",
        "name": "datasource",
        "label": "Prometheus",
        "query": "prometheus",
    }
    within = {"namespace": "", "job": 'namespace=~"$namespace"'}
    within["instance"] = f'{within["job"]}, job=~"$job"'
    return [source, *(_variable(name, scope) for name, scope in within.items())]


def _variable(name: str, scope: str) -> dict[str, Any]:
    return {
        "type": "query",
        "name": name,
        "label": name.capitalize(),
        "datasource": _SOURCE,
        "query": f"label_values(stepup_build_info{{{scope}}}, {name})",
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",  # where Prometheus adds no namespace, too
        "current": {"text": "All", "value": "$__all"},
    }


def _placed() -> Iterator[dict[str, Any]]:
    """The panels, from left to right under the title of their row."""
    ids, y = count(1), 0
    for title, panels in ROWS:
        place = {"x": 0, "y": y, "w": _COLUMNS, "h": 1}
        row = {"type": "row", "title": title, "collapsed": False, "panels": []}
        yield {"id": next(ids), **row, "gridPos": place}
        x, y = 0, y + 1
        for panel in panels:
            height = _HEIGHT[panel.kind]
            if x + panel.columns > _COLUMNS:
                x, y = 0, y + height
            place = {"x": x, "y": y, "w": panel.columns, "h": height}
            yield {"id": next(ids), **_shown(panel), "gridPos": place}
            x += panel.columns
        y += _HEIGHT[panels[-1].kind]


def _shown(panel: Panel) -> dict[str, Any]:
    steps = _OFF_ON if panel.on_is_good else list(_GOOD)
    if panel.bad_from is not None:
        steps = [*_GOOD, {"color": "red", "value": panel.bad_from}]
    defaults: dict[str, Any] = {
        "unit": panel.unit,
        "thresholds": {"mode": "absolute", "steps": steps},
    }
    options: dict[str, Any] = {
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "colorMode": "value",
        "graphMode": "area",
    }
    if panel.kind == "timeseries":
        defaults |= {"min": 0, "custom": _drawn(panel)}
        options = {
            "legend": {
                "displayMode": "table",
                "placement": "bottom",
                "showLegend": True,
                "calcs": ["lastNotNull", "max"],
            },
            "tooltip": {"mode": "multi", "sort": "desc"},
        }
    return {
        "type": panel.kind,
        "title": panel.title,
        "description": panel.description,
        "datasource": _SOURCE,
        "targets": [
            {
                "refId": chr(ord("A") + number),
                "datasource": _SOURCE,
                "expr": _scoped(expression),
                "legendFormat": legend,
                "range": True,
            }
            for number, (expression, legend) in enumerate(panel.targets)
        ],
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": options,
    }


def _drawn(panel: Panel) -> dict[str, Any]:
    drawn: dict[str, Any] = {"lineWidth": 1, "fillOpacity": 30 if panel.stacked else 10}
    if panel.stacked:
        drawn["stacking"] = {"mode": "normal", "group": "A"}
    if panel.bad_from is not None:
        drawn["thresholdsStyle"] = {"mode": "line"}
    return drawn


def _scoped(expression: str) -> str:
    return expression.replace("{", f"{{{_SCOPE}, ").replace(", }", "}")


if __name__ == "__main__":
    sys.stdout.write(json.dumps(dashboard(), indent=2) + "\n")
