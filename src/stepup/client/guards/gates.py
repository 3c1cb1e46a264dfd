"""The answer in force and the maps of methods to operations, for all guards."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from os import PathLike

    from stepup.client.answers import Allowed

_ALLOWED: Final[ContextVar[Allowed]] = ContextVar("stepup_allowed")


def allowed() -> Allowed:
    """Return the answer that allowed the present call, for its receipt and its decision id.

    Raises:
        LookupError: no guard has allowed the present call.
    """
    return _ALLOWED.get()


@contextmanager
def in_force(answer: Allowed) -> Iterator[None]:
    """Let `allowed` return an answer while the block runs."""
    token = _ALLOWED.set(answer)
    try:
        yield
    finally:
        # A stream may end in another thread or task than it began in: each has its own context.
        with suppress(ValueError):
            _ALLOWED.reset(token)


def write_method_map(methods: Mapping[str, str | None], path: str | PathLike[str]) -> None:
    """Write the `method_map` of a guard to a JSON file, in the order of the names.

    `stepup coverage` compares such maps with the recorded decisions, and finds operations that no
    program asks about.
    """
    text = json.dumps({"methods": dict(sorted(methods.items()))}, indent=2)
    Path(path).write_text(text + "\n", encoding="utf-8")


@dataclass(frozen=True)
class Gate:
    """What a method needs before it runs.

    Args:
        operation: the catalogue id of the action, such as `response.run_osquery`.
        target: returns the object of the action, or a digest of its parameters, at most 256 bytes,
            from the request. Without it the target is empty, and an approved challenge cannot name
            the action.
    """

    operation: str
    target: Callable[[Any], str] | None = None

    def target_of(self, request: Any) -> str:
        """Return the target of a request.

        Raises:
            ValueError: the function found none. An empty target would be that of any such action.
        """
        if self.target is None:
            return ""
        target = self.target(request)
        if not target:
            raise ValueError(f"the target function of {self.operation} returned no target")
        return target


def gate_of(needed: Gate | str) -> Gate:
    """Return the gate of an operation without a target, or the gate itself."""
    return Gate(needed) if isinstance(needed, str) else needed
