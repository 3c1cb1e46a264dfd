"""Counts challenges, for operators.

The labels are words of the product's rules, and never name a person or a tenant (S11).
"""

from typing import Final, Literal, get_args

from prometheus_client import Counter, Gauge, Histogram

from stepup.domain.challenge import Challenge, ChallengeState

Limit = Literal["new_of_user", "open_of_user", "open_of_caller"]

_challenges = Counter(
    "stepup_challenges", "Challenges that were created, answered or ended.", ["event"]
)
# Each series exists from the start, so that an alert on an increase sees the first decline.
_BY_STATE: Final = {
    state: _challenges.labels("created" if state is ChallengeState.PENDING else state.value)
    for state in ChallengeState
}
_answer_seconds = Histogram(
    "stepup_challenge_answer_seconds",
    "The time from the creation of a challenge to the person's answer.",
    buckets=(1, 2, 5, 10, 20, 30, 60, 120, 300, 600),
)
_limits_reached = Counter(
    "stepup_challenge_limits_reached", "Challenges that a limit has refused.", ["limit"]
)
_BY_LIMIT: Final = {limit: _limits_reached.labels(limit) for limit in get_args(Limit)}
_open = Gauge(
    "stepup_challenges_open",
    "Challenges of all tenants that wait for an answer, as the database has them.",
    # Each worker counts the challenges of all tenants: only the latest count is right.
    multiprocess_mode="livemostrecent",
)


def count_challenge(challenge: Challenge) -> None:
    """Count a committed step of a challenge: its creation, its answer or its end."""
    state = challenge.stored_state
    _BY_STATE[state].inc()
    if challenge.answered_at is not None and state in (
        ChallengeState.APPROVED,
        ChallengeState.DECLINED,
    ):
        _answer_seconds.observe((challenge.answered_at - challenge.created_at).total_seconds())


def count_revoked_challenges(number: int) -> None:
    """Count challenges that a revocation or the end of an authenticator has ended."""
    _BY_STATE[ChallengeState.REVOKED].inc(number)


def count_limit(limit: Limit) -> None:
    """Count a challenge that was not created because a limit is reached."""
    _BY_LIMIT[limit].inc()


def set_pending_challenges(number: int) -> None:
    """Show how many challenges wait for an answer."""
    _open.set(number)
