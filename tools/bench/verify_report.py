"""The results of a measurement of verifications: `verify.json`, and tables."""

from datetime import UTC, datetime
from statistics import median

from rich.table import Table

from tools.bench.figures import spread
from tools.bench.h2load import IN_FLIGHT
from tools.bench.pieces import APART, STEPS, WHOLE, Cost
from tools.bench.verify import ON_POSTGRES

AROUND = "around the use case: gRPC, credentials, message, metrics"
REST = "rest of the use case"
TOTAL = "a call"
WANTED_RPS = 500


def document(runs, pieces, effort, about):
    """The content of `verify.json`: medians, beside the rates of all runs."""
    cases = {name: _figures(measured) for name, measured in runs.items()}
    return {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        **about,
        "load": {
            "in_flight": IN_FLIGHT,
            "calls": effort.calls,
            "repetitions": effort.repetitions,
            "verified_answers": effort.calls * sum(map(len, runs.values())),
        },
        "cases": cases,
        "pieces_us": {
            name: _rounded(accounts(costs, _cost(runs[name]))) for name, costs in pieces.items()
        },
        "met": {
            f"rps: {ON_POSTGRES.name} >= {WANTED_RPS}": cases[ON_POSTGRES.name]["median_rps"]
            >= WANTED_RPS
        },
    }


def accounts(costs, call):
    """The pieces, so completed that they add up to what a call costs a server under load."""
    parts = [costs[name] for name in (*STEPS, *APART)]
    log_line = costs[APART[-1]]  # which is around the use case
    inside = _sum(parts) - log_line
    return {
        **{name: costs[name] for name in (*STEPS, *APART)},
        REST: costs[WHOLE] - inside,
        AROUND: call - costs[WHOLE] - log_line,
        TOTAL: call,
    }


def tables(document):
    """The same, to look at."""
    yield _cases_table(document["cases"])
    yield _pieces_table(document["pieces_us"])


def _figures(runs):
    rps, cost = [run.rps for run in runs], _cost(runs)
    return {
        "rps": [round(each, 1) for each in rps],
        "median_rps": round(median(rps), 1),
        "p50_ms": round(median(run.latencies.p50_ms for run in runs), 1),
        "p99_ms": round(median(run.latencies.p99_ms for run in runs), 1),
        "service_us_per_call": round(cost.service_us),
        "database_us_per_call": round(cost.database_us),
    }


def _cost(runs):
    return Cost(
        median(run.cost.service_us for run in runs), median(run.cost.database_us for run in runs)
    )


def _sum(costs):
    return Cost(sum(cost.service_us for cost in costs), sum(cost.database_us for cost in costs))


def _rounded(costs):
    return {
        name: {"service": round(cost.service_us), "database": round(cost.database_us)}
        for name, cost in costs.items()
    }


def _cases_table(cases):
    title = f"VerifyOtp, {IN_FLIGHT} in flight; service on one core; medians of the runs"
    table = Table("case", title=title)
    columns = ("calls/s", "spread", "p50 ms", "p99 ms", "service µs/call", "database µs/call")
    for column in columns:
        table.add_column(column, justify="right")
    for name, figures in cases.items():
        table.add_row(
            name,
            f"{figures['median_rps']:,.0f}",
            f"{spread(figures['rps']):.0%}",
            f"{figures['p50_ms']:.0f}",
            f"{figures['p99_ms']:.0f}",
            f"{figures['service_us_per_call']}",
            f"{figures['database_us_per_call']}",
        )
    return table


def _pieces_table(pieces):
    table = Table("piece", title="Processor time of a verification, µs")
    for name in pieces:
        table.add_column(f"service, {name}", justify="right")
        table.add_column("database", justify="right")
    for piece in next(iter(pieces.values())):
        of_each = [costs[piece] for costs in pieces.values()]
        table.add_row(
            piece, *(f"{cost[part]}" for cost in of_each for part in ("service", "database"))
        )
    return table
