"""An action as a block that runs only if it is allowed. A receipt proves that a run is a retry."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Final

from stepup.client.answers import Allowed
from stepup.client.errors import NotAllowedError
from stepup.client.requests import new_request_id
from stepup.client.synchronous.io import TIMEOUTS
from stepup.v1.step_up_service_pb2 import CheckStepUpRequest

if TYPE_CHECKING:
    from typing_extensions import Self

_SAME_REQUEST_FOR: Final = 50.0
"""Seconds for which the server certainly takes a request with the same id for the same request."""


class Action:
    """An action that may be tried again, because it timed out, without another code.

        action = stepup.action(actor, "response.run_osquery", target="host-7")
        with action:  # raises NotAllowedError or another StepUpError unless it may run
            run_osquery("host-7")

    The block runs only after an answer that is `Allowed`. If the block ends with a TimeoutError,
    the action keeps the receipt of that answer, and presents the receipt when the same object is
    entered again: within 60 minutes of the first try, and with the same session. If the block ends
    otherwise, the next try needs an elevation or an approval, as the first one did. Put a time
    limit into the block: around it, the block ends with CancelledError. An answer that is lost uses
    up no receipt, if the action is entered again within 50 seconds.

    An object is one action: it may be entered again after it ended, and not twice at a time.

    Attributes:
        receipt: what the next try presents; empty if the action did not time out. Another process
            passes it to `client.action(..., receipt=...)`. Keep it as confidential as the action.
    """

    def __init__(
        self,
        check: Callable[[CheckStepUpRequest], Allowed],
        request: CheckStepUpRequest,
        receipt: str,
        timed_out: tuple[type[BaseException], ...],
    ) -> None:
        self.receipt = receipt
        self._check = check
        self._request = request
        self._timed_out: tuple[type[BaseException], ...] = (*TIMEOUTS, *timed_out)
        self._allowed: Allowed | None = None
        self._sent_at = 0.0
        self._is_running = False

    @property
    def allowed(self) -> Allowed:
        """The answer that allows the block that runs now.

        Raises:
            RuntimeError: no block runs.
        """
        if self._allowed is None:
            raise RuntimeError("the action has no answer outside of its block")
        return self._allowed

    def keep_receipt(self) -> None:
        """Say in the block that the action timed out, where no TimeoutError does."""
        self.receipt = self.allowed.receipt

    def __enter__(self) -> Self:
        """Ask whether the action may run.

        Raises:
            NotAllowedError: the person must do something first: see its `answer`.
            StepUpError: there is no answer, and the block does not run.
            RuntimeError: the action is running.
        """
        if self._is_running:
            raise RuntimeError("the action is running: make an object for each action")
        self._is_running = True
        try:
            self._allowed = self._check(self._next_request())
        except NotAllowedError:
            self._end()
            raise
        except BaseException:
            self._is_running = False  # the answer may be lost: the next try is the same request
            raise
        self.receipt = ""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if isinstance(error, self._timed_out):
            self.keep_receipt()
        self._end()

    def _next_request(self) -> CheckStepUpRequest:
        now = time.monotonic()
        if not self._request.request_id or now - self._sent_at > _SAME_REQUEST_FOR:
            self._request.request_id = new_request_id()
            self._sent_at = now
        self._request.actor.retry_receipt = self.receipt
        return self._request

    def _end(self) -> None:
        self._request.request_id = ""
        self._allowed = None
        self._is_running = False
