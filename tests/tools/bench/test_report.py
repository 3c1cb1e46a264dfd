"""What comes of the runs: numbers, and a picture of them."""

from xml.etree import ElementTree as ET

import pytest

from tools.bench.figures import Latencies
from tools.bench.picture import svg
from tools.bench.report import document, verdict
from tools.bench.rounds import Effort, Results, Run
from tools.bench.variants import RATIOS, VARIANTS, Ratio

BY_NAME = {variant.name: variant for variant in VARIANTS}
ABOUT = {"machine": {"processor": "a <processor>"}, "versions": {}}
SVG = "{http://www.w3.org/2000/svg}"


def run(rps, p50):
    return Run(Latencies(p50, 2 * p50), rps, Latencies(3 * p50, 4 * p50), cpu_us=1e6 / rps)


def reported(**runs):
    names = {name.replace("_", "-"): each for name, each in runs.items()}
    variants = [BY_NAME[name] for name in names]
    return document(Results(names, calls=7), variants, RATIOS, Effort(3, 1.0), ABOUT)


@pytest.fixture
def results():
    return reported(
        aio_noop=[run(4000, 0.2), run(1000, 0.8), run(2000, 0.4)],
        core_check=[run(2000, 0.4), run(500, 1.6), run(1000, 0.8)],
        core_check_mtls=[Run(Latencies(0.5, 0.6))] * 3,
    )


def test_each_run_is_told_and_the_medians_of_latencies(results):
    assert results["variants"]["aio-noop"] == {
        "rps": [4000, 1000, 2000],
        "p50_ms": 0.4,
        "p99_ms": 0.8,
        "p99_at_half_ms": 1.6,
        "cpu_us": 500,
    }


def test_ratios_are_those_of_variants_that_were_measured(results):
    assert results["ratios"] == {
        "rps: core-check / aio-noop": 0.5,
        "p50_ms: core-check / aio-noop": 2.0,
        "p50_ms: core-check-mtls / core-check": 0.625,
    }


@pytest.mark.parametrize(
    ("limits", "value", "wanted"),
    [
        ({"at_least": 4}, 4, "yes"),
        ({"at_least": 4}, 3.9, "no"),
        ({"at_most": 1.2}, 1.2, "yes"),
        ({"at_most": 1.2}, 1.3, "no"),
        ({}, 1, ""),
    ],
)
def test_a_ratio_is_held_against_what_is_wanted(limits, value, wanted):
    assert verdict(Ratio("rps", "a", "b", **limits), value) == wanted


def test_the_picture_has_a_bar_for_each_throughput_as_long_as_its_median(results):
    root = ET.fromstring(svg(results))  # noqa: S314  # our own
    bars = [float(bar.attrib["width"]) for bar in root.iter(f"{SVG}rect") if "rx" in bar.attrib]
    assert len(bars) == 2
    assert bars[0] == pytest.approx(2 * bars[1], rel=0.01)
