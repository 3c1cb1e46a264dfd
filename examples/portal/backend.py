"""A backend that lets stepup show its pages: one RPC and a redirect for each.

The sign-in is a stand-in, which believes the name in the address: put your own in its place.
"""

import os
import secrets
from html import escape
from typing import Annotated

from fastapi import Depends, FastAPI, HTTPException, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from stepup.client import ActorContext, AsyncStepUpClient, EnrollmentRequired, NotAllowedError
from stepup.client.messages import actor as messages
from stepup.client.messages import portal

ORIGIN = os.environ.get("ORIGIN", "http://127.0.0.1:8091")
TENANT = os.environ.get("TENANT", "acme")
PAGES = {
    "code": portal.PORTAL_PAGE_STEP_UP,
    "enroll": portal.PORTAL_PAGE_ENROLL,
    "account": portal.PORTAL_PAGE_ACCOUNT,
    "policy": portal.PORTAL_PAGE_POLICY,
}
ROLES = {"ada": messages.ROLE_MASTER_ADMINISTRATOR}

app = FastAPI()
stepup = AsyncStepUpClient.from_env()
sessions: dict[str, ActorContext] = {}  # by cookie


def person(request: Request) -> ActorContext:
    """Return the person of the console's own session, who is signed in."""
    if (actor := sessions.get(request.cookies.get("console", ""))) is None:
        raise HTTPException(401, "sign in first: /sign-in/bob")
    return actor


Person = Annotated[ActorContext, Depends(person)]


@app.get("/sign-in/{user_id}")
async def sign_in(user_id: str, then: str = "/") -> Response:
    """Sign a person in. A stand-in: a real console checks a password here."""
    role = ROLES.get(user_id, messages.ROLE_OTHER)
    session = secrets.token_urlsafe(32)  # stays the same while the cookie changes
    actor = ActorContext(tenant_id=TENANT, user_id=user_id, session_id=session, role=role)
    local = then if then.startswith("/") and not then.startswith(("//", "/\\")) else "/"
    return set_cookie(RedirectResponse(local, 303), actor)


def set_cookie(answer: Response, actor: ActorContext) -> Response:
    """Give a new cookie, `lax` as people return from another site. Yours is `secure`, too."""
    sessions[cookie := secrets.token_urlsafe(32)] = actor
    answer.set_cookie("console", cookie, httponly=True, samesite="lax")
    return answer


async def page_for(
    actor: ActorContext, page: portal.PortalPage.ValueType, back: str = "/", about: str = ""
) -> Response:
    back = ORIGIN + back
    opened = await stepup.portal.create(actor, page=page, return_url=back, challenge_id=about)
    return RedirectResponse(opened.url, 303)


@app.get("/mfa/{page}")
async def open_page(page: str, person: Person) -> Response:
    return await page_for(person, PAGES.get(page, portal.PORTAL_PAGE_ACCOUNT))


@app.get("/approve/{challenge_id}")
async def open_challenge(challenge_id: str, person: Person) -> Response:
    """Open the page of a challenge. Only the challenge's own user can answer there."""
    return await page_for(person, portal.PORTAL_PAGE_CHALLENGE, about=challenge_id)


@app.get("/hosts/{host}/shell")
async def show_button(request: Request, host: str, person: Person) -> Response:
    """Show the button of the action, also to a person who returns, with a new cookie."""
    sessions.pop(request.cookies["console"], None)
    form = f'<form method="post"><button>Shell on {escape(host)}</button></form>'
    return set_cookie(HTMLResponse(form), person)


@app.post("/hosts/{host}/shell")
async def start_shell(request: Request, host: str, person: Person) -> Response:
    """Start a shell, or lead the person to the page that is missing."""
    try:
        await stepup.require(person, "response.start_remote_shell", target=host)
    except NotAllowedError as error:
        page = "enroll" if isinstance(error.answer, EnrollmentRequired) else "code"
        return await page_for(person, PAGES[page], request.url.path)
    return Response(f"{host}/1")


@app.get("/")
async def home(person: Person) -> str:
    return person.user_id
