"""The results of a measurement: `latest.json`, and a table for the terminal."""

import statistics
from datetime import UTC, datetime

from rich.markup import escape
from rich.table import Table

from tools.bench.figures import paired_ratio, spread
from tools.bench.h2load import CONNECTIONS, IN_FLIGHT

_SMALLEST_SHARE = 0.005


def document(results, variants, ratios, effort, about):
    """The content of `latest.json`; `about` are `machine` and `versions`.

    Latencies are medians over the runs: `p50_ms` and `p99_ms` of one call at a time,
    `p99_at_half_ms` of calls at half of the run's throughput. `rps` has each run's, in order;
    `cpu_us` is the server's processor time for each call at full speed.
    """
    return {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        **about,
        "load": {
            "in_flight": IN_FLIGHT,
            "connections": CONNECTIONS,
            "seconds": effort.seconds,
            "repetitions": effort.repetitions,
            "verified_answers": results.calls,
        },
        "variants": {variant.name: _variant(results.runs[variant.name]) for variant in variants},
        "ratios": {
            ratio.name: round(_ratio(ratio, results.runs), 3)
            for ratio in ratios
            if {ratio.variant, ratio.to} <= results.runs.keys()
        },
    }


def tables(document, ratios):
    """The same, to look at."""
    yield _variants_table(document["variants"])
    yield _ratios_table(document["ratios"], ratios)


def shares_table(title, shares):
    """Shares of time, down to half a percent."""
    table = Table("where", title=title, title_justify="left")
    table.add_column("share", justify="right")
    for name, share in shares.items():
        if share >= _SMALLEST_SHARE:
            table.add_row(escape(name), f"{share:.1%}")
    return table


def verdict(ratio, value):
    """`yes` or `no`: whether a ratio is as it should be; nothing where nothing was asked."""
    if ratio.at_least is None and ratio.at_most is None:
        return ""
    met = (ratio.at_least is None or value >= ratio.at_least) and (
        ratio.at_most is None or value <= ratio.at_most
    )
    return "yes" if met else "no"


def _variant(runs):
    loaded = [run for run in runs if run.rps is not None]
    figures = {
        "rps": [round(run.rps, 1) for run in loaded],
        "p50_ms": _median(run.one_at_a_time.p50_ms for run in runs),
        "p99_ms": _median(run.one_at_a_time.p99_ms for run in runs),
    }
    if loaded:
        figures["p99_at_half_ms"] = _median(run.at_half.p99_ms for run in loaded)
        figures["cpu_us"] = _median(run.cpu_us for run in loaded)
    return figures


def _median(values):
    return round(statistics.median(values), 3)


def _ratio(ratio, runs):
    def measured(name):
        if ratio.measure == "rps":
            return [run.rps for run in runs[name]]
        return [getattr(run.one_at_a_time, ratio.measure) for run in runs[name]]

    return paired_ratio(measured(ratio.variant), measured(ratio.to))


def _variants_table(variants):
    table = Table("variant", title="One core; medians of the runs")
    for column in ("calls/s", "spread", "CPU µs", "p50 ms", "p99 ms", "p99 ms at half"):
        table.add_column(column, justify="right")
    for name, figures in variants.items():
        rps = figures["rps"]
        table.add_row(
            name,
            f"{statistics.median(rps):,.0f}" if rps else "",
            f"{spread(rps):.0%}" if rps else "",
            f"{figures['cpu_us']:.0f}" if rps else "",
            f"{figures['p50_ms']:.2f}",
            f"{figures['p99_ms']:.2f}",
            f"{figures['p99_at_half_ms']:.2f}" if rps else "",
        )
    return table


def _ratios_table(values, ratios):
    table = Table("ratio")
    for column in ("value", "wanted", "met"):
        table.add_column(column, justify="right")
    for ratio in ratios:
        if ratio.name in values:
            value = values[ratio.name]
            table.add_row(ratio.name, f"{value:.2f}", _wanted(ratio), verdict(ratio, value))
    return table


def _wanted(ratio):
    if ratio.at_least is not None:
        return f"≥ {ratio.at_least:g}"
    return f"≤ {ratio.at_most:g}" if ratio.at_most is not None else ""
