"""A code that a person types into a form, and the answer of the core in words for its field."""

import re
from typing import Final

from markupsafe import Markup

from stepup.client import NotVerified, Verified
from stepup.web.forms import Form
from stepup.web.texts import Texts
from stepup.web.visits import Visit

_CODE: Final = re.compile("[0-9]{6}")


async def give_code(visit: Visit, form: Form) -> Markup | None:
    """Give the code of a form to the core: a right code elevates the session that opened the visit.

    Returns:
        None if the code was right; otherwise the problem, for the field `code`.

    Raises:
        StepUpError: there is no answer.
    """
    code = form.code()
    if not _CODE.fullmatch(code):
        return problem_of_typing(visit.texts)
    answer = await visit.stepup.verify(None, code, metadata=visit.metadata)
    return None if isinstance(answer, Verified) else problem_of_code(visit.texts, answer)


def problem_of_typing(texts: Texts) -> Markup:
    """Return that a code does not have six digits, in words."""
    return texts.gettext("Type the six digits that your authenticator app shows.")


def problem_of_code(texts: Texts, answer: NotVerified) -> Markup:  # one for each
    """Return why a code was not accepted, and what to do, in words."""
    if answer.outcome == "SUSPENDED":
        return texts.gettext(
            "Too many codes in a row were wrong, so your authenticator is suspended. Use your reset"
            " code in your account settings, or ask a Master Administrator to reset your"
            " authenticator."
        )
    if answer.outcome == "SESSION_SPENT":
        return texts.gettext(
            "Too many wrong codes came from this sign-in. Sign out of the console, sign in again,"
            " and then type a new code."
        )
    if answer.outcome == "NOT_ENROLLED":
        return texts.gettext("You have no authenticator yet. Set up your authenticator first.")
    if answer.retry_after is not None:
        return texts.gettext(
            "Too many codes were wrong. You can type a new code in %(time)s.",
            time=texts.duration(answer.retry_after),
        )
    if answer.next_code_after is not None:
        return texts.gettext(
            "This code has been used already, or its time is over. Wait for the next code, which"
            " comes in %(time)s.",
            time=texts.duration(answer.next_code_after),
        )
    if answer.attempts_remaining:
        return texts.ngettext(
            "The code is not right. Type the code that the app shows now. You have one more"
            " attempt.",
            "The code is not right. Type the code that the app shows now. You have %(n)s more"
            " attempts.",
            answer.attempts_remaining,
        )
    return texts.gettext("The code is not right. Type the code that the app shows now.")
