"""The page `events`: the audit events of the business, the newest first, and their download."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final
from zoneinfo import ZoneInfo

from markupsafe import Markup
from starlette.responses import Response

from stepup.client import StepUpError
from stepup.v1 import audit_service_pb2 as pb
from stepup.web.forms import Form
from stepup.web.pages.events_export import download
from stepup.web.pages.events_words import KINDS, described, kind_name
from stepup.web.rendering import render, to
from stepup.web.routing import PageRoute
from stepup.web.visits import Visit

PAGE_SIZE: Final = 25
_FILTERS: Final = ("since", "until", "user", "kind")
_FIELDS: Final[Mapping[str, str]] = {
    "filter.start_time": "since",
    "filter.end_time": "until",
    "filter.user_id": "user",
    "filter.kinds[0]": "kind",
}
"""The fields of the form by those of the request."""
_DIGITS: Final = 18
_VALUES: Final = {kind_name(kind): kind for kind in pb.AuditEventKind.values()}

Errors = Mapping[str, Markup]


async def show(visit: Visit, form: Form) -> Response:
    """Show a page of the events that the filter keeps, the newest first."""
    selected, errors = _filter_of(visit, form)
    if errors:
        return _page(visit, form, pb.ListAuditEventsResponse(), errors)
    try:
        answer = await visit.stepup.audit.list(
            tenant_id="",
            filter=selected,
            page_size=PAGE_SIZE,
            page_token=form["from"],
            newest_first=True,
            metadata=visit.metadata,
        )
    except StepUpError as error:
        if error.field == "page_token":  # of another filter
            return to(visit, **_query(form))
        field = _FIELDS.get(error.field)
        if field is None:
            raise
        text = visit.texts.gettext("Correct this field.")
        return _page(visit, form, pb.ListAuditEventsResponse(), {field: text})
    return _page(visit, form, answer)


async def export(visit: Visit, form: Form) -> Response:
    """Send all events after a number, the oldest first, as a file."""
    number = form["after"].strip() or "0"
    if not (number.isascii() and number.isdecimal() and len(number) <= _DIGITS):
        text = visit.texts.gettext("Type the number of an event, or nothing.")
        return _page(visit, form, pb.ListAuditEventsResponse(), {"after": text})
    found = await download(visit, int(number))
    return found if found is not None else to(visit, done="no_events")


def _page(
    visit: Visit, form: Form, answer: pb.ListAuditEventsResponse, errors: Errors | None = None
) -> Response:
    errors = errors or {}
    return render(
        visit,
        "events.html",
        status=422 if errors else 200,
        events=[described(visit.texts, event) for event in answer.events],
        kinds=_kinds(visit),
        values={name: form[name] for name in (*_FILTERS, "after")},
        errors=errors,
        first=visit.url(**_query(form)),
        next=visit.url(**_query(form), **{"from": answer.next_page_token}),
        is_first=not form["from"],
        next_token=answer.next_page_token,
    )


def _kinds(visit: Visit) -> Sequence[tuple[str, Markup]]:
    named = [(name, visit.texts.gettext(text)) for name, text in KINDS.items() if name in _VALUES]
    return [("", visit.texts.gettext("All events")), *named]


def _query(form: Form) -> dict[str, str]:
    return {name: form[name] for name in _FILTERS if form[name]}


def _filter_of(visit: Visit, form: Form) -> tuple[pb.AuditEventFilter, Errors]:
    selected = pb.AuditEventFilter(user_id=form["user"].strip())
    errors: dict[str, Markup] = {}
    if form["kind"] in _VALUES:
        selected.kinds.append(_VALUES[form["kind"]])
    # Where a clock was turned back, an hour comes twice: the filter keeps both hours.
    for name, stamp, fold in (("since", "start_time", 0), ("until", "end_time", 1)):
        if not form[name]:
            continue
        instant = instant_of(form[name], visit.texts.zone, fold)
        if instant is None:
            errors[name] = visit.texts.gettext("Type a date and a time: 2026-11-28 14:30.")
        else:
            getattr(selected, stamp).FromDatetime(instant)
    return selected, errors


def instant_of(text: str, zone: ZoneInfo, fold: int) -> datetime | None:
    """Return the instant of a local date and time; None if the text has none.

    Args:
        text: as browsers send it, `2026-11-28T14:30`, or with a space.
        zone: the zone of the person.
        fold: which hour is meant where a clock is turned back: 0 the first, 1 the second.
    """
    try:
        local = datetime.fromisoformat(text.strip())
        return None if local.tzinfo else local.replace(tzinfo=zone, fold=fold).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


ROUTES: Final[tuple[PageRoute, ...]] = (PageRoute("", show), PageRoute("export", export))
