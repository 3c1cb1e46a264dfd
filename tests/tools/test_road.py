"""What a profile counts, on which the number of Python calls of a check rests."""

from tools.road import Profile


def halves():
    yield from (1, 2)


def test_calls_and_resumptions_are_told_apart():
    with Profile() as profile:
        list(halves())
    assert profile.called[__name__, "halves"] == 1
    assert profile.resumed == 2
