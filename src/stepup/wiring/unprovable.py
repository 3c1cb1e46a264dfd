"""Configured identities that no credentials can ever prove (S15)."""

from collections.abc import Iterator

from stepup.rpc.identity.mtls import is_spiffe_id
from stepup.settings import Settings
from stepup.settings.callers import CallerSettings


def unprovable(caller: CallerSettings, settings: Settings) -> Iterator[str]:
    """A sentence for each problem with the identities of a caller."""
    demands_certificate = settings.tls is not None and settings.tls.client_ca is not None
    issuers = {each.issuer for each in settings.token_issuers}
    of_certificate = {each for each in caller.identities if is_spiffe_id(each)}
    of_token = {each for each in caller.identities if _issuer(each) in issuers}
    for identity in caller.identities:
        if identity in of_certificate and not demands_certificate:
            yield f"without tls.client_ca no certificate proves {identity}"
        elif identity not in of_certificate | of_token:
            yield (
                f"{identity} is neither the SPIFFE id of a workload, nor "
                "jwt:<issuer>#<subject> with an issuer of token_issuers"
            )
    if demands_certificate and not of_certificate:
        yield "the server demands a certificate, and none can prove an identity of this caller"
    if issuers and not of_token:
        yield "the server demands a token, and none can prove an identity of this caller"


def _issuer(identity: str) -> str | None:
    """The issuer that an identity names; an issuer has no `#`."""
    issuer, _, subject = identity.removeprefix("jwt:").partition("#")
    return issuer if identity.startswith("jwt:") and subject else None
