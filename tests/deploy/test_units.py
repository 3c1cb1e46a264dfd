"""The units of deploy/systemd, as far as systemd judges them without starting them."""

import re
import shutil
import subprocess
import sys

import pytest
from stepup_tests.places import ROOT

UNITS = sorted((ROOT / "deploy" / "systemd").glob("*.service"))
MOST_EXPOSED = 15
"""In tenths of systemd's 0 to 10; below 2.0 systemd says OK."""

pytestmark = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed"
)
each_unit = pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)


def analyze(*arguments):
    return subprocess.run(
        ["systemd-analyze", *arguments], capture_output=True, text=True, timeout=60, check=False
    )


@each_unit
def test_systemd_understands_every_line(unit, tmp_path):
    assert len(UNITS) == 2
    installed = tmp_path / unit.name
    # The command has to exist.
    installed.write_text(unit.read_text().replace("/opt/stepup/bin/stepup", sys.executable))
    verified = analyze("verify", "--man=no", installed)
    assert (verified.returncode, verified.stderr) == (0, "")


@each_unit
def test_systemd_finds_little_exposed(unit):
    judged = analyze("security", "--offline=true", f"--threshold={MOST_EXPOSED}", unit)
    assert judged.returncode == 0, judged.stdout


@each_unit
def test_a_unit_is_ready_when_the_process_says_so_and_stays_up(unit):
    lines = unit.read_text().splitlines()
    assert {"Type=notify", "NotifyAccess=main", "Restart=always", "LimitCORE=0"} <= set(lines)
    [command] = re.findall(
        r"^ExecStart=/opt/stepup/bin/stepup (\w+)$", unit.read_text(), re.MULTILINE
    )
    assert command == {"stepup": "serve", "stepup-web": "web"}[unit.stem]
