"""Helm and the schemas of Kubernetes, as programs."""

import subprocess
from pathlib import Path

import yaml
from stepup_tests.places import ROOT

CHART = ROOT / "deploy" / "helm" / "stepup"
FULL = ("--values", CHART / "ci" / "full.yaml")


class Tools:
    """The programs of one directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def run(self, program, *arguments):
        """Run one to its end, whatever that is."""
        return subprocess.run(
            [self._directory / program, *arguments],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def rendered(self, *arguments):
        """The chart's objects with these values."""
        done = self.run("helm", "template", "stepup", CHART, "--namespace", "security", *arguments)
        assert not done.returncode, done.stderr
        return [each for each in yaml.safe_load_all(done.stdout) if each]

    def refusal(self, *arguments):
        """Why the chart is not rendered with these values."""
        done = self.run("helm", "template", "stepup", CHART, *arguments)
        assert done.returncode
        return done.stderr
