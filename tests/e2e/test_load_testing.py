"""What docs/load-testing.md shows is what happens."""

import shutil

import pytest
from stepup_tests.e2e.authenticator_app import seconds_left_at_least
from stepup_tests.e2e.readme import TITLE, examples, run_in_one_shell, section
from stepup_tests.places import ROOT

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

DOCUMENT = (ROOT / "docs" / "load-testing.md").read_text()
TOOLS = ("h2load", "curl")
LAST = "CompleteEnrollment"
PUBLISHED_METRICS = "127.0.0.1:9464"


def test_the_documented_load_is_answered_as_documented(start_server, tmp_path):
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        pytest.skip(f"{' and '.join(missing)} not installed")
    (tmp_path / "stepup.toml").write_text('[metrics]\nlisten = "127.0.0.1:0"\n')
    server = start_server("--config", str(tmp_path / "stepup.toml"))
    [served] = server.logged("metrics_are_served")
    tried = examples(section((ROOT / "README.md").read_text(), TITLE))
    last = next(number for number, each in enumerate(tried) if LAST in each.command)
    shown = [*tried[: last + 1], *examples(DOCUMENT)]
    seconds_left_at_least(15)
    outcomes = run_in_one_shell(
        [example.command.replace(PUBLISHED_METRICS, served["address"]) for example in shown],
        server,
        tmp_path,
    )
    unlike = [
        (example.command, example.says, status, output)
        for example, (status, output) in zip(shown, outcomes, strict=True)
        if status != "0" or not all(fragment in output for fragment in example.says)
    ]
    assert not unlike
    received, right = (
        output
        for example, (_, output) in zip(shown, outcomes, strict=True)
        if example.command.startswith(("grep -oP", "echo $(("))
    )
    assert int(received) == int(right) > 0
