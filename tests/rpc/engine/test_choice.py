"""Which engine serves, and how an operator sees it."""

import tomllib

import grpc
import pytest
from packaging.requirements import Requirement
from packaging.version import Version
from stepup_tests.metrics import metric
from stepup_tests.places import ROOT
from structlog.testing import capture_logs

from stepup.rpc.engine.aio import AioEngine
from stepup.rpc.engine.choice import CONFORMING, engine_of
from stepup.rpc.engine.core import CoreEngine

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
[SUPPORTED] = [
    each.specifier
    for each in map(Requirement, PROJECT["optional-dependencies"]["server"])
    if each.name == "grpcio"
]
[OLDEST] = [each.version for each in SUPPORTED if each.operator == ">="]
NEXT = "1.999.0"


def exported():
    """What the gauge says: the engines that serve."""
    return [name for name in ("core", "aio") if metric("stepup_engine", engine=name)]


@pytest.mark.parametrize("version", sorted(CONFORMING))
def test_auto_takes_core_on_a_grpcio_that_conforms(monkeypatch, version):
    monkeypatch.setattr(grpc, "__version__", version)
    assert engine_of("auto") is CoreEngine
    assert exported() == ["core"]


@pytest.mark.parametrize("version", [NEXT, f"{OLDEST}.dev1", f"{max(CONFORMING, key=Version)}rc1"])
def test_auto_takes_aio_on_any_other_grpcio(monkeypatch, version):
    monkeypatch.setattr(grpc, "__version__", version)
    assert engine_of("auto") is AioEngine
    assert exported() == ["aio"]


@pytest.mark.parametrize("version", [OLDEST, NEXT])
@pytest.mark.parametrize(("asked", "made"), [("core", CoreEngine), ("aio", AioEngine)])
def test_what_is_asked_for_serves_on_every_grpcio(monkeypatch, version, asked, made):
    monkeypatch.setattr(grpc, "__version__", version)
    assert engine_of(asked) is made
    assert exported() == [asked]


@pytest.mark.parametrize(("asked", "engine"), [("auto", "aio"), ("core", "core"), ("aio", "aio")])
def test_the_choice_is_logged_with_what_it_was_made_of(monkeypatch, asked, engine):
    monkeypatch.setattr(grpc, "__version__", NEXT)
    with capture_logs() as lines:
        engine_of(asked)
    [line] = lines
    assert line == {
        "event": "engine_chosen",
        "log_level": "info",
        "engine": engine,
        "asked": asked,
        "grpcio": NEXT,
    }


def test_the_grpcio_of_this_environment_is_judged_by_its_own_version():
    expected = CoreEngine if grpc.__version__ in CONFORMING else AioEngine
    assert engine_of("auto") is expected


def test_no_version_conforms_that_is_not_supported():
    assert [each for each in CONFORMING if each not in SUPPORTED] == []


def test_no_version_is_supported_that_the_generated_code_refuses():
    [least] = [each.version for each in SUPPORTED if each.operator == ">="]
    assert least == OLDEST
