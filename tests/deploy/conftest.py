"""The tools that check deploy/ are in an environment of their own, which `make deploy-check` names.

Without it nothing here is collected.
"""

import os
from pathlib import Path

import pytest
from stepup_tests.deploy.tools import Tools

collect_ignore_glob = [] if "STEPUP_DEPLOY_TOOLS" in os.environ else ["test_*.py"]


@pytest.fixture(scope="session")
def tools():
    return Tools(Path(os.environ["STEPUP_DEPLOY_TOOLS"]).resolve())
