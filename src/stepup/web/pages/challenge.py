"""The page `challenge`: what a person is asked to approve, and their yes or no (S19).

A GET shows the present state of the challenge. An answer that comes too late leads there too: the
challenge has ended, or was answered elsewhere, or by the first submission of the same form.
"""

from collections.abc import Iterable
from itertools import groupby
from typing import Final

from starlette.responses import Response

from stepup.client import NotVerified, StepUpError
from stepup.v1 import challenge_service_pb2 as pb
from stepup.v1 import step_up_service_pb2
from stepup.web.codes import (
    RefusedCode,
    is_code,
    lock_of,
    problem_of_typing,
    refused_code,
    standing_of,
    time_in,
)
from stepup.web.forms import Form
from stepup.web.operations import title_of
from stepup.web.rendering import leave, render, to
from stepup.web.routing import PageRoute
from stepup.web.texts import Texts
from stepup.web.visits import Visit


async def show(visit: Visit, _: Form) -> Response:
    """Show the challenge, and what the person can do."""
    return await _present(visit)


async def approve(visit: Visit, form: Form) -> Response:
    """Approve the challenge by the code of a form, and lead back to the console."""
    code = form.code()
    if not is_code(code):
        return await _present(visit, RefusedCode(problem_of_typing(visit.texts)))
    try:
        answer = await visit.stepup.challenges.answer(
            challenge_id=visit.session.challenge_id, code=code, metadata=visit.metadata
        )
    except StepUpError as error:
        return _too_late(visit, error)
    if answer.outcome == step_up_service_pb2.OUTCOME_VERIFIED:
        return to(visit, "leave")
    if answer.outcome == step_up_service_pb2.OUTCOME_NOT_ENROLLED:
        return _question(visit, answer.challenge, status=422, is_enrolled=False)
    return _question(visit, answer.challenge, refused_code(visit.texts, _refusal(answer)), 422)


async def decline(visit: Visit, _: Form) -> Response:
    """Decline the challenge, and lead back to the console."""
    try:
        await visit.stepup.challenges.decline(
            challenge_id=visit.session.challenge_id, metadata=visit.metadata
        )
    except StepUpError as error:
        return _too_late(visit, error)
    return to(visit, "leave")


async def _present(visit: Visit, refused: RefusedCode | None = None) -> Response:
    try:
        answer = await visit.stepup.challenges.get(
            challenge_id=visit.session.challenge_id, metadata=visit.metadata
        )
    except StepUpError as error:
        if error.reason == "CHALLENGE_STATE":
            return render(visit, "challenge_unknown.html", 404)
        raise
    challenge = answer.challenge
    if challenge.state != pb.CHALLENGE_STATE_PENDING:
        return _ended(visit, challenge)
    if refused is not None:
        return _question(visit, challenge, refused, 422)
    standing = await standing_of(visit)
    if standing is None:  # the answer to the code says it
        return _question(visit, challenge)
    lock = lock_of(visit.texts, standing)
    return _question(visit, challenge, lock, is_enrolled=standing.HasField("active"))


def _too_late(visit: Visit, error: StepUpError) -> Response:
    """Lead to the state of a challenge that is not pending, or raise an error of another kind."""
    if error.reason != "CHALLENGE_STATE":
        raise error
    return to(visit)


def _question(
    visit: Visit,
    challenge: pb.Challenge,
    refused: RefusedCode | None = None,
    status: int = 200,
    *,
    is_enrolled: bool = True,
) -> Response:
    return render(
        visit,
        "challenge.html",
        status,
        challenge=challenge,
        groups=by_title(visit.texts, challenge.items),
        refused=refused,
        is_enrolled=is_enrolled,
    )


def _ended(visit: Visit, challenge: pb.Challenge) -> Response:
    return render(
        visit,
        "challenge_ended.html",
        challenge=challenge,
        groups=by_title(visit.texts, challenge.items),
        state=pb.ChallengeState.Name(challenge.state).removeprefix("CHALLENGE_STATE_"),
    )


def _refusal(answer: pb.AnswerChallengeResponse) -> NotVerified:
    name = step_up_service_pb2.Outcome.Name(answer.outcome).removeprefix("OUTCOME_")
    return NotVerified(
        outcome=name,
        attempts_remaining=answer.attempts_remaining,
        retry_after=time_in(answer, "retry_after"),
        next_code_after=time_in(answer, "next_code_after"),
    )


def by_title(
    texts: Texts, items: Iterable[pb.ChallengeItem]
) -> list[tuple[str, list[pb.ChallengeItem]]]:
    """Neighbouring items of the same operation under its title, in the order of the caller."""
    return [
        (title_of(texts, title), list(neighbours))
        for (_, title), neighbours in groupby(items, lambda item: (item.operation, item.title))
    ]


ROUTES: Final[tuple[PageRoute, ...]] = (
    PageRoute("", show),
    PageRoute("approve", approve, method="POST"),
    PageRoute("approve", show),  # a reload by its address
    PageRoute("decline", decline, method="POST"),
    PageRoute("leave", leave),
)
