"""`stepup demo`."""

import pytest
from stepup_tests.e2e.processes import PROGRAMS, processes_in, run, temporary_directory
from stepup_tests.proxy import recording_proxy

pytestmark = pytest.mark.e2e


def test_the_demo_plays_the_main_job_and_leaves_nothing_behind(tmp_path):
    with temporary_directory() as scratch, recording_proxy() as proxy:
        settings = {"TMPDIR": str(scratch), **proxy.environment}
        demo = run([PROGRAMS / "stepup", "demo"], tmp_path, settings)
        left = processes_in(scratch), list(scratch.iterdir())
    assert demo.returncode == 0, demo.stdout + demo.stderr
    for said in (
        "ENROLLMENT_REQUIRED",
        "STEP_UP_REQUIRED",
        "VERIFIED",
        "ALLOWED",
        "EXEMPT_MANAGED_SERVICES",
        "EXEMPT_AUTOMATIC_PLAYBOOK",
        "EXEMPT_TIMED_OUT_RETRY",
        "SIGN_IN_NOT_SUPPORTED_FOR_SAML",
    ):
        assert said in demo.stdout
    assert left == ([], [])
    assert not proxy.read  # codes and secrets are on loopback in plaintext (S11)
