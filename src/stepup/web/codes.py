"""A code that a person types into a form, and the answer of the core in words for its field."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from markupsafe import Markup

from stepup.client import NotVerified, StepUpError, Verified
from stepup.v1 import enrollment_service_pb2 as pb
from stepup.web.forms import Form
from stepup.web.texts import Texts
from stepup.web.visits import Visit

_CODE: Final = re.compile("[0-9]{6}")
_SAME_FORM: Final = timedelta(seconds=30)
"""How long a second submission of a form counts as the first one: an app shows a code as long."""


@dataclass(frozen=True, slots=True)
class RefusedCode:
    """Why a code was not accepted, for the macro `app_code`.

    Attributes:
        text: the reason, and what to do, in words.
        until: when the next code begins, or the lock ends; None if waiting does not help.
        asks_again: whether another code may be accepted now.
    """

    text: Markup
    until: Timestamp | None = None
    asks_again: bool = True


async def give_code(visit: Visit, form: Form) -> Markup | None:
    """Give the code of a form to the core, as `try_code` does.

    Returns:
        None if the session is elevated; otherwise the problem, for the field `code`.

    Raises:
        StepUpError: there is no answer.
    """
    refused = await try_code(visit, form)
    return None if refused is None else refused.text


async def try_code(visit: Visit, form: Form) -> RefusedCode | None:
    """Give the code of a form to the core: a right code elevates the session that opened the visit.

    A form that was sent twice counts as accepted both times: the core refuses the second code with
    the time of the next one, but the session is elevated since a moment (S22). A wrong code never
    counts as accepted.

    Returns:
        None if the session is elevated.

    Raises:
        StepUpError: there is no answer.
    """
    code = form.code()
    if not is_code(code):
        return RefusedCode(problem_of_typing(visit.texts))
    answer = await visit.stepup.verify(None, code, metadata=visit.metadata)
    if isinstance(answer, Verified):
        return None
    if answer.next_code_after is not None and await _is_just_elevated(visit):
        return None
    return refused_code(visit.texts, answer)


async def _is_just_elevated(visit: Visit) -> bool:
    standing = await standing_of(visit)
    if standing is None or not standing.HasField("elevation"):
        return False
    age = datetime.now(UTC) - standing.elevation.verified_at.ToDatetime(UTC)
    return age < _SAME_FORM


async def standing_of(visit: Visit) -> pb.GetEnrollmentResponse | None:
    """Return the person's authenticator and elevation; None if the rules do not permit to read it.

    Raises:
        StepUpError: there is no answer.
    """
    try:
        return await visit.stepup.enrollment.get(metadata=visit.metadata)
    except StepUpError as error:
        if error.reason == "CALLER_NOT_PERMITTED":
            return None
        raise


def time_in(answer: Message, field: str) -> timedelta | None:
    """Return the duration in a field of an answer; None if the field is absent."""
    return getattr(answer, field).ToTimedelta() if answer.HasField(field) else None


def is_code(code: str) -> bool:
    """Whether an app can show this code."""
    return bool(_CODE.fullmatch(code))


def refused_code(texts: Texts, answer: NotVerified) -> RefusedCode:
    """Return the answer of the core to a code that it did not accept."""
    wait = answer.next_code_after if answer.retry_after is None else answer.retry_after
    asks_again = answer.outcome == "REJECTED" and answer.retry_after is None
    return RefusedCode(
        problem_of_code(texts, answer),
        None if wait is None else _after(wait),
        asks_again and bool(answer.attempts_remaining or wait is not None),
    )


def lock_of(texts: Texts, standing: pb.GetEnrollmentResponse) -> RefusedCode | None:
    """Return why the codes of an authenticator are not accepted now; None if they are."""
    active = standing.active
    if active.suspended:
        return refused_code(texts, NotVerified(outcome="SUSPENDED"))
    rest = active.locked_until.ToDatetime(UTC) - datetime.now(UTC)
    if not active.HasField("locked_until") or rest <= timedelta():
        return None
    return refused_code(texts, NotVerified(outcome="THROTTLED", retry_after=rest))


def _after(wait: timedelta) -> Timestamp:
    until = Timestamp()
    until.FromDatetime(datetime.now(UTC) + wait)
    return until


def problem_of_typing(texts: Texts) -> Markup:
    """Return that a code does not have six digits, in words."""
    return texts.gettext("Type the six digits that your authenticator app shows.")


def problem_of_code(texts: Texts, answer: NotVerified) -> Markup:  # one for each
    """Return why a code was not accepted, and what to do, in words."""
    if answer.outcome == "SUSPENDED":
        return texts.gettext(
            "Too many codes in a row were wrong, so your authenticator is suspended. Use your reset"
            " code in your account settings, or ask a Master Administrator to reset your"
            " authenticator."
        )
    if answer.outcome == "SESSION_SPENT":
        return texts.gettext(
            "Too many wrong codes came from this sign-in. Sign out of the console, sign in again,"
            " and then type a new code."
        )
    if answer.outcome == "NOT_ENROLLED":
        return texts.gettext("You have no authenticator yet. Set up your authenticator first.")
    if answer.retry_after is not None:
        return texts.gettext(
            "Too many codes were wrong. You can type a new code in %(time)s.",
            time=texts.duration(answer.retry_after),
        )
    if answer.next_code_after is not None:
        return texts.gettext(
            "This code has been used already, or its time is over. Wait for the next code, which"
            " comes in %(time)s.",
            time=texts.duration(answer.next_code_after),
        )
    if answer.attempts_remaining:
        return texts.ngettext(
            "The code is not right. Type the code that the app shows now. You have one more"
            " attempt.",
            "The code is not right. Type the code that the app shows now. You have %(n)s more"
            " attempts.",
            answer.attempts_remaining,
        )
    return texts.gettext(
        "The code is not right, and there are no more attempts in this sign-in. Sign out of the"
        " console, sign in again, and then type a new code."
    )
