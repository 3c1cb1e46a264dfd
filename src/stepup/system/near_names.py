"""Suggestions for a name that does not exist."""

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
    """Return the end of a sentence about a name that does not exist.

    Args:
        name: the unknown name.
        known: valid names; listed if none is similar. Without any the end may be empty.
        others: further names to suggest, but not to list.
        most: the largest number of suggestions.
        prefix: the common prefix of all names, which does not count for similarity.
    """
    bare = {each.removeprefix(prefix): each for each in (*known, *others)}
    near = [bare[each] for each in get_close_matches(name.removeprefix(prefix), bare, n=most)]
    if near:
        return f"; did you mean {' or '.join(near)}?"
    return f"; there are {', '.join(known)}" if known else ""
