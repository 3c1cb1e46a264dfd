"""What commands write about calls that fail: a sentence, what to do next, and the exit code."""

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import typer
from google.protobuf import json_format

from stepup.cli.ctl.profiles import Profile
from stepup.cli.output import write_problem
from stepup.client import StepUpError
from stepup.domain.errors import InvalidValueError

REFUSED: Final = 1
"""The exit code of a command that the rules of the service refuse."""
FAILED: Final = 2
"""The exit code of a command that failed for another reason, such as its options or the network."""


@dataclass(frozen=True, slots=True)
class Problem:
    """What an operator reads about a call that failed.

    Attributes:
        sentence: what happened.
        advice: what to do next; empty if the sentence says so.
        exit_code: `REFUSED` or `FAILED`.
    """

    sentence: str
    advice: str
    exit_code: int


ROLE_ADVICE: Final = (
    "An operator may only strengthen. A Master Administrator of the business has to make this"
    " change: in the policy panel, or by UpdatePolicy from an elevated session."
)
ID_ADVICE: Final = "Compare the tenant and the user id with your directory."
_REFUSALS: Final = {
    "ROLE_REQUIRED": ROLE_ADVICE,
    "ETAG_MISMATCH": "The policy changed meanwhile. Read it again, and repeat the command.",
    "UNKNOWN_PERSON": ID_ADVICE,
    "UNLOCK_LIMIT": "A user is unlocked at most 3 times a day: wait, or reset the enrollment.",
    "CHALLENGE_STATE": "It is unknown or no longer pending: list the challenges of the user.",
    "ENROLLMENT_STATE": "The person has no authenticator, or no wizard in this state.",
    "ELEVATION_REQUIRED": "A person has to do this, from a session that a code elevated.",
    "MFA_ENFORCED_BY_POLICY": "The policy of the business demands MFA.",
    "NOT_FOR_ONESELF": "Another person has to do this.",
    "UNKNOWN_TENANT": "This deployment serves only businesses that have a policy.",
}
_FAILURES: Final = {
    "CALLER_UNAUTHENTICATED": (
        "The server does not accept your certificate or token. Check its dates, and the callers"
        " in the configuration of the server."
    ),
    "CALLER_NOT_PERMITTED": (
        "The configuration of the server does not permit your caller this method, in this tenant."
        " `stepup check-config` on a server explains the rules."
    ),
    "CLAIM_NOT_PERMITTED": "Your caller needs the claim `operator` in the server's configuration.",
    "UNKNOWN_OPERATION": "`stepup ctl operations` lists the operations of this server.",
    "STORE_UNAVAILABLE": (
        "The server cannot reach its stores. Its log says why; `stepup doctor` on the server tries"
        " them all."
    ),
    "DRAINING": "The server is about to end: try again.",
    "OVERLOADED": "Try again later.",
    "CALLER_RATE_LIMITED": "Your caller is over its rate: try again later.",
    "REQUEST_UNDER_WAY": "Try again in a moment.",
    "INTERNAL": "The log of the server has the error id.",
}
_UNNAMED: Final = Profile()
_EFFECT_UNKNOWN: Final = (
    "The server did not answer in time. It may have made the change: check this before you repeat"
    " the command."
)

_UNREADABLE: Final = (
    ArithmeticError,
    AttributeError,
    InvalidValueError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
    json_format.Error,
)
"""What code raises for an answer in a form that no server of this version sends."""
_LONGEST_DETAIL: Final = 200


def problem_of(error: StepUpError, connection: Profile = _UNNAMED) -> Problem:
    """The sentence, the advice and the exit code for an error of a call on a connection."""
    if error.reason in _REFUSALS:
        return Problem(str(error), _REFUSALS[error.reason], REFUSED)
    advice = _FAILURES.get(error.reason, "")
    if not error.reason and error.code == "UNAVAILABLE":
        advice = _advice_without_answer(connection)
    elif not advice and error.code in ("DEADLINE_EXCEEDED", "CANCELLED"):
        advice = _EFFECT_UNKNOWN
    return Problem(str(error), advice, FAILED)


def _advice_without_answer(connection: Profile) -> str:
    if connection.certificate is not None:
        from stepup.cli.doctor.findings import (  # noqa: PLC0415  # most commands need no parser
            State,
            of_own_certificate,
        )

        state, sentence = of_own_certificate(connection.certificate)
        if state is State.ERROR:
            return f"{sentence}."
    closes = "if it demands TLS" if connection.insecure else "for a certificate that it refuses"
    doctor = f"`stepup doctor --profile {shlex.quote(connection.name or 'NAME')}`"
    if connection.name is None:
        doctor = f"Put the connection into a profile of ctl.toml: {doctor}"
    return (
        f"No server answered, or it closed the connection, as it does {closes}. {doctor} tries the"
        " network and the certificates one by one."
    )


@contextmanager
def calls_reported(connection: Profile) -> Iterator[None]:
    """Write an error of a call, or of an answer that cannot be read, to standard error.

    Raises:
        typer.Exit: a call in the block failed; the status is that of its problem. Or the block
            failed otherwise; status 2, since 1 is the status of an answer.
    """
    try:
        yield
    except StepUpError as error:
        problem = problem_of(error, connection)
        write_problem(f"stepup: {problem.sentence}")
        if problem.advice:
            write_problem(f"  {problem.advice}")
        raise typer.Exit(problem.exit_code) from error
    except UnicodeEncodeError as error:
        write_problem("stepup: an option or argument has a character that is not text in UTF-8")
        raise typer.Exit(FAILED) from error
    except _UNREADABLE as error:
        detail = f"{type(error).__name__}: {str(error)[:_LONGEST_DETAIL]}"
        write_problem(f"stepup: the answer of the server cannot be read ({detail})")
        write_problem("  Compare the address, and the versions of this command and of the server.")
        raise typer.Exit(FAILED) from error
