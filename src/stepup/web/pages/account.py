"""The page `account`: the person's own MFA."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

from starlette.responses import Response

from stepup.client import StepUpError
from stepup.v1 import enrollment_service_pb2 as pb
from stepup.web.codes import RefusedCode, lock_of, time_in, try_code
from stepup.web.forms import Form
from stepup.web.pages.enroll import policy_of
from stepup.web.pages.wizard_progress import SAML
from stepup.web.rendering import leave, render, to
from stepup.web.reset_codes import problem_of_reset_code
from stepup.web.routing import PageRoute
from stepup.web.texts import N_
from stepup.web.visits import Visit

_CHANGED: Final = frozenset({"ENROLLMENT_STATE", "MFA_ENFORCED_BY_POLICY"})
"""Why the core refuses what a page offered a moment ago. The page `account` shows what is new."""


async def show(visit: Visit, _: Form) -> Response:
    """Show the authenticator, the toggle, the present confirmation, and what can be done."""
    standing = await visit.stepup.enrollment.get(metadata=visit.metadata)
    policy = await policy_of(visit)
    return render(
        visit,
        "account.html",
        standing=standing,
        lock=lock_of(visit.texts, standing),
        is_enrolled=standing.HasField("active"),
        is_saml=visit.session.account_type in SAML,
        is_enforced=policy is not None and policy.enabled,
    )


async def turn_mfa_on(visit: Visit, _: Form) -> Response:
    """Turn the account's MFA on; it needs no code, but an authenticator."""
    try:
        await visit.stepup.enrollment.set_account_mfa(enabled=True, metadata=visit.metadata)
    except StepUpError as error:
        if error.reason == "ENROLLMENT_STATE":
            return to(visit)
        raise
    return to(visit, done="mfa_on")


async def _turn_mfa_off(visit: Visit) -> Response:
    await visit.stepup.enrollment.set_account_mfa(enabled=False, metadata=visit.metadata)
    return to(visit, done="mfa_off")


async def _remove(visit: Visit) -> Response:
    await visit.stepup.enrollment.remove(metadata=visit.metadata)
    return to(visit, done="removed")


async def _issue_reset_code(visit: Visit) -> Response:
    """Show a new reset code: the answer to the POST, because no GET may show it (S8)."""
    issued = await visit.stepup.enrollment.issue_reset_code(metadata=visit.metadata)
    return render(visit, "account_reset_code.html", reset_code=issued.reset_code)


async def _end_elevations(visit: Visit) -> Response:
    await visit.stepup.revoke_elevations(metadata=visit.metadata)
    return await leave(visit)  # the revocation has ended the portal session too


@dataclass(frozen=True, slots=True)
class AccountAction:
    """What a person can do, after a page that says what will happen.

    Args:
        path: the route.
        title: what the person does.
        effects: what will happen, a sentence each.
        button: the name of the button.
        act: does it, and answers.
        needs_code: whether the session must be elevated.
    """

    path: str
    title: str
    effects: tuple[str, ...]
    button: str
    act: Callable[[Visit], Awaitable[Response]]
    needs_code: bool = True


ACTIONS: Final = (
    AccountAction(
        "mfa",
        N_("Turn MFA off"),
        (
            N_("You sign in without a code."),
            N_("Your authenticator stays set up. Selected actions may still need a code."),
        ),
        N_("Turn off"),
        _turn_mfa_off,
    ),
    AccountAction(
        "remove",
        N_("Remove your authenticator"),
        (
            N_("Codes of your app, and your reset code, no longer work."),
            N_("MFA is turned off for your account."),
            N_("If your business needs MFA, you are asked to set up an authenticator app again."),
        ),
        N_("Remove"),
        _remove,
    ),
    AccountAction(
        "reset-code",
        N_("Get a new reset code"),
        (
            N_("The new reset code replaces the one before, which no longer works."),
            N_("The new reset code is shown once. Have a safe place ready."),
        ),
        N_("Show a new reset code"),
        _issue_reset_code,
    ),
    AccountAction(
        "end",
        N_("End all your confirmations"),
        (
            N_("In all your sign-ins you give a new code before the next selected action."),
            N_("Requests that wait for your approval end, and so do approvals that are not used."),
            N_("This page ends too, and you return to the console."),
        ),
        N_("End all"),
        _end_elevations,
        needs_code=False,
    ),
)


