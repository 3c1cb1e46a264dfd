"""Identifies callers by their credentials, never by the message (S15).

An identity is a string in the form of the configuration:

- `spiffe://<trust domain>/<path>`, the SPIFFE id of a client certificate
- `jwt:<issuer>#<subject>`, the issuer and the subject of a token, as in
  `jwt:https://kubernetes.default.svc#system:serviceaccount:prod:soar`

No identity of a certificate equals one of a token, because a certificate proves only SPIFFE ids. No
two issuers share an identity, because the name of an issuer has no `#`.
"""

from typing import Protocol

from stepup.rpc.engine import Invocation


class Identification(Protocol):
    """Reads the identities that the credentials of a call prove."""

    async def identify(self, invocation: Invocation) -> frozenset[str]:
        """Return the identities, at least one. It MUST NOT block the event loop.

        Raises:
            CallerUnauthenticatedError: credentials are missing or not valid. The message says which
                and why. It has no part of the credentials and no text of a library (S11).
            StoreUnavailableError: the keys that verify them are not known at present.
            OverloadedError: too many calls wait for these keys.
        """
        ...


class AllOf:
    """Requires several credentials together, such as a certificate and a token."""

    def __init__(self, *parts: Identification) -> None:
        self._parts = parts

    async def identify(self, invocation: Invocation) -> frozenset[str]:
        """See `Identification`. The identities may belong to different callers."""
        # In the given order: a token, which is the most costly to check, comes last.
        return frozenset().union(*[await part.identify(invocation) for part in self._parts])
