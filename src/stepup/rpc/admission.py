"""From proven identities to the caller that they name (S15)."""

from stepup.domain.callers import Callers
from stepup.domain.errors import CallerNotPermittedError
from stepup.rpc.call import Admitted, Invocation
from stepup.rpc.identity import Identification


class Admission:
    """Admits callers that are registered, by their credentials only."""

    def __init__(self, identification: Identification, callers: Callers) -> None:
        self._identification = identification
        self._callers = callers

    def replace(self, callers: Callers) -> None:
        """Go on with other rules; calls under way keep theirs."""
        self._callers = callers

    async def __call__(self, invocation: Invocation) -> Admitted:
        """The caller that every proven identity names, and those identities.

        Raises:
            CallerUnauthenticatedError: credentials are missing or no good.
            CallerNotPermittedError: an identity is nobody's, or they name different callers.
        """
        identities = await self._identification.identify(invocation)
        named = {self._callers.identified(identity) for identity in identities}
        if len(named) != 1 or None in named:
            raise CallerNotPermittedError("the credentials name no caller that is registered")
        [caller] = named
        assert caller is not None  # noqa: S101  # for mypy: excluded just above
        return Admitted(caller, tuple(sorted(identities)))
