"""The credentials of the server and of its callers, as the settings demand (S15)."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial

import grpc

from stepup.domain.actor import CallerId
from stepup.domain.callers import Caller, Callers, Claim, Patterns, Rule
from stepup.domain.text import Title
from stepup.rpc.engine import Invocation
from stepup.rpc.identity import AllOf, Identification
from stepup.rpc.identity.certificate_files import CertificateError, CertificateFiles
from stepup.rpc.identity.jwks import JwksError, JwksFile, JwksUrl
from stepup.rpc.identity.jwt import DEFAULT_ALGORITHMS, Issuer, TokenIdentification
from stepup.rpc.identity.mtls import CertificateIdentification, is_spiffe_id
from stepup.rpc.identity.server_credentials import ServerCertificate
from stepup.rpc.identity.trusted_keys import TrustedKeys
from stepup.rpc.pipeline.call import Admission, AdmittedCaller
from stepup.rpc.pipeline.pipeline import Admit
from stepup.service.ports import Clock
from stepup.settings import ConfigurationError, Settings, UnusableFileError
from stepup.settings.callers import CallerSettings, TlsSettings, TokenIssuerSettings
from stepup.settings.store_addresses import is_store_near, store_addresses

_ALL = Patterns(["*"])
LOCAL_CALLER = Caller(
    CallerId("local"),
    frozenset(),
    (Rule("loopback", _ALL, _ALL, _ALL, frozenset(Claim)),),
    title=Title("A program on this machine"),
)
"""Any program that reaches a loopback address, where callers have no credentials: unlimited."""
LOCAL = AdmittedCaller(LOCAL_CALLER, ("loopback",))
"""A caller that proves only that it is on this machine."""
_TRUSTED = "server.insecure_anyone_on_the_network_is_trusted"
ANYONE = AdmittedCaller(
    Caller(
        CallerId("anyone"),
        frozenset(),
        (Rule(_TRUSTED, _ALL, _ALL, _ALL, frozenset(Claim)),),
        title=Title("A program on the network"),
    ),
    ("network",),
)
"""Any caller of a server that trusts everybody: unlimited, and without a proof of identity."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """How the server admits callers, and the polls that keep keys and certificates fresh.

    `find_caller` finds a caller by its name, with the rules that it has now.
    `server` and `certificate` are None without TLS, `tokens` without token issuers, and
    `replace_callers` where callers have no credentials. Await each of `polls` before the first
    call, and then every second; a poll takes seconds at most.
    """

    admit: Admit
    find_caller: Callable[[str], Caller | None]
    server: grpc.ServerCredentials | None
    polls: tuple[Callable[[], Awaitable[None]], ...] = ()
    replace_callers: Callable[[Callers], None] | None = None
    certificate: ServerCertificate | None = None
    tokens: TokenIdentification | None = None

    @property
    def admits(self) -> bool:
        """False while no token can be verified, and every call needs one."""
        return self.tokens is None or self.tokens.has_keys

    async def check_certificate(self) -> None:
        """Demand that TLS handshakes can succeed, if the server has TLS.

        Raises:
            StoreUnavailableError: as `ServerCertificate.demand_in_force`.
        """
        if self.certificate is not None:
            self.certificate.demand_in_force()

    async def check_token_issuers(self) -> None:
        """Demand that every issuer of tokens has keys.

        Raises:
            StoreUnavailableError: as `TokenIdentification.demand_keys`.
        """
        if self.tokens is not None:
            self.tokens.demand_keys()


def demand_credentials(settings: Settings) -> None:
    """Demand that callers have credentials, or that the settings say that they need none (S15).

    Only serving needs this.

    Raises:
        ConfigurationError: callers have no credentials, and no setting allows that; a setting
            allows that, and callers have credentials; other machines reach the address, and the
            server has no TLS; or everybody is trusted, and the stores may be those of a real
            deployment.
    """
    problems = []
    trusts_anyone = settings.server.insecure_anyone_on_the_network_is_trusted
    if settings.authenticates_callers and trusts_anyone:
        problems.append(f"{_TRUSTED}: contradicts tls and token_issuers: remove either")
    if trusts_anyone:
        problems += [
            f"{_TRUSTED}: refused, because {address.setting} names a host without a loopback or"
            " private address: callers without credentials could reach real data"
            for address in store_addresses(settings.storage)
            if not is_store_near(address)
        ]
    if not settings.authenticates_callers and not (settings.server.insecure or trusts_anyone):
        problems.append(
            "server.insecure: callers have no credentials: configure tls or token_issuers;"
            " or, for a trial on a loopback address, set it to true (serve --insecure)"
        )
    if settings.authenticates_callers and settings.server.insecure:
        problems.append(
            "server.insecure: contradicts tls and token_issuers, which give callers credentials:"
            " remove either"
        )
    if settings.tls is None and not settings.server.is_local and not trusts_anyone:
        problems.append(
            f"server.listen: {settings.server.host} is not a loopback address: configure tls (S15);"
            f" or, on a network where everybody may do everything, set {_TRUSTED} to true"
        )
    if problems:
        raise ConfigurationError("\n".join(problems))


def anyone_may_call(settings: Settings) -> str:
    """Explain, for logs and commands, which programs may call a server without credentials."""
    if settings.server.insecure_anyone_on_the_network_is_trusted:
        return f"{_TRUSTED}: everybody who reaches {settings.server.listen} may do everything"
    if settings.server.socket is not None:
        return f"any program that may open {settings.server.socket} may call and claim anything"
    return "any program on this machine may call and claim anything"


async def admit_anyone(_invocation: Invocation) -> AdmittedCaller:
    """Admit every caller: the settings say that everybody on the network is trusted."""
    return ANYONE


async def admit_local_caller(_invocation: Invocation) -> AdmittedCaller:
    """Admit every caller: the server listens on loopback only."""
    return LOCAL


def credentials_of(settings: Settings, clock: Clock) -> Credentials:
    """Read the certificates and keys that the settings name.

    Raises:
        ConfigurationError: a setting cannot be used.
        UnusableFileError: a file cannot be used.
    """
    if not settings.authenticates_callers:
        trusts_anyone = settings.server.insecure_anyone_on_the_network_is_trusted
        admit = admit_anyone if trusts_anyone else admit_local_caller
        anonymous = (ANYONE if trusts_anyone else LOCAL).caller
        return Credentials(admit, Callers([anonymous]).named, None)
    parts: list[Identification] = []
    polls: list[Callable[[], Awaitable[None]]] = []
    server, certificate = None, None
    # Before any file is read, so that a wrong setting is reported also where files are missing.
    tokens = _tokens(settings.token_issuers, clock) if settings.token_issuers else None
    if settings.tls is not None:
        certificate = _certificate(settings.tls, clock)
        server = certificate.credentials()
        # Off the event loop: a large bundle takes a tenth of a second to read.
        polls.append(partial(asyncio.to_thread, certificate.poll))
        if settings.tls.client_ca is not None:
            parts.append(CertificateIdentification(clock))
    if tokens is not None:
        _check_key_files(settings.token_issuers)
        polls.append(tokens.poll)
        parts.append(tokens)
    identification = parts[0] if len(parts) == 1 else AllOf(*parts)
    admission = Admission(identification, settings.registered_callers)
    return Credentials(
        admission, admission.named, server, tuple(polls), admission.replace, certificate, tokens
    )


def _certificate(tls: TlsSettings, clock: Clock) -> ServerCertificate:
    try:
        files = CertificateFiles(tls.certificate, tls.key, tls.client_ca)
        return ServerCertificate(files, clock)
    except CertificateError as error:
        raise UnusableFileError(str(error)) from error


def _tokens(issuers: Iterable[TokenIssuerSettings], clock: Clock) -> TokenIdentification:
    made = [_issuer(index, each, clock) for index, each in enumerate(issuers)]
    try:
        return TokenIdentification(made, clock)
    except ValueError as error:
        raise ConfigurationError(f"token_issuers: {error}") from error


def _issuer(index: int, settings: TokenIssuerSettings, clock: Clock) -> Issuer:
    try:
        source = (
            JwksFile(settings.jwks_file)
            if settings.jwks_file is not None
            else JwksUrl(
                settings.jwks_url.get_secret_value() if settings.jwks_url else "",
                ca_file=settings.ca_file,
                bearer_token_file=settings.bearer_token_file,
            )
        )
        return Issuer(
            settings.issuer,
            frozenset(settings.audiences),
            TrustedKeys(source, clock),
            DEFAULT_ALGORITHMS if settings.algorithms is None else frozenset(settings.algorithms),
        )
    except ValueError as error:
        raise ConfigurationError(f"token_issuers[{index}]: {error}") from error


def _check_key_files(issuers: Iterable[TokenIssuerSettings]) -> None:
    # URLs are not fetched: a server must start also while an issuer is down.
    for index, issuer in enumerate(issuers):
        if issuer.jwks_file is not None:
            file = JwksFile(issuer.jwks_file)
            try:
                file.check()
            except JwksError as error:
                place = f"token_issuers[{index}].jwks_file"
                raise UnusableFileError(f"{place}: {file} {error}") from error


def unprovable(caller: CallerSettings, settings: Settings) -> Iterator[str]:
    """A sentence for each identity of a caller that no credentials can prove (S15)."""
    demands_certificate = settings.tls is not None and settings.tls.client_ca is not None
    issuers = {each.issuer for each in settings.token_issuers}
    of_certificate = {each for each in caller.identities if is_spiffe_id(each)}
    of_token = {each for each in caller.identities if _named_issuer(each) in issuers}
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


def _named_issuer(identity: str) -> str | None:
    """The issuer that an identity names; an issuer has no `#`."""
    issuer, _, subject = identity.removeprefix("jwt:").partition("#")
    return issuer if identity.startswith("jwt:") and subject else None
