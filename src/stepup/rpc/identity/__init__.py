"""Who calls, by what the credentials prove, and never by what the message says (S15).

An identity is a string, as the configuration writes it:

- `spiffe://<trust domain>/<path>`, the SPIFFE id of a client certificate
- `jwt:<issuer>#<subject>`, the issuer and the subject of a token, as in
  `jwt:https://kubernetes.default.svc#system:serviceaccount:prod:soar`

The two cannot be taken for each other, since a certificate proves nothing that is no SPIFFE id; nor
can two tokens', since no issuer has a `#` in it.
"""

from typing import Protocol

from stepup.rpc.engine import Invocation


class Identification(Protocol):
    """Finds out which identities a call's credentials prove."""

    async def identify(self, invocation: Invocation) -> frozenset[str]:
        """The identities, at least one.

        It MUST NOT block the event loop.

        Raises:
            CallerUnauthenticatedError: credentials are missing or no good. The message says which
                and why, and has no part of them and no library's words (S11).
            StoreUnavailableError: what verifies them is not known at present.
            OverloadedError: too many calls wait until it is known.
        """
        ...


class AllOf:
    """Demands every one of several credentials: a certificate and a token, for instance."""

    def __init__(self, *parts: Identification) -> None:
        self._parts = parts

    async def identify(self, invocation: Invocation) -> frozenset[str]:
        """The identities of all credentials together.

        Whether they belong to one caller is for whoever knows the callers to say.

        Raises:
            CallerUnauthenticatedError: one of the credentials is missing or no good.
            StoreUnavailableError: what verifies one of them is not known at present.
            OverloadedError: too many calls wait until it is known.
        """
        # In the order given, so that a token is looked at only after what is cheaper to check.
        return frozenset().union(*[await part.identify(invocation) for part in self._parts])
