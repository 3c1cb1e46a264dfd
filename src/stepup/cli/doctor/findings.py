"""What the examinations of `stepup doctor` find, and how the command reports it."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Final, TypeAlias

import typer

from stepup.cli import output
from stepup.domain.errors import StoreUnavailableError
from stepup.settings import ConfigurationError
from stepup.system import pem

EXAMINATION_SECONDS: Final = 20
"""How long one examination may take. All of them run at the same time."""
CLOCK_WARNING: Final = timedelta(seconds=1)
"""From this offset of a clock on, the finding is a warning."""
CLOCK_ERROR: Final = timedelta(seconds=5)
"""From this offset on it is an error: S17 accepts no larger one, and a code changes every 30 s."""
EXPIRES_SOON: Final = timedelta(days=14)
"""As in the alert StepUpCertificateExpiresSoon."""


class State(StrEnum):
    """How a thing is. `UNKNOWN` means that it cannot be found out."""

    OK = "ok"
    UNKNOWN = "unknown"
    WARNING = "warning"
    ERROR = "error"


Remark: TypeAlias = tuple[State, str]
"""A state, and a sentence about what was found and what to do."""


def ok(explanation: str) -> Remark:
    """The thing is as it must be."""
    return State.OK, explanation


def unknown(explanation: str) -> Remark:
    """The state of the thing cannot be found out."""
    return State.UNKNOWN, explanation


def warning(explanation: str) -> Remark:
    """The thing works, and an operator should do something about it."""
    return State.WARNING, explanation


def error(explanation: str) -> Remark:
    """Something does not work."""
    return State.ERROR, explanation


@dataclass(frozen=True, slots=True)
class Finding:
    """A remark of an examination.

    Attributes:
        check: what was examined, such as `database`.
        state: how the thing is.
        explanation: what was found, and what to do.
    """

    check: str
    state: State
    explanation: str


@dataclass(frozen=True, slots=True)
class Examination:
    """Something to examine: its name, and the function that makes its remarks.

    The function may raise ConfigurationError or StoreUnavailableError for what ends it early.
    """

    check: str
    remarks: Callable[[], AsyncIterator[Remark]]


async def examined(examinations: Sequence[Examination]) -> list[Finding]:
    """Run examinations at the same time; return all findings in the order of the examinations."""
    found = await asyncio.gather(*map(_examine, examinations))
    return [finding for findings in found for finding in findings]


async def examined_in_turn(examinations: Sequence[Examination]) -> list[Finding]:
    """Run examinations one after the other, up to the first that finds an error."""
    found: list[Finding] = []
    for examination in examinations:
        found += await _examine(examination)
        if any(finding.state is State.ERROR for finding in found):
            break
    return found


def exit_with(findings: Sequence[Finding], *, as_json: bool = False) -> None:
    """Write the findings to standard output, one in each line; end the command if one is an error.

    Raises:
        typer.Exit: there is an error; status 1.
    """
    for finding in findings:
        if as_json:
            output.write_json(asdict(finding))
        else:
            output.write(f"{finding.state:<8} {finding.check}: {finding.explanation}")
    if any(finding.state is State.ERROR for finding in findings):
        raise typer.Exit(1)


def of_clock(offset: timedelta) -> Remark:
    """The remark about a clock that is ahead of ours by an offset."""
    seconds = offset.total_seconds()
    size = abs(offset)
    if size < CLOCK_WARNING:
        return ok(f"its clock differs by {abs(seconds):.3f} s")
    state = State.ERROR if size >= CLOCK_ERROR else State.WARNING
    where = "ahead of" if seconds > 0 else "behind"
    return (
        state,
        f"its clock is {abs(seconds):.1f} s {where} the clock of this machine: set both with NTP",
    )


def of_expiry(ends: datetime, what: str) -> Remark:
    """The remark about a certificate, which `what` names, that expires at an instant."""
    left = ends - datetime.now(UTC)
    if left <= timedelta(0):
        return error(f"{what} expired on {ends:%Y-%m-%d %H:%M} UTC: renew it")
    if left < EXPIRES_SOON:
        return warning(f"{what} expires on {ends:%Y-%m-%d %H:%M} UTC: renew it")
    return ok(f"{what} is valid until {ends:%Y-%m-%d}")


def of_own_certificate(file: Path) -> Remark:
    """The remark about the dates of an operator's certificate, the first one of a file."""
    try:
        leaf = pem.parse_certificates(pem.read(file))[0]
    except pem.PemError as problem:
        return error(f"{file} {problem}")
    return of_expiry(leaf.not_valid_after_utc, f"{file}: your certificate")


async def _examine(examination: Examination) -> list[Finding]:
    findings: list[Finding] = []

    def add(state: State, explanation: str) -> None:
        findings.append(Finding(examination.check, state, explanation))

    try:
        async with asyncio.timeout(EXAMINATION_SECONDS):
            async for state, explanation in examination.remarks():
                add(state, explanation)
    except ConfigurationError as failure:
        for problem in str(failure).split("\n"):
            add(State.ERROR, problem)
    except StoreUnavailableError as failure:
        add(State.ERROR, failure.fault)
    except TimeoutError:
        add(State.ERROR, f"no result within {EXAMINATION_SECONDS} s: check the network")
    except Exception as failure:  # noqa: BLE001  # the other examinations matter, too
        # Without the error's text, which could contain values (S11).
        add(State.ERROR, f"the examination failed: {type(failure).__name__}")
    return findings
