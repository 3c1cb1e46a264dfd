from datetime import timedelta

import pytest

from stepup.client import NotVerified
from stepup.web.codes import problem_of_code
from stepup.web.forms import Form
from stepup.web.texts import texts_of


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (NotVerified(outcome="REJECTED", attempts_remaining=4), "4 more attempts"),
        (NotVerified(outcome="REJECTED", attempts_remaining=1), "one more attempt"),
        (NotVerified(outcome="REJECTED"), "not right"),
        (
            NotVerified(outcome="REJECTED", next_code_after=timedelta(seconds=12)),
            "comes in 12 seconds",
        ),
        (NotVerified(outcome="THROTTLED", retry_after=timedelta(minutes=5)), "in 5 minutes"),
        (NotVerified(outcome="SUSPENDED"), "Use your reset code"),
        (NotVerified(outcome="SESSION_SPENT"), "sign in again"),
        (NotVerified(outcome="NOT_ENROLLED"), "no authenticator yet"),
    ],
)
def test_s22_a_refused_code_is_answered_with_what_to_do(answer, words):
    assert words in str(problem_of_code(texts_of(["en"]), answer))


def test_what_people_type_between_the_digits_does_not_count():
    assert Form([("code", " 123-45\u3000\uff16 ")]).code() == "123456"
