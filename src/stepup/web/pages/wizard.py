"""The wizard: a new authenticator, step by step. All pages but two lead to it.

The core knows how far a person has come. Each GET asks the core, and shows that step or leads to
the step. A secret is on its own step and nowhere else (S6, S11). No GET shows a reset code again,
but the app's next code gets a new one.
"""

from collections.abc import Mapping
from typing import Final
from urllib.parse import quote

from starlette.responses import Response

from stepup.client import NotVerified, StepUpError
from stepup.v1 import enrollment_service_pb2 as pb
from stepup.v1 import portal_service_pb2 as portal_pb
from stepup.web.codes import (
    RefusedCode,
    lock_of,
    problem_of_code,
    problem_of_typing,
    time_in,
    try_code,
)
from stepup.web.forms import Form
from stepup.web.pages.wizard_progress import SAML, WHY, elsewhere, path_of, present, progress_of
from stepup.web.rendering import render, to
from stepup.web.reset_codes import problem_of_reset_code
from stepup.web.routing import PageRoute
from stepup.web.visits import Visit

Problems = Mapping[str, str]
"""What is wrong with a form, by its fields."""
_NONE: Final[Problems] = {}


async def show_install(visit: Visit, form: Form) -> Response:
    """Show which app to install. A person who replaces an authenticator proves first who acts."""
    return await _install(visit, form)


async def begin(visit: Visit, form: Form) -> Response:
    """Open the wizard, by a code or the reset code if an authenticator is in force."""
    try:
        begun = await visit.stepup.enrollment.begin(
            reset_code=form["reset_code"], metadata=visit.metadata
        )
    except StepUpError as error:
        is_needed = error.reason == "ELEVATION_REQUIRED"
        if error.field == "reset_code" or (is_needed and "reset_code" in form):
            problem = problem_of_reset_code(visit.texts, pb.RESET_OUTCOME_MISTYPED)
            return await _install(visit, form, {"reset_code": problem})
        if not is_needed:
            return await elsewhere(visit, error)
        if refused := await try_code(visit, form):
            return await _install(visit, form, {"code": refused.text}, refused)
        begun = await visit.stepup.enrollment.begin(metadata=visit.metadata)
    if begun.state != pb.ENROLLMENT_STATE_UNSPECIFIED:
        return to(visit, path_of(begun.state))
    waits = time_in(begun, "retry_after")
    problem = problem_of_reset_code(visit.texts, begun.outcome, waits)
    return await _install(visit, form, {"reset_code": problem})


async def show_scan(visit: Visit, _: Form) -> Response:
    """Show the secret, to scan or to type, while it is not confirmed (S6)."""
    standing = await progress_of(visit)
    if standing.pending.state != pb.ENROLLMENT_STATE_PENDING:
        return present(visit, standing)
    return await _scan(visit, standing)


async def show_confirmed(visit: Visit, _: Form) -> Response:
    """Show what to do where the app is connected, and the reset code is out of sight."""
    standing = await progress_of(visit)
    if standing.pending.state != pb.ENROLLMENT_STATE_CONFIRMED:
        return present(visit, standing)
    return _confirmed(visit, standing)


async def confirm(visit: Visit, form: Form) -> Response:
    """Give a code of the new app to the core, and show the reset code that the core answers."""
    try:
        answer = await visit.stepup.enrollment.confirm(code=form.code(), metadata=visit.metadata)
    except StepUpError as error:
        if error.field != "code":
            return await elsewhere(visit, error)
        problem = problem_of_typing(visit.texts)
    else:
        if answer.outcome == pb.CONFIRM_OUTCOME_CONFIRMED:
            return render(
                visit,
                "wizard_reset_code.html",
                reset_code=answer.reset_code,
                pending=(await progress_of(visit)).pending,
            )
        waits = time_in(answer, "next_code_after")
        if not (waits is not None or answer.attempts_remaining):
            return to(visit, "wizard", why="ended")
        problem = problem_of_code(
            visit.texts,
            NotVerified(
                outcome="REJECTED",
                attempts_remaining=answer.attempts_remaining,
                next_code_after=waits,
            ),
        )
    standing = await progress_of(visit)
    if standing.pending.state == pb.ENROLLMENT_STATE_PENDING:
        return await _scan(visit, standing, {"code": problem})
    if standing.pending.state == pb.ENROLLMENT_STATE_CONFIRMED:
        return _confirmed(visit, standing, {"code": problem})
    return present(visit, standing)


async def complete(visit: Visit, form: Form) -> Response:
    """Put the new authenticator in force. A second time it changes nothing."""
    if not form["stored"]:
        standing = await progress_of(visit)
        if standing.pending.state != pb.ENROLLMENT_STATE_CONFIRMED:
            return present(visit, standing)
        problem = visit.texts.gettext("Confirm that you have stored your reset code.")
        return _confirmed(visit, standing, {"stored": problem})
    try:
        await visit.stepup.enrollment.complete(reset_code_stored=True, metadata=visit.metadata)
    except StepUpError as error:
        return await elsewhere(visit, error)
    return to(visit, "wizard/done")


async def show_done(visit: Visit, _: Form) -> Response:
    """Show what the new authenticator means from now on."""
    standing = await progress_of(visit)
    if standing.HasField("pending") or not standing.HasField("active"):
        return present(visit, standing)
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
        return await elsewhere(visit, error)
    return to(visit, done="setup_cancelled")


async def _install(
    visit: Visit, form: Form, problems: Problems = _NONE, refused: RefusedCode | None = None
) -> Response:
    standing = await progress_of(visit)
    is_replacing = standing.HasField("active")
    if is_replacing and visit.session.page == portal_pb.PORTAL_PAGE_CHALLENGE:
        return to(visit)
    needs_proof = is_replacing and not (
        standing.HasField("elevation") or standing.HasField("pending")
    )
    why = WHY.get(form["why"])
    return _page(
        visit,
        "wizard_install.html",
        problems,
        why=visit.texts.gettext(why) if why else "",
        is_replacing=is_replacing,
        needs_proof=needs_proof,
        by_reset_code=form["by"] == "reset-code" or "reset_code" in form,
        refused=refused or (lock_of(visit.texts, standing) if needs_proof else None),
    )


async def _scan(
    visit: Visit, standing: pb.GetEnrollmentResponse, problems: Problems = _NONE
) -> Response:
    try:
        begun = await visit.stepup.enrollment.begin(metadata=visit.metadata)
    except StepUpError as error:
        return await elsewhere(visit, error)
    if not begun.secret:
        return to(visit, "wizard/reset-code")
    return _page(
        visit,
        "wizard_scan.html",
        problems,
        secret=begun.secret,
        shown=in_groups(begun.secret),
        picture=picture_of(begun.qr_svg),
        pending=standing.pending,
        is_replacing=standing.HasField("active"),
    )


def _confirmed(
    visit: Visit, standing: pb.GetEnrollmentResponse, problems: Problems = _NONE
) -> Response:
    return _page(visit, "wizard_confirmed.html", problems, pending=standing.pending)


def _page(visit: Visit, template: str, problems: Problems, **values: object) -> Response:
    return render(visit, template, 422 if problems else 200, problems=problems, **values)


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
