"""Finds the caller that proven identities name (S15)."""

from functools import lru_cache, partial
from typing import Final

from stepup.domain.callers import Callers
from stepup.domain.errors import CallerNotPermittedError
from stepup.rpc.engine import Invocation
from stepup.rpc.identity import Identification
from stepup.rpc.pipeline.call import AdmittedCaller

MAX_REMEMBERED: Final = 4096


class Admission:
    """Admits registered callers, by their credentials only."""

    def __init__(self, identification: Identification, callers: Callers) -> None:
        self._identification = identification
        self.replace(callers)

    def replace(self, callers: Callers) -> None:
        """Replace the callers and their rules; calls in flight keep theirs."""
        # A new cache: the old one has answers of the old callers.
        self._find_caller = lru_cache(MAX_REMEMBERED)(partial(_find_caller, callers))

    async def __call__(self, invocation: Invocation) -> AdmittedCaller:
        """Find the caller that every proven identity names.

        Raises:
            CallerUnauthenticatedError: credentials are missing or not valid.
            StoreUnavailableError: the keys that verify them are not known at present.
            OverloadedError: too many calls wait for these keys.
            CallerNotPermittedError: no caller has an identity, or they name different callers.
        """
        identities = await self._identification.identify(invocation)
        return self._find_caller(identities)


def _find_caller(callers: Callers, identities: frozenset[str]) -> AdmittedCaller:
    named = {callers.identified(identity) for identity in identities}
    if len(named) != 1 or None in named:
        raise CallerNotPermittedError("the credentials name no caller that is registered")
    [caller] = named
    assert caller is not None  # noqa: S101  # for mypy: excluded just above
    return AdmittedCaller(caller, tuple(sorted(identities)))