async def show_action(action: AccountAction, visit: Visit, form: Form) -> Response:
    """Show what an action does, and ask for a code where it needs one."""
    standing = await visit.stepup.enrollment.get(metadata=visit.metadata)
    if action.needs_code and not standing.HasField("active"):
        return to(visit)
    needs_code = action.needs_code and not standing.HasField("elevation")
    lock = lock_of(visit.texts, standing) if needs_code else None
    return _action(visit, action, lock, needs_code=needs_code, why=form["why"])


async def do_action(action: AccountAction, visit: Visit, form: Form) -> Response:
    """Do an action; if the session is not elevated, by the code of the form."""
    try:
        return await _act(action, visit, form)
    except StepUpError as error:
        if error.reason in _CHANGED or error.details.get("next_step") == "ENROLL":
            return to(visit)
        raise


async def _act(action: AccountAction, visit: Visit, form: Form) -> Response:
    try:
        return await action.act(visit)
    except StepUpError as error:
        if error.details.get("next_step") != "VERIFY_OTP":
            raise
    refused = await try_code(visit, form)
    if refused is not None:
        return _action(visit, action, refused, 422, needs_code=True)
    return await action.act(visit)


def _action(
    visit: Visit,
    action: AccountAction,
    refused: RefusedCode | None,
    status: int = 200,
    *,
    needs_code: bool,
    why: str = "",
) -> Response:
    return render(
        visit,
        "account_action.html",
        status,
        action=action,
        needs_code=needs_code,
        refused=refused,
        is_unconfirmed=why == "unconfirmed",
    )


async def confirm_stored(visit: Visit, form: Form) -> Response:
    """Note that the person has stored the new reset code; otherwise offer another one."""
    if not form["stored"]:
        return to(visit, "reset-code", why="unconfirmed")
    return to(visit, done="reset_code_stored")


async def show_reset(visit: Visit, _: Form) -> Response:
    """Ask for the reset code, which removes the authenticator."""
    standing = await visit.stepup.enrollment.get(metadata=visit.metadata)
    return _reset(visit) if standing.active.has_reset_code else to(visit)


async def reset(visit: Visit, form: Form) -> Response:
    """Remove the authenticator by its reset code, and lead into the wizard."""
    try:
        answer = await visit.stepup.enrollment.reset(
            reset_code=form["reset_code"], metadata=visit.metadata
        )
    except StepUpError as error:
        if error.reason == "ENROLLMENT_STATE":  # a second submission, or a change elsewhere
            return to(visit)
        if error.field != "reset_code":
            raise
        return _reset(visit, problem_of_reset_code(visit.texts, pb.RESET_OUTCOME_MISTYPED))
    if answer.outcome == pb.RESET_OUTCOME_ACCEPTED:
        return to(visit, "wizard", done="removed")
    waits = time_in(answer, "retry_after")
    return _reset(visit, problem_of_reset_code(visit.texts, answer.outcome, waits))


def _reset(visit: Visit, problem: str = "") -> Response:
    return render(visit, "account_reset.html", 422 if problem else 200, problem=problem)


ROUTES: Final[tuple[PageRoute, ...]] = (
    PageRoute("", show),
    PageRoute("mfa/on", turn_mfa_on, method="POST"),
    *(PageRoute(action.path, partial(show_action, action)) for action in ACTIONS),
    *(PageRoute(action.path, partial(do_action, action), method="POST") for action in ACTIONS),
    PageRoute("reset-code/stored", confirm_stored, method="POST"),
    PageRoute("reset", show_reset),
    PageRoute("reset", reset, method="POST"),
)
