"""A backend that lets stepup show its pages: one RPC and a redirect for each.

The sign-in is a stand-in: it believes the name in the address. Put the sign-in of your console in
its place, and keep the rest.
"""

import os
import secrets
from typing import Annotated

from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.responses import RedirectResponse

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
ADMINISTRATORS = {"ada"}

app = FastAPI()
stepup = AsyncStepUpClient.from_env()
sessions: dict[str, ActorContext] = {}


def person(request: Request) -> ActorContext:
    """Return the person of the console's own session, who is signed in."""
    try:
        return sessions[request.cookies["console"]]
    except KeyError:
        raise HTTPException(401, "sign in first: /sign-in/bob") from None


Person = Annotated[ActorContext, Depends(person)]


@app.get("/sign-in/{user_id}")
async def sign_in(user_id: str, then: str = "/") -> RedirectResponse:
    """Sign a person in. A stand-in: a real console checks a password here."""
    is_administrator = user_id in ADMINISTRATORS
    role = messages.ROLE_MASTER_ADMINISTRATOR if is_administrator else messages.ROLE_OTHER
    session_id = secrets.token_urlsafe(32)
    sessions[session_id] = ActorContext(
        tenant_id=TENANT, user_id=user_id, session_id=session_id, role=role
    )
    local = then if then.startswith("/") and not then.startswith(("//", "/\\")) else "/"
    answer = RedirectResponse(local, 303)
    answer.set_cookie("console", session_id, httponly=True, samesite="lax")
    return answer


@app.get("/mfa/{page}")
async def open_page(page: str, person: Person, back: str = "/") -> RedirectResponse:
    """Open a page of stepup for the person who is signed in."""
    if page not in PAGES:
        raise HTTPException(404)
    opened = await stepup.portal.create(person, page=PAGES[page], return_url=ORIGIN + back)
    return RedirectResponse(opened.url, 303)


@app.get("/approve/{challenge_id}")
async def open_challenge(challenge_id: str, person: Person) -> RedirectResponse:
    """Open the page of a challenge. Only the challenge's own user can answer there."""
    opened = await stepup.portal.create(
        person,
        page=portal.PORTAL_PAGE_CHALLENGE,
        challenge_id=challenge_id,
        return_url=f"{ORIGIN}/",
    )
    return RedirectResponse(opened.url, 303)


@app.get("/hosts/{host}/shell")
async def start_shell(host: str, person: Person) -> object:
    """Start a shell, or lead the person to the page that is missing, and back here."""
    try:
        await stepup.require(person, "response.start_remote_shell", target=host)
    except NotAllowedError as error:
        page = "enroll" if isinstance(error.answer, EnrollmentRequired) else "code"
        return await open_page(page, person, back=f"/hosts/{host}/shell")
    return {"shell": f"{host}/1"}


@app.get("/")
async def home(person: Person) -> dict[str, str]:
    return {"signed in": person.user_id}
