"""What is remembered of a person's codes, so that honest mistakes never add up to a lock (S22)."""

from collections.abc import Mapping
from dataclasses import field, replace
from datetime import datetime
from types import MappingProxyType
from typing import Final

from stepup.domain.actor import SessionHash
from stepup.domain.throttle import FAILURES_PER_WINDOW
from stepup.domain.values import value

REMEMBERED_SESSIONS: Final = 20
"""Of one person. To forget one means that a code that it repeats counts as a replayed one."""


@value
class UsedCode:
    """The code that a session last used with success, by its time step: no code is stored (S11).

    `used_at` is when it was received, by the clock of the server that accepted it.
    """

    session_hash: SessionHash
    step: int
    used_at: datetime


@value
class ForgivableFailure:
    """A failure that counts until a right code forgives it.

    `step` is the step of the refused code. No code of an earlier step forgives the failure. A
    guesser would learn from the counters that the refused code is right in a later step.
    """

    session_hash: SessionHash
    failed_at: datetime
    step: int


@value
class CodeHistory:
    """The codes that sessions used, failures that may be forgiven, and rejections on record.

    `used` has the latest one last, one per session. `noted` has, by cause, the time step in which a
    rejection was last put on record that may come without end, as it costs no attempt.
    """

    used: tuple[UsedCode, ...] = ()
    forgivable: tuple[ForgivableFailure, ...] = ()
    noted: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))

    def used_step(self, session_hash: SessionHash) -> int | None:
        """The time step of the code that the session last used."""
        return next((each.step for each in self.used if each.session_hash == session_hash), None)

    def forgiven_by(self, step: int) -> tuple[ForgivableFailure, ...]:
        """The failures that the right code of a step forgives: those whose codes it uses up."""
        return tuple(each for each in self.forgivable if each.step <= step)

    def after_use(self, code: UsedCode) -> "CodeHistory":
        """The history after a right code, less the failures that it forgives."""
        others = (each for each in self.used if each.session_hash != code.session_hash)
        return CodeHistory(
            (*others, code)[-REMEMBERED_SESSIONS:],
            tuple(each for each in self.forgivable if each.step > code.step),
            self.noted,
        )

    def after_failure(self, failure: ForgivableFailure) -> "CodeHistory":
        """The history after a failure that may be forgiven."""
        # The 24 hours hold no more failures than these (S4).
        return replace(self, forgivable=(*self.forgivable, failure)[-FAILURES_PER_WINDOW:])

    def note(self, cause: str, step: int) -> "CodeHistory | None":
        """The history with a rejection on record; None if one of its cause is, in this step.

        Clocks of servers may lie in neighbouring steps; a clock that is further back was set.
        """
        noted = self.noted.get(cause)
        if noted is not None and noted - 1 <= step <= noted:
            return None
        return replace(self, noted=MappingProxyType({**self.noted, cause: step}))
