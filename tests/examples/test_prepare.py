"""examples/prepare.py makes the tenant in which a reader tries the examples."""

import uuid

import pyotp

from stepup.client import ActorContext, StepUpRequired


def test_bob_has_an_authenticator_and_must_give_a_code(example, stepup_server):
    stepup, tenant = stepup_server.stepup, f"tenant-{uuid.uuid4().hex}"
    secret = example("prepare").prepare(stepup, tenant)
    assert len(pyotp.TOTP(secret).now()) == 6
    bob = ActorContext(tenant_id=tenant, user_id="bob", session_id="bob-monday")
    for operation in ("response.run_osquery", "response.start_remote_shell"):
        answer = stepup.check(bob, operation, target="host-7")
        assert isinstance(answer, StepUpRequired)
        assert not answer.needs_challenge
