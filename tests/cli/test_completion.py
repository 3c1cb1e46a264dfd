"""`stepup completion`, as a shell uses it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from stepup.cli.completion import Shell
from stepup.cli.main import app


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
@pytest.mark.parametrize(
    ("words", "completed"),
    [
        ("ctl policy show --profile p", "production"),
        ("ctl profile show p", "production"),
        ("doctor --profile p", "production"),
        ("ctl policy select response.run_y", "response.run_yara_rules"),
        ("policy simulate --select response.run_y", "response.run_yara_rules"),
        ("ctl check --operation response.run_y", "response.run_yara_rules"),
        ("ctl audit list --kind audit_p", "audit_pruned"),
    ],
)
def test_bash_completes_names_of_profiles_operations_and_kinds(tmp_path, words, completed):
    config = tmp_path / "ctl.toml"
    config.write_text("[profiles.production]\n[profiles.trial]\n", "utf-8")
    script = CliRunner().invoke(app, ["completion", "bash"]).stdout
    script += f"""
        COMP_WORDS=(stepup {words}); COMP_CWORD={len(words.split())}
        _stepup_completion stepup
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = os.environ | {"PATH": path, "STEPUP_CTL_CONFIG": str(config)}
    found = subprocess.run(
        ["bash", "-c", script], env=environment, stdout=subprocess.PIPE, check=True
    )
    assert found.stdout == f"{completed}\n".encode()


@pytest.mark.parametrize("shell", Shell)
def test_each_shell_has_a_script_and_nothing_is_installed(shell, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    result = CliRunner().invoke(app, ["completion", shell])
    assert "_STEPUP_COMPLETE=complete_" + shell in result.stdout
    assert list(tmp_path.iterdir()) == []
