"""For tests of programs that ask for the step-up: no test waits for a code.

- `FakeStepUp` is a service in this process, with a clock that the test moves, answers that the test
  scripts, and failures. It decides by the rules that most programs meet, and it is reached through
  the real clients, over gRPC.
- `running_server` runs the real server of the same distribution, with the extra `server`, and
  `EnrolledPerson` is a person with an authenticator whose codes the test knows.
- `stepup.client.testing.fixtures` has both as fixtures of pytest.
"""

from stepup.client.testing.fake import FakeStepUp
from stepup.client.testing.fake_service import CODE, Asked, Failure
from stepup.client.testing.server import EnrolledPerson, RunningStepUp, running_server

__all__ = [
    "CODE",
    "Asked",
    "EnrolledPerson",
    "Failure",
    "FakeStepUp",
    "RunningStepUp",
    "running_server",
]
