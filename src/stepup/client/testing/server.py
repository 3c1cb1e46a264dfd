"""The real server for a test, and people with authenticators whose codes the test knows."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from stepup.client.asynchronous.client import AsyncStepUpClient
from stepup.client.synchronous.client import StepUpClient
from stepup.v1.actor_pb2 import ROLE_MASTER_ADMINISTRATOR, ActorContext
from stepup.v1.policy_service_pb2 import Policy, SelectedOperation

if TYPE_CHECKING:
    from collections.abc import Iterable

_STEP: Final = 30
_START_SECONDS: Final = 30.0


class RunningStepUp:
    """A server that runs until the end of a test.

    Attributes:
        target: its address.
        stepup: a client of it.
    """

    def __init__(self, target: str, stepup: StepUpClient) -> None:
        self.target = target
        self.stepup = stepup

    def async_client(self, **options: Any) -> AsyncStepUpClient:
        """Return a client of the server. The options are those of `AsyncStepUpClient`."""
        return AsyncStepUpClient(self.target, **options)

    def select(
        self, tenant_id: str, operations: Iterable[str], *, every_time: Iterable[str] = ()
    ) -> None:
        """Turn MFA on for a tenant, and let operations need a code or a challenge.

        It replaces the tenant's policy. Call it before a person of the tenant acts: a policy that
        gets weaker needs the code of an administrator.
        """
        administrator = ActorContext(
            tenant_id=tenant_id,
            user_id="administrator-of-the-test",
            session_id="setting-up",
            role=ROLE_MASTER_ADMINISTRATOR,
        )
        etag = self.stepup.policy.get(tenant_id=tenant_id).policy.etag
        selected = [
            *(SelectedOperation(operation=each) for each in operations),
            *(SelectedOperation(operation=each, every_time=True) for each in every_time),
        ]
        self.stepup.policy.update(
            administrator,
            policy=Policy(enabled=True, operations=selected, etag=etag),
            update_mask=["enabled", "operations"],
        )

    def enrol(self, actor: ActorContext) -> EnrolledPerson:
        """Register an authenticator for a person, in a session that no test uses."""
        return EnrolledPerson(self.stepup, actor)


class EnrolledPerson:
    """A person with an authenticator. No code of it has been used.

    Attributes:
        actor: the person and the session.
    """

    def __init__(self, stepup: StepUpClient, actor: ActorContext) -> None:
        self.actor = actor
        self._stepup = stepup
        self._reset_code = ""
        self._secret = b""
        self._used_step = 0
        self._enrol()

    def code(self) -> str:
        """Return a code that is right now and was not returned before, without a wait.

        The second code within 30 seconds is that of a new authenticator, which replaces the one
        before: the person's elevations and challenges end.
        """
        step = int(time.time()) // _STEP
        if step <= self._used_step:
            self._enrol()
            step = int(time.time()) // _STEP
        self._used_step = step
        return _code_at(self._secret, step)

    def _enrol(self) -> None:
        """Register an authenticator, confirmed by the code of the step before the present one."""
        wizard = ActorContext()
        wizard.CopyFrom(self.actor)
        wizard.session_id = f"enrolling-{time.monotonic_ns()}"
        enrollment = self._stepup.enrollment
        screen = enrollment.begin(wizard, reset_code=self._reset_code)
        self._secret = base64.b32decode(screen.secret)
        confirmed = None
        while confirmed is None or not confirmed.reset_code:
            # The clock may reach the next step between the code and its check.
            code = _code_at(self._secret, int(time.time()) // _STEP - 1)
            confirmed = enrollment.confirm(wizard, code=code)
        self._reset_code = confirmed.reset_code
        enrollment.complete(wizard, reset_code_stored=True)
        self._stepup.sign_out(wizard)
        self._used_step = 0


def _code_at(secret: bytes, step: int) -> str:
    """Return the code of a time step (RFC 6238, SHA-1, six digits)."""
    digest = hmac.digest(secret, step.to_bytes(8, "big"), hashlib.sha1)
    offset = digest[-1] & 0xF
    number = int.from_bytes(digest[offset : offset + 4], "big") & 0x7FFFFFFF
    return f"{number % 1_000_000:06d}"


@contextmanager
def running_server(**variables: str) -> Iterator[RunningStepUp]:
    """Run a server with embedded stores on a free port of this machine, until the block ends.

    It serves callers without credentials, and takes codes of the step before the present one, so
    that nobody waits for a code.

    Args:
        variables: further settings, such as `STEPUP_VERIFICATION__RETRY_WINDOW="PT5M"`.

    Raises:
        RuntimeError: the server does not start; its message is in the error.
    """
    with tempfile.TemporaryDirectory(prefix="stepup-test-") as data_dir:
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith("STEPUP_")
        }
        environment |= {"STEPUP_VERIFICATION__BACK_STEPS": "1", **variables}
        command = [sys.executable, "-m", "stepup", "serve", "--listen", "127.0.0.1:0"]
        command += ["--insecure", "--data-dir", data_dir, "--log-level", "error"]
        with subprocess.Popen(  # noqa: S603  # our own command
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        ) as process:
            try:
                assert process.stdout is not None  # noqa: S101  # for mypy: it is a pipe
                announced = process.stdout.readline()
                if not announced:
                    _, problem = process.communicate()
                    raise RuntimeError(f"the server does not start: {problem.strip()}")
                target = announced.split()[-1]
                with StepUpClient(target) as stepup:
                    yield RunningStepUp(target, stepup)
            finally:
                process.terminate()
