"""From proven identities to the caller that they name (S15)."""

from functools import lru_cache, partial
from typing import Final

from stepup.domain.callers import Callers
from stepup.domain.errors import CallerNotPermittedError
from stepup.rpc.identity import Identification
from stepup.rpc.pipeline.call import Admitted, Invocation

MAX_REMEMBERED: Final = 4096


class Admission:
    """Admits callers that are registered, by their credentials only."""

    def __init__(self, identification: Identification, callers: Callers) -> None:
        self._identification = identification
        self.replace(callers)

    def replace(self, callers: Callers) -> None:
        """Go on with other rules; calls under way keep theirs."""
        # What was found for other callers is forgotten with them.
        self._admitted = lru_cache(MAX_REMEMBERED)(partial(_admitted, callers))

    async def __call__(self, invocation: Invocation) -> Admitted:
        """The caller that every proven identity names, and those identities.

        Raises:
            CallerUnauthenticatedError: credentials are missing or no good.
            StoreUnavailableError: what verifies them is not known at present.
            OverloadedError: too many calls wait until it is known.
            CallerNotPermittedError: an identity is nobody's, or they name different callers.
        """
        identities = await self._identification.identify(invocation)
        return self._admitted(identities)


def _admitted(callers: Callers, identities: frozenset[str]) -> Admitted:
    named = {callers.identified(identity) for identity in identities}
    if len(named) != 1 or None in named:
        raise CallerNotPermittedError("the credentials name no caller that is registered")
    [caller] = named
    assert caller is not None  # noqa: S101  # for mypy: excluded just above
    return Admitted(caller, tuple(sorted(identities)))
