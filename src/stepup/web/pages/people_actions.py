"""What an administrator does for another person: end a lock, reset an authenticator, forget.

The user id of the person is in the query or in a field of the form: it may have a slash, and every
other character of printable ASCII.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

from markupsafe import Markup
from starlette.responses import Response

from stepup.client import StepUpError
from stepup.v1 import people_service_pb2 as pb
from stepup.web.codes import give_code, standing_of
from stepup.web.forms import Form
from stepup.web.rendering import render, to
from stepup.web.routing import Handler, PageRoute
from stepup.web.texts import N_, Texts
from stepup.web.visits import Visit

Problems = Sequence[tuple[str, Markup]]
"""What is wrong with a form: the name of a field, or empty text, and the words."""


@dataclass(frozen=True, slots=True)
class PersonAction:
    """Something that an administrator does for another person.

    Attributes:
        title, effects, button: texts that are not translated yet.
        done: the key of `DONE` after the action.
        is_for: whether the action makes sense for a person. The core decides.
        ask: calls the core: the visit, the user id, and the reason.
    """

    path: str
    title: str
    effects: tuple[str, ...]
    button: str
    done: str
    is_for: Callable[[pb.Person], bool]
    ask: Callable[[Visit, str, str], Awaitable[object]]


def _is_locked(person: pb.Person) -> bool:
    """Whether an unlock helps: it ends no suspension."""
    states = person.states
    return pb.PERSON_STATE_LOCKED in states and pb.PERSON_STATE_SUSPENDED not in states


ACTIONS: Final = (
    PersonAction(
        "unlock",
        N_("End the lock"),
        (
            N_("The person can type codes again at once."),
            N_("The wrong codes of the last 24 hours no longer count."),
            N_(
                "The count of wrong codes in a row stays. If more wrong codes follow, the"
                " authenticator is suspended."
            ),
            N_("Each person can be unlocked three times within 24 hours."),
        ),
        N_("End the lock"),
        "unlocked",
        _is_locked,
        lambda visit, user_id, reason: visit.stepup.people.unlock(
            user_id=user_id, reason=reason, metadata=visit.metadata
        ),
    ),
    PersonAction(
        "reset",
        N_("Reset the authenticator"),
        (
            N_("The authenticator and the reset code of the person stop working at once."),
            N_(
                "Protected operations need a new confirmation, also where the person gave a code"
                " before."
            ),
            N_("Requests that wait for the person's approval end."),
            N_("The person must set up a new authenticator before the next protected operation."),
            N_("The code at sign-in is off for this account until a new authenticator is set up."),
        ),
        N_("Reset the authenticator"),
        "reset",
        lambda person: person.HasField("enrollment"),
        lambda visit, user_id, reason: visit.stepup.enrollment.admin_reset(
            user_id=user_id, reason=reason, metadata=visit.metadata
        ),
    ),
    PersonAction(
        "forget",
        N_("Forget the person"),
        (
            N_("This is for people who have left. You cannot undo it."),
            N_(
                "The authenticator, the reset code, an open setup, locks, and requests that wait"
                " for approval are deleted."
            ),
            N_("Events keep the user id, and no longer show the devices of the person."),
            N_(
                "A later person with the same user id starts from the beginning, without extra time"
                " to set up an authenticator."
            ),
            N_("The account in your console stays. Remove the account there."),
        ),
        N_("Forget the person"),
        "forgotten",
        lambda _: True,
        lambda visit, user_id, reason: visit.stepup.people.forget(
            user_id=user_id, reason=reason, metadata=visit.metadata
        ),
    ),
)


async def find_person(visit: Visit, user_id: str) -> pb.Person | None:
    """Return the person with an id; None if the core knows nobody by this text."""
    try:
        answer = await visit.stepup.people.get(user_id=user_id, metadata=visit.metadata)
    except StepUpError as error:
        if _is_unknown(error):
            return None
        raise
    return answer.person


def unknown_person(visit: Visit, user_id: str) -> Response:
    """The page that says that the core knows nobody by this id."""
    return render(visit, "people_unknown.html", 404, user_id=user_id)


def _is_unknown(error: StepUpError) -> bool:
    return error.reason == "UNKNOWN_PERSON" or error.field == "user_id"


def _showing(action: PersonAction) -> Handler:
    async def show(visit: Visit, form: Form) -> Response:
        """Say what the action will do, and ask for the reason."""
        if not form["user"]:
            return to(visit)
        person = await find_person(visit, form["user"])
        if person is None:
            return unknown_person(visit, form["user"])
        if person.user_id == visit.session.user_id or not action.is_for(person):
            return to(visit, "person", user=person.user_id)
        return await _page(visit, action, form)

    return show


def _doing(action: PersonAction) -> Handler:
    async def do(visit: Visit, form: Form) -> Response:
        """Do the action. If the session is not elevated, the code of the form elevates it first."""
        user_id = form["user"]
        try:
            problem = await _attempt(visit, action, form)
        except StepUpError as error:
            if _is_unknown(error):
                return unknown_person(visit, user_id)
            if error.details.get("fault") == "NO_AUTHENTICATOR":  # such as a form sent twice
                return to(visit, "person", done="no_authenticator", user=user_id)
            problems = problems_of(visit.texts, error)
            if not problems:
                raise
            return await _page(visit, action, form, problems)
        if problem is not None:
            return await _page(visit, action, form, [("code", problem)])
        if action.done == "forgotten":  # the person has no page any more
            return to(visit, done=action.done)
        return to(visit, "person", done=action.done, user=user_id)

    return do


async def _attempt(visit: Visit, action: PersonAction, form: Form) -> Markup | None:
    """Do the action, by the code of the form only where the core demands one.

    So a form that is sent twice does not use the code twice, and a form without a reason uses none.

    Returns:
        What is wrong with the code; None if the action is done.

    Raises:
        StepUpError: the action is not done, or there is no answer.
    """
    try:
        await action.ask(visit, form["user"], form["reason"])
    except StepUpError as error:
        is_by_code = error.details.get("next_step") == "VERIFY_OTP"
        if not is_by_code or "code" not in form:
            raise
    else:
        return None
    problem = await give_code(visit, form)
    if problem is None:
        await action.ask(visit, form["user"], form["reason"])
    return problem


def problems_of(texts: Texts, error: StepUpError) -> Problems:
    """Return what the person can do about an error of an action; nothing for any other error."""
    if error.field == "reason":
        return [("reason", texts.gettext("Give a reason, in one line of at most 512 characters."))]
    if error.reason == "ELEVATION_REQUIRED":
        if error.details.get("next_step") == "ENROLL":
            return [("", texts.gettext("You need an authenticator of your own for this."))]
        return [("code", texts.gettext("Type a code from your authenticator app."))]
    if error.reason == "NOT_FOR_ONESELF":
        return [("", texts.gettext("You cannot do this for yourself."))]
    if error.reason == "UNLOCK_LIMIT":
        if error.retry_after is None:
            text = texts.gettext("This person was unlocked three times within 24 hours.")
        else:
            text = texts.gettext(
                "This person was unlocked three times within 24 hours. The next unlock is possible"
                " in %(time)s.",
                time=texts.duration(error.retry_after),
            )
        return [("", text)]
    if error.details.get("fault") == "SUSPENDED":
        return [("", texts.gettext("The authenticator is suspended. Only a reset helps."))]
    return []


async def _page(
    visit: Visit, action: PersonAction, form: Form, problems: Problems = ()
) -> Response:
    own = await standing_of(visit)
    return render(
        visit,
        "people_action.html",
        status=422 if problems else 200,
        action=action,
        user_id=form["user"],
        reason=form["reason"],
        problems=problems,
        errors=dict(problems),
        needs_code=own is None or not own.HasField("elevation"),
        needs_authenticator=own is not None and not own.HasField("active"),
    )


ROUTES: Final = tuple(
    route
    for action in ACTIONS
    for route in (
        PageRoute(action.path, _showing(action)),
        PageRoute(action.path, _doing(action), method="POST"),
    )
)
