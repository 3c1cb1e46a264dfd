"""What a server is asked, as bytes of the wire, and whether its answer is right."""

from dataclasses import dataclass
from typing import Protocol

from stepup.v1 import step_up_service_pb2 as pb
from tools.bench import cerbos
from tools.bench.answers import WrongAnswersError, check_answer
from tools.bench.variants import Variant


class Question(Protocol):
    """A call that every answer to is known beforehand."""

    method: str
    """Its path, such as `/package.Service/Method`."""
    payload: bytes

    def check(self, variant: Variant, answer: bytes) -> None:
        """Check one answer.

        Raises:
            WrongAnswersError: the answer is not what the variant has to answer.
        """
        ...


@dataclass(frozen=True)
class CheckQuestion:
    """`CheckStepUp` for a person who is elevated."""

    payload: bytes
    method: str = "/stepup.v1.StepUpService/CheckStepUp"

    def check(self, variant, answer):
        """See `Question`."""
        check_answer(variant, pb.CheckStepUpResponse.FromString(answer))


@dataclass(frozen=True)
class CerbosQuestion:
    """`CheckResources` of one resource and one action, which the policy allows."""

    payload: bytes = cerbos.question()
    method: str = cerbos.METHOD

    def check(self, variant, answer):
        """See `Question`."""
        if not cerbos.is_allowed(answer):
            raise WrongAnswersError(f"{variant.name}: the answer is not EFFECT_ALLOW: {answer!r}")
