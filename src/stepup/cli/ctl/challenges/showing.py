"""Shows challenges. Their messages and labels are texts of callers."""

from collections.abc import Iterable
from typing import Final

from stepup.cli import output
from stepup.cli.ctl.messages import instant_shown, word_of
from stepup.client.messages import challenge as messages

_COLUMNS: Final = ("challenge", "state", "created", "requested by", "actions", "message")


def write_list(user_id: str, challenges: Iterable[messages.Challenge]) -> None:
    """Write a line for each challenge of a person."""
    output.write_table(
        _COLUMNS,
        map(_cells, challenges),
        empty=f"{user_id} has no challenge of the last day",
    )


def write_one(challenge: messages.Challenge) -> None:
    """Write what a challenge asks for, and what its person answered."""
    output.write_table(
        ("challenge", challenge.challenge_id),
        [
            ("state", state_of(challenge)),
            ("requested by", challenge.requested_by),
            ("message", challenge.message),
            ("created", instant_shown(challenge.create_time)),
            ("open until", instant_shown(challenge.expires_at)),
            ("answered", instant_shown(challenge.answered_at)),
            ("usable until", instant_shown(challenge.usable_until)),
        ],
    )
    output.write()
    output.write_table(
        ("operation", "target", "label", "needs a code", "used"),
        [
            (
                item.operation,
                item.target,
                item.label,
                "yes" if item.needed else "no",
                instant_shown(item.used_at),
            )
            for item in challenge.items
        ],
    )


def state_of(challenge: messages.Challenge) -> str:
    """The state of a challenge, in a word."""
    return word_of(messages.ChallengeState.DESCRIPTOR, challenge.state)


def _cells(challenge: messages.Challenge) -> tuple[object, ...]:
    return (
        challenge.challenge_id,
        state_of(challenge),
        instant_shown(challenge.create_time),
        challenge.requested_by,
        len(challenge.items),
        challenge.message,
    )
