"""The engines on every grpcio that is supported: `python -m engine_matrix [version ...]`.

For each version an environment beside `.venv`: what the lock has, but this grpcio and what goes
with it. In it everything runs that needs a server in the same process, on the core engine.
"""

import os
import shutil
import subprocess
import sys
import tomllib
import venv
from dataclasses import dataclass
from xml.etree import ElementTree as ET

import orjson
from packaging.requirements import Requirement
from packaging.version import Version
from rich.console import Console
from rich.table import Table
from stepup_tests.places import ROOT

from stepup.rpc.engine.choice import CONFORMING

PLACE = ROOT / ".matrix"
FAMILY = ("grpcio", "grpcio-health-checking", "grpcio-reflection", "grpcio-status")
"""What is released together: the newest of each that a grpcio can carry goes with it."""
SUITE = ("--numprocesses=auto", "--no-cov", "-p", "no:cacheprovider", "tests/rpc")


@dataclass(frozen=True)
class Outcome:
    """How the suite ended on a version; without any test where it could not be installed."""

    version: str
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    trouble: str = ""

    @property
    def conforms(self):
        return self.passed > 0 and not self.failed and not self.trouble


def supported():
    """The versions of the index that pyproject.toml allows, oldest first; no previews."""
    listed = _pip("index", "versions", "grpcio", "--json", capture_output=True).stdout
    allowed = requirement("grpcio").specifier
    return sorted(allowed.filter(orjson.loads(listed)["versions"]), key=Version)


def requirement(name):
    """What pyproject.toml says of a dependency of the server."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = map(Requirement, project["optional-dependencies"]["server"])
    [found] = [each for each in wanted if each.name == name]
    return found


def outcome_of(version):
    """Install a version, and run the suite on it."""
    directory = PLACE / version
    shutil.rmtree(directory, ignore_errors=True)
    venv.create(directory)
    try:
        _install(directory / "bin" / "python", version)
    except subprocess.CalledProcessError as error:
        return Outcome(version, trouble=f"could not be installed: {error}")
    report = directory / "report.xml"
    suite = subprocess.run(
        [directory / "bin" / "pytest", *SUITE, f"--junit-xml={report}"],
        cwd=ROOT,
        env=os.environ | {"STEPUP_TEST_ENGINE": "core"},
        check=False,
    )
    if not report.exists():
        return Outcome(version, trouble=f"the suite ended with {suite.returncode}")
    [counted] = ET.parse(report).getroot().iter("testsuite")  # noqa: S314  # our own
    tests, skipped = int(counted.get("tests")), int(counted.get("skipped"))
    failed = int(counted.get("failures")) + int(counted.get("errors"))
    return Outcome(version, tests - skipped - failed, failed, skipped)


def _install(python, version):
    locked = ("--no-deps", "--require-hashes", "--requirement", ROOT / "requirements" / "dev.txt")
    _pip("--python", python, "install", "--quiet", *locked)
    family = (f"{FAMILY[0]}=={version}", *(f"{name}<={version}" for name in FAMILY[1:]))
    _pip("--python", python, "install", "--quiet", "--no-deps", "--upgrade", *family)
    ours = ("--no-deps", "--no-build-isolation", "--editable", ROOT)
    subprocess.run([python, "-m", "pip", "install", "--quiet", *ours], check=True)
    _pip("--python", python, "check")
    # The engine is chosen by what grpcio says of itself.
    said = subprocess.run(
        [python, "-c", "import grpc; print(grpc.__version__)"],
        capture_output=True,
        check=True,
        text=True,
    ).stdout.strip()
    if said != version:
        raise subprocess.CalledProcessError(1, f"grpcio {version} calls itself {said}")


def _pip(*arguments, **options):
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments]
    return subprocess.run(command, check=True, **options)


def main(versions):
    """Print what passed; returns whether the engine believes the same."""
    outcomes = [outcome_of(version) for version in versions or supported()]
    table = Table("grpcio", "passed", "failed", "skipped", "auto takes", "")
    for each in outcomes:
        taken = "core" if each.version in CONFORMING else "aio"
        verdict = "conforms" if each.conforms else each.trouble or "does not conform"
        table.add_row(
            each.version, *map(str, (each.passed, each.failed, each.skipped)), taken, verdict
        )
    Console().print(table)
    wrong = [each.version for each in outcomes if each.conforms != (each.version in CONFORMING)]
    if wrong:
        Console().print(f"CONFORMING in choice.py is wrong about {', '.join(wrong)}")
    return not wrong


if __name__ == "__main__":
    sys.exit(not main(sys.argv[1:]))
