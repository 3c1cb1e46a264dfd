"""How handlers answer: a page, another page of the visit, or the way back to the console."""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

import jinja2
from markupsafe import Markup
from starlette.responses import HTMLResponse, RedirectResponse, Response

from stepup.client import StepUpError
from stepup.web.cookies import without_cookie
from stepup.web.forms import Form
from stepup.web.site import Site
from stepup.web.texts import N_, Texts
from stepup.web.visits import Visit

TEMPLATES: Final = Path(__file__).with_name("templates")
DONE: Final[Mapping[str, str]] = {
    "saved": N_("Saved."),
    "unlocked": N_("The lock has ended."),
    "reset": N_("The authenticator is reset. The person can set up a new one."),
    "no_authenticator": N_("This person has no authenticator any more."),
    "forgotten": N_("The person is forgotten."),
    "mfa_on": N_("MFA is on for your account."),
    "mfa_off": N_("MFA is off for your account."),
    "removed": N_("Your authenticator is removed, and MFA is off for your account."),
    "reset_code_stored": N_("Your new reset code is in force."),
    "setup_cancelled": N_("The setup is cancelled. Nothing has changed."),
    "no_events": N_("There are no later events to download."),
}
"""What a page says after a POST that did something, by `done` of the address. Pages add theirs."""


def templates() -> jinja2.Environment:
    """Return the environment of the templates: everything is escaped (S21)."""
    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        loader=jinja2.FileSystemLoader(TEMPLATES),
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=["jinja2.ext.i18n"],
    )
    environment.filters["bdi"] = bdi
    return environment


def bdi(text: object) -> Markup:
    """Return text that a person chose, escaped, so that its direction changes nothing around it."""
    return Markup("<bdi>{}</bdi>").format(text)


def render(visit: Visit, template: str, status: int = 200, **values: object) -> Response:
    """Return a page of a visit. The template has `visit`, `session`, `texts`, and the values."""
    done = DONE.get(visit.done)
    return HTMLResponse(
        page(
            visit.site,
            visit.texts,
            template,
            {
                "visit": visit,
                "session": visit.session,
                "done": done and visit.texts.gettext(done),
                **values,
            },
        ),
        status,
    )


def page(site: Site, texts: Texts, template: str, values: Mapping[str, object]) -> str:
    """Return the HTML of a page, of a visit or of none."""
    shared = {
        "site": site,
        "texts": texts,
        "_": texts.gettext,
        "gettext": texts.gettext,
        "ngettext": texts.ngettext,
        "visit": None,
        "session": None,
        "done": None,
    }
    return site.templates.get_template(template).render({**shared, **values})


def to(visit: Visit, path: str = "", done: str = "", **query: str) -> Response:
    """Return a redirection to a page of the visit (303). A POST that did something ends with it.

    Args:
        visit: the visit.
        path: the path of a route.
        done: a key of `DONE`.
        query: further parts of the address.
    """
    if done:
        query["done"] = done
    return RedirectResponse(visit.url(path, **query), 303)


async def leave(visit: Visit, _: Form | None = None) -> Response:
    """End the session, and return a redirection to the console (303). It is a handler, too."""
    with suppress(StepUpError):  # the session ends by itself soon
        await visit.stepup.portal.end(metadata=visit.metadata)
    return without_cookie(visit.site, visit.id, RedirectResponse(visit.session.return_url, 303))
