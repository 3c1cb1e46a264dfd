"""What might have been meant by a name that does not exist."""

from collections.abc import Collection
from difflib import get_close_matches


def instead_of(
    name: str,
    known: Collection[str],
    others: Collection[str] = (),
    *,
    most: int = 3,
    prefix: str = "",
) -> str:
    """The end of a sentence about a name that does not exist.

    Args:
        name: the one that does not exist.
        known: what could stand in its place; listed where nothing is near.
        others: what may be meant as well, and is not listed.
        most: how many are offered.
        prefix: what all names begin with, which makes none nearer to another.
    """
    bare = {each.removeprefix(prefix): each for each in (*known, *others)}
    near = [bare[each] for each in get_close_matches(name.removeprefix(prefix), bare, n=most)]
    return f"; did you mean {' or '.join(near)}?" if near else f"; there are {', '.join(known)}"
