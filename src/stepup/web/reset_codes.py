"""A reset code that a person types into a form: what the core answered, in words."""

from datetime import timedelta

from markupsafe import Markup

from stepup.v1 import enrollment_service_pb2 as pb
from stepup.web.texts import Texts


def problem_of_reset_code(
    texts: Texts, outcome: pb.ResetOutcome.ValueType, retry_after: timedelta | None = None
) -> Markup:
    """Return why a reset code was not accepted, and what to do, in words.

    Args:
        texts: the language of the person.
        outcome: any but RESET_OUTCOME_ACCEPTED and RESET_OUTCOME_NOT_CHECKED. A reset code of a
            wrong length, which the core refuses as INVALID_FIELD, is RESET_OUTCOME_MISTYPED.
        retry_after: how long the session waits.
    """
    if outcome == pb.RESET_OUTCOME_MISTYPED:
        return texts.gettext(
            "This is not a whole reset code: a character is wrong or missing. Compare it with the"
            " code that you stored."
        )
    if retry_after is not None:
        return texts.gettext(
            "Too many reset codes were wrong. You can type a reset code again in %(time)s.",
            time=texts.duration(retry_after),
        )
    return texts.gettext(
        "The reset code is not right. Only the newest reset code works, and it works once."
    )
