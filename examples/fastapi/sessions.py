"""The parts that a console has without stepup: passwords, and sessions that a cookie names."""

import os
import secrets
import uuid
from typing import Annotated

from fastapi import APIRouter, Body, HTTPException, Request, Response

from stepup.client import ActorContext

TENANT = os.environ.get("TENANT", "acme")
PASSWORDS = {"alice": b"correct horse"}  # yours are hashed, in a database
actors: dict[str, ActorContext] = {}  # by cookie; yours are in a store, and expire
signed_in: set[str] = set()  # ids of the sessions whose sign-in is finished
router = APIRouter()


@router.post("/sign-in")
def begin_sign_in(
    user: Annotated[str, Body()], password: Annotated[str, Body()], response: Response
) -> None:
    if not secrets.compare_digest(PASSWORDS.get(user, os.urandom(16)), password.encode()):
        raise HTTPException(403, "The name or the password is wrong.")
    actor = ActorContext(tenant_id=TENANT, user_id=user, session_id=str(uuid.uuid4()))
    set_cookie(response, actor)


def set_cookie(response: Response, actor: ActorContext) -> None:
    actors[cookie := secrets.token_urlsafe()] = actor
    response.set_cookie("session", cookie, httponly=True, secure=True, samesite="strict")


def person_signing_in(request: Request) -> ActorContext:
    """Return the person whose password was right: the sign-in may still need a code."""
    if (actor := actors.get(request.cookies.get("session", ""))) is None:
        raise HTTPException(401, "Sign in.")
    return actor


def person(request: Request) -> ActorContext:
    """Return the person who is signed in."""
    if (actor := person_signing_in(request)).session_id not in signed_in:
        raise HTTPException(401, "Finish the sign-in.")
    return actor


class Session:
    """The session of a request. Its methods change the session, and the cookie in the response."""

    def __init__(self, request: Request, response: Response) -> None:
        self.actor = person_signing_in(request)
        self._cookie = request.cookies["session"]
        self._response = response

    def finish_sign_in(self) -> None:
        signed_in.add(self.actor.session_id)
        self.rotate()

    def rotate(self) -> None:
        """Replace the cookie, so that a copy of the earlier cookie does not share the elevation.

        The session id, which stepup knows, stays the same: the elevation belongs to it.
        """
        self.end()
        set_cookie(self._response, self.actor)

    def end(self) -> None:
        if actors.pop(self._cookie, None) is None:  # another request has ended it
            raise HTTPException(401, "Sign in.")
