"""Keys of message authentication codes."""

from stepup.domain.values import secret_value


@secret_value
class MacKeys:
    """A ring of MAC keys by id; new MACs take the primary key, MACs of the others still count.

    `keys` is a dict and no other mapping: a look into it must read nothing else.
    """

    primary: str
    keys: dict[str, bytes]
