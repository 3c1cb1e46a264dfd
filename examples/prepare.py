"""Make a tenant for the examples: MFA on, two operations selected, an authenticator for Bob.

    export STEPUP_CLIENT_TARGET=127.0.0.1:50051
    eval "$(.venv/bin/python examples/prepare.py)"

It prints what the shell keeps: TENANT, and SECRET for Bob's authenticator app.
"""

import secrets
import time

import pyotp

from stepup.client import ActorContext, StepUpClient
from stepup.client.messages import actor, policy

SELECTED = ("response.run_osquery", "response.start_remote_shell")


def prepare(stepup: StepUpClient, tenant: str) -> str:
    """Return the secret of Bob's authenticator."""
    ada = ActorContext(
        tenant_id=tenant, user_id="ada", session_id="ada-1", role=actor.ROLE_MASTER_ADMINISTRATOR
    )
    etag = stepup.policy.get(tenant_id=tenant).policy.etag
    operations = [policy.SelectedOperation(operation=each) for each in SELECTED]
    wanted = policy.Policy(enabled=True, operations=operations, etag=etag)
    stepup.policy.update(ada, policy=wanted, update_mask=["enabled", "operations"])

    bob = ActorContext(tenant_id=tenant, user_id="bob", session_id="bob-enrols")
    secret = stepup.enrollment.begin(bob).secret
    while not stepup.enrollment.confirm(bob, code=pyotp.TOTP(secret).now()).reset_code:
        time.sleep(1)  # the code's 30 seconds ended on the way
    stepup.enrollment.complete(bob, reset_code_stored=True)
    stepup.sign_out(bob)
    return secret


if __name__ == "__main__":
    tenant = f"tenant-{secrets.token_hex(4)}"
    with StepUpClient.from_env() as stepup:
        print(f"export TENANT={tenant} SECRET={prepare(stepup, tenant)}")
