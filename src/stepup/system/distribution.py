"""The distribution that has installed this code, and its extras.

The import package is `stepup`; a distribution of that name belongs to another project (S30). So no
message contains a command that installs from a package index.
"""

from importlib.util import find_spec
from typing import Literal

NAME = "stepup-authz"
Extra = Literal["server", "embedded", "postgres", "vault", "otel", "import", "web", "analysis"]
_OTHER_LOCKS: dict[Extra, str] = {"embedded": "run", "import": "operator", "analysis": "operator"}


def version() -> str:
    """The version of the installed distribution."""
    from importlib import metadata  # noqa: PLC0415  # it takes a while

    return metadata.version(NAME)


def missing_extra(extra: Extra) -> str:
    """The predicate of a sentence about an extra that is not installed: "<subject> needs ...".

    It names the lock of the release that has the extra.
    """
    lock = f"requirements/{_OTHER_LOCKS.get(extra, 'image')}.txt"
    return (
        f"needs the extra `{extra}` of the distribution {NAME}, which {lock} has:"
        " see docs/deploying.md, Extras"
    )


def are_installed(*modules: str) -> bool:
    """Whether all of these modules are installed; imports only their parent packages."""
    try:
        return all(map(find_spec, modules))
    except ModuleNotFoundError:  # a parent package is not installed
        return False
