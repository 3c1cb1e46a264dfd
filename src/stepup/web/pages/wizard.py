"""The wizard: a new authenticator, step by step. All pages but two lead to it.

The core knows how far a person has come. Each GET asks the core, and shows that step or leads to
the step. A secret is on its own step and nowhere else (S6, S11). No GET shows a reset code again,
but the app's next code gets a new one.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Final
from urllib.parse import quote

from starlette.responses import Response

from stepup.client import NotVerified, StepUpError
from stepup.v1 import actor_pb2
from stepup.v1 import enrollment_service_pb2 as pb
from stepup.v1 import portal_service_pb2 as portal_pb
from stepup.web.codes import give_code, problem_of_code, problem_of_typing
from stepup.web.forms import Form
from stepup.web.rendering import render, to
from stepup.web.reset_codes import problem_of_reset_code
from stepup.web.routing import PageRoute
from stepup.web.texts import N_
from stepup.web.visits import Visit

_LIFETIME: Final = timedelta(minutes=10)
"""How long the core keeps a wizard, and for how long its completion may be repeated."""
_WHY: Final[Mapping[str, str]] = {
    "ended": N_(
        "Your setup has ended: it lasts 10 minutes, and takes at most 5 wrong codes. Nothing has"
        " changed. You can begin again."
    ),
    "changed": N_(
        "This setup cannot be finished, because your authenticator has changed meanwhile: you set"
        " up another one elsewhere, or an administrator reset it. If that was not you, tell your"
        " administrator."
    ),
}
"""Why a person is back at the first step, by `why` of the address."""

SAML: Final = frozenset({actor_pb2.ACCOUNT_TYPE_SAML, actor_pb2.ACCOUNT_TYPE_SAML_GROUP})
"""The accounts that give no code at sign-in."""

Problems = Mapping[str, str]
"""What is wrong with a form, by its fields."""
_NONE: Final[Problems] = {}


async def show_install(visit: Visit, form: Form) -> Response:
    """Show which app to install. A person who replaces an authenticator proves first who acts."""
    return _install(visit, await _standing(visit), form)


async def begin(visit: Visit, form: Form) -> Response:
    """Open the wizard, by a code or the reset code if an authenticator is in force."""
    try:
        begun = await visit.stepup.enrollment.begin(
            reset_code=form["reset_code"], metadata=visit.metadata
        )
    except StepUpError as error:
        if error.field == "reset_code":
            problem = problem_of_reset_code(visit.texts, pb.RESET_OUTCOME_MISTYPED)
            return _install(visit, await _standing(visit), form, {"reset_code": problem})
        if error.reason != "ELEVATION_REQUIRED":
            return await _elsewhere(visit, error)
        if refusal := await give_code(visit, form):
            return _install(visit, await _standing(visit), form, {"code": refusal})
        begun = await visit.stepup.enrollment.begin(metadata=visit.metadata)
    if begun.state != pb.ENROLLMENT_STATE_UNSPECIFIED:
        return to(visit, _path_of(begun.state))
    waits = begun.retry_after.ToTimedelta() if begun.HasField("retry_after") else None
    problem = problem_of_reset_code(visit.texts, begun.outcome, waits)
    return _install(visit, await _standing(visit), form, {"reset_code": problem})


async def show_scan(visit: Visit, _: Form) -> Response:
    """Show the secret, to scan or to type, while it is not confirmed (S6)."""
    standing = await _standing(visit)
    if standing.pending.state != pb.ENROLLMENT_STATE_PENDING:
        return _present(visit, standing)
    return await _scan(visit, standing)


async def show_confirmed(visit: Visit, _: Form) -> Response:
    """Show what to do where the app is connected, and the reset code is out of sight."""
    standing = await _standing(visit)
    if standing.pending.state != pb.ENROLLMENT_STATE_CONFIRMED:
        return _present(visit, standing)
    return _confirmed(visit, standing)


async def confirm(visit: Visit, form: Form) -> Response:
    """Give a code of the new app to the core, and show the reset code that the core answers."""
    try:
        answer = await visit.stepup.enrollment.confirm(code=form.code(), metadata=visit.metadata)
    except StepUpError as error:
        if error.field != "code":
            return await _elsewhere(visit, error)
        problem = problem_of_typing(visit.texts)
    else:
        if answer.outcome == pb.CONFIRM_OUTCOME_CONFIRMED:
            return render(
                visit,
                "wizard_reset_code.html",
                reset_code=answer.reset_code,
                pending=(await _standing(visit)).pending,
            )
        waits = answer.HasField("next_code_after")
        if not (waits or answer.attempts_remaining):
            return to(visit, "wizard", why="ended")
        problem = problem_of_code(
            visit.texts,
            NotVerified(
                outcome="REJECTED",
                attempts_remaining=answer.attempts_remaining,
                next_code_after=answer.next_code_after.ToTimedelta() if waits else None,
            ),
        )
    standing = await _standing(visit)
    if standing.pending.state == pb.ENROLLMENT_STATE_PENDING:
        return await _scan(visit, standing, {"code": problem})
    if standing.pending.state == pb.ENROLLMENT_STATE_CONFIRMED:
        return _confirmed(visit, standing, {"code": problem})
    return _present(visit, standing)


async def complete(visit: Visit, form: Form) -> Response:
    """Put the new authenticator in force. A second time it changes nothing."""
    if not form["stored"]:
        standing = await _standing(visit)
        if standing.pending.state != pb.ENROLLMENT_STATE_CONFIRMED:
            return _present(visit, standing)
        problem = visit.texts.gettext("Confirm that you have stored your reset code.")
        return _confirmed(visit, standing, {"stored": problem})
    try:
        await visit.stepup.enrollment.complete(reset_code_stored=True, metadata=visit.metadata)
    except StepUpError as error:
        return await _elsewhere(visit, error)
    return to(visit, "wizard/done")


async def show_done(visit: Visit, _: Form) -> Response:
    """Show what the new authenticator means from now on."""
    standing = await _standing(visit)
    if standing.HasField("pending") or not standing.HasField("active"):
        return _present(visit, standing)
    return render(
        visit,
        "wizard_done.html",
        active=standing.active,
        is_saml=visit.session.account_type in SAML,
        leaves=visit.session.page == portal_pb.PORTAL_PAGE_ENROLL,
    )


async def cancel(visit: Visit, _: Form) -> Response:
    """Abandon the wizard; an authenticator in force stays as it is."""
    try:
        await visit.stepup.enrollment.cancel(metadata=visit.metadata)
    except StepUpError as error:
        return await _elsewhere(visit, error)
    return to(visit, done="setup_cancelled")


async def _standing(visit: Visit) -> pb.GetEnrollmentResponse:
    return await visit.stepup.enrollment.get(metadata=visit.metadata)


def _path_of(state: pb.EnrollmentState.ValueType) -> str:
    """The path of the step that comes next."""
    return "wizard/scan" if state == pb.ENROLLMENT_STATE_PENDING else "wizard/reset-code"


def _present(visit: Visit, standing: pb.GetEnrollmentResponse) -> Response:
    """Lead to the step that the person has reached."""
    if standing.HasField("pending"):
        return to(visit, _path_of(standing.pending.state))
    if standing.HasField("active"):
        active_for = datetime.now(UTC) - standing.active.activated_at.ToDatetime(UTC)
        if active_for < _LIFETIME or visit.session.page == portal_pb.PORTAL_PAGE_CHALLENGE:
            return to(visit, "wizard/done")
    return to(visit, "wizard", why="ended")


async def _elsewhere(visit: Visit, error: StepUpError) -> Response:
    """Lead to where a refused step has its explanation, or raise the error if no page has it."""
    fault = error.details.get("fault", "") if error.reason == "ENROLLMENT_STATE" else ""
    if fault == "OTHER_AUTHENTICATOR":
        await visit.stepup.enrollment.cancel(metadata=visit.metadata)
        return to(visit, "wizard", why="changed")
    # The page of a challenge is refused the wizard as soon as there is an authenticator.
    is_closed = visit.session.page == portal_pb.PORTAL_PAGE_CHALLENGE
    if fault or (is_closed and error.reason == "CALLER_NOT_PERMITTED"):
        standing = await _standing(visit)
        if fault or standing.HasField("active"):
            return _present(visit, standing)
    raise error


def _install(
    visit: Visit, standing: pb.GetEnrollmentResponse, form: Form, problems: Problems = _NONE
) -> Response:
    if visit.session.page == portal_pb.PORTAL_PAGE_CHALLENGE and standing.HasField("active"):
        return to(visit)
    why = _WHY.get(form["why"])
    return render(
        visit,
        "wizard_install.html",
        422 if problems else 200,
        problems=problems,
        why=visit.texts.gettext(why) if why else "",
        is_replacing=standing.HasField("active"),
        needs_proof=standing.HasField("active")
        and not (standing.HasField("elevation") or standing.HasField("pending")),
        by_reset_code=form["by"] == "reset-code" or "reset_code" in form,
    )


async def _scan(
    visit: Visit, standing: pb.GetEnrollmentResponse, problems: Problems = _NONE
) -> Response:
    try:
        begun = await visit.stepup.enrollment.begin(metadata=visit.metadata)
    except StepUpError as error:
        return await _elsewhere(visit, error)
    if not begun.secret:
        return to(visit, "wizard/reset-code")
    return render(
        visit,
        "wizard_scan.html",
        422 if problems else 200,
        problems=problems,
        secret=begun.secret,
        shown=in_groups(begun.secret),
        picture=picture_of(begun.qr_svg),
        pending=standing.pending,
        is_replacing=standing.HasField("active"),
    )


def _confirmed(
    visit: Visit, standing: pb.GetEnrollmentResponse, problems: Problems = _NONE
) -> Response:
    return render(
        visit,
        "wizard_confirmed.html",
        422 if problems else 200,
        problems=problems,
        pending=standing.pending,
    )


def in_groups(key: str) -> str:
    """A key in groups of four, as people read it."""
    return " ".join(key[at : at + 4] for at in range(0, len(key), 4))


def picture_of(svg: str) -> str:
    """The address of an SVG, for an image: scripts of an image do not run."""
    return f"data:image/svg+xml,{quote(svg)}"


ROUTES: Final = (
    PageRoute("wizard", show_install),
    PageRoute("wizard", begin, method="POST"),
    PageRoute("wizard/scan", show_scan),
    PageRoute("wizard/scan", confirm, method="POST"),
    PageRoute("wizard/reset-code", show_confirmed),
    PageRoute("wizard/reset-code", confirm, method="POST"),
    PageRoute("wizard/done", show_done),
    PageRoute("wizard/done", complete, method="POST"),
    PageRoute("wizard/cancel", cancel, method="POST"),
)
