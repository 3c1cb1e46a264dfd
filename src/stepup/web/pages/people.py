"""The page `people`: authenticators, people without one, locks, and one person."""

from typing import Final

from markupsafe import Markup
from starlette.responses import Response

from stepup.client import StepUpError
from stepup.v1 import people_service_pb2 as pb
from stepup.web.forms import Form
from stepup.web.pages import people_actions
from stepup.web.pages.people_actions import ACTIONS, find_person, unknown_person
from stepup.web.rendering import render, to
from stepup.web.routing import PageRoute
from stepup.web.texts import N_, Texts
from stepup.web.visits import Visit

PAGE_SIZE: Final = 50
STATES: Final = {
    "enrolled": (pb.PERSON_STATE_ENROLLED, N_("Authenticator set up")),
    "pending": (pb.PERSON_STATE_PENDING, N_("Setup is open")),
    "not_enrolled": (pb.PERSON_STATE_NOT_ENROLLED, N_("Asked, no authenticator")),
    "in_grace": (pb.PERSON_STATE_IN_GRACE, N_("Still has time to set up")),
    "locked": (pb.PERSON_STATE_LOCKED, N_("Locked for a time")),
    "suspended": (pb.PERSON_STATE_SUSPENDED, N_("Suspended")),
}
"""The states by name: a name is a part of addresses, and a field of `PeopleCounts`."""


async def show(visit: Visit, form: Form) -> Response:
    """Show a page of the people in a state. The first page has the counts of all states."""
    state = form["state"] if form["state"] in STATES else ""
    try:
        answer = await visit.stepup.people.list(
            state=STATES[state][0] if state else pb.PERSON_STATE_UNSPECIFIED,
            page_size=PAGE_SIZE,
            page_token=form["from"],
            metadata=visit.metadata,
        )
    except StepUpError as error:
        if error.field == "page_token":  # of another list
            return to(visit, state=state)
        raise
    return render(
        visit,
        "people.html",
        people=[
            (person, _states_of(person), times_of(visit.texts, person)) for person in answer.people
        ],
        counts=answer.counts if answer.HasField("counts") else None,
        states={name: text for name, (_, text) in STATES.items()},
        state=state,
        is_first=not form["from"],
        next_token=answer.next_page_token,
    )


async def show_person(visit: Visit, form: Form) -> Response:
    """Show one person, and what an administrator may do for this person."""
    user_id = form["user"].strip()  # no id begins or ends with a blank; what people paste may
    if not user_id:
        return to(visit)
    person = await find_person(visit, user_id)
    if person is None:
        return unknown_person(visit, user_id)
    return render(
        visit,
        "people_person.html",
        person=person,
        states=_states_of(person),
        times=times_of(visit.texts, person),
        actions=[action for action in ACTIONS if action.is_for(person)],
        is_self=person.user_id == visit.session.user_id,
    )


def _states_of(person: pb.Person) -> list[str]:
    """The states of a person, as texts that are not translated yet."""
    return [text for state, text in STATES.values() if state in person.states]


def times_of(texts: Texts, person: pb.Person) -> list[tuple[Markup, str]]:
    """When what holds for a person began or ends: names and times in words."""
    times = []
    if person.HasField("enrollment"):
        since = texts.instant(person.enrollment.activated_at)
        times.append((texts.gettext("Authenticator since"), since))
    if person.enrollment.HasField("locked_until"):
        until = texts.instant(person.enrollment.locked_until)
        times.append((texts.gettext("Locked until"), until))
    if person.HasField("pending_until"):
        until = texts.instant(person.pending_until)
        times.append((texts.gettext("Setup is open until"), until))
    if person.HasField("first_asked_at"):
        times.append((texts.gettext("First asked"), texts.instant(person.first_asked_at)))
    if person.HasField("last_asked_at"):
        times.append((texts.gettext("Last asked"), texts.day(person.last_asked_at)))
    return times


ROUTES: Final[tuple[PageRoute, ...]] = (
    PageRoute("", show),
    PageRoute("person", show_person),
    *people_actions.ROUTES,
)
