"""The backend of a console: sign-in, prompt, wizard, sign-out, and an action that may need a code.

A guard answers 401 where a code or an authenticator is missing. The page then sends a code, or
leads the person through the wizard, and repeats its request.
"""

from typing import Annotated

import sessions
from fastapi import Body, Depends, FastAPI, Request, Response

from stepup.client import AsyncStepUpClient, StepUpError, Verified
from stepup.client.guards.fastapi import FastApiGuard

app = FastAPI()
app.include_router(sessions.router)  # begins a sign-in: checks the password, and sets the cookie
stepup = AsyncStepUpClient.from_env()
sign_in_guard = FastApiGuard(app, stepup, actor=sessions.person_signing_in)
guard = FastApiGuard(app, stepup, actor=sessions.person)
may_start_shell = guard("response.start_remote_shell", target=lambda r: r.path_params["host"])
Session = Annotated[sessions.Session, Depends()]
Code = Annotated[str, Body(embed=True)]


@app.post("/sign-in/finish", dependencies=[sign_in_guard("account.sign_in")])
async def finish_sign_in(session: Session) -> None:
    session.finish_sign_in()


@app.post("/code")
async def send_code(code: Code, session: Session) -> dict[str, str]:
    answer = await stepup.verify(session.actor, code)
    if isinstance(answer, Verified):
        session.rotate()
        return {"kind": "verified"}
    return {"kind": "not_verified", "outcome": answer.outcome}


@app.post("/wizard/begin")
async def begin_wizard(session: Session) -> dict[str, str]:
    screen = await stepup.enrollment.begin(session.actor)
    return {"secret": screen.secret, "qr_svg": screen.qr_svg}


@app.post("/wizard/confirm")
async def confirm_wizard(code: Code, session: Session) -> dict[str, str]:
    answer = await stepup.enrollment.confirm(session.actor, code=code)
    return {"reset_code": answer.reset_code}  # empty: the code was wrong


@app.post("/wizard/complete")
async def complete_wizard(session: Session) -> None:
    await stepup.enrollment.complete(session.actor, reset_code_stored=True)
    session.rotate()


@app.post("/hosts/{host}/shell", dependencies=[may_start_shell])
async def start_shell(host: str) -> dict[str, str]:
    return {"session": f"{host}/1"}


@app.post("/sign-out")
async def sign_out(session: Session) -> None:
    session.end()
    await stepup.sign_out(session.actor)


@app.exception_handler(StepUpError)
async def refuse(_request: Request, error: StepUpError) -> Response:
    """Answer where a call outside of the guards fails: there is nothing to run."""
    return Response(status_code=503 if error.retryable else 409)
