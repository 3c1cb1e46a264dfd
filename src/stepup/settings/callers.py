"""The settings of callers: their credentials, and the rules of each caller (S15, S16)."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Annotated, Self

from pydantic import Field, SecretStr, model_validator

from stepup.domain.actor import CallerId, folded
from stepup.domain.callers import Caller, Callers, Claim, Patterns, Rule
from stepup.domain.errors import InvalidValueError
from stepup.domain.origins import WebOrigin
from stepup.domain.rate import Rate
from stepup.domain.text import Title
from stepup.settings.section import Section, SettingPath, checked


class TlsSettings(Section):
    """PEM files. The server reads a file again when it has changed."""

    certificate: SettingPath
    """The server's certificate chain, leaf first."""
    key: SettingPath
    """The private key of the certificate."""
    client_ca: SettingPath | None = None
    """The authorities of client certificates. Present: callers must have a certificate with a
    SPIFFE id."""


class TokenIssuerSettings(Section):
    """An issuer of the bearer tokens (JWT) that callers present."""

    issuer: Annotated[str, Field(min_length=1, pattern="^[^#]*$")]
    """The `iss` claim."""
    audiences: Annotated[tuple[str, ...], Field(min_length=1)]
    """The names of this service. The `aud` claim must have one of them."""
    jwks_file: SettingPath | None = None
    """The issuer's keys in a file."""
    jwks_url: SecretStr | None = None
    """The issuer's keys at an https URL, instead of a file. The query of the URL may have a key of
    the issuer's API (S11)."""
    ca_file: SettingPath | None = None
    """The authorities of that URL's server. Absent: the system's."""
    bearer_token_file: SettingPath | None = None
    """The file of the token that the URL's server demands, as a Kubernetes API server does."""
    algorithms: tuple[str, ...] | None = None
    """The algorithms of the issuer's signatures, `["ES256"]`. Absent: all asymmetric algorithms
    that are considered safe."""

    @model_validator(mode="after")
    def _demand_one_source(self) -> Self:
        if (self.jwks_file is None) == (self.jwks_url is None):
            raise ValueError("needs either jwks_file or jwks_url")
        return self


class RuleSettings(Section):
    """A grant: it permits a call that matches all its settings. `*` ends a name as a wildcard."""

    methods: tuple[str, ...]
    """The methods that the caller may call: `StepUpService/CheckStepUp`, `EnrollmentService/*`."""
    tenants: tuple[str, ...]
    """The tenants that the caller may call for."""
    operations: tuple[str, ...] = ()
    """The operations that the caller may name, in methods that have an operation. Absent: none."""
    claims: tuple[Claim, ...] = ()
    """The claims that the caller may make about the actor."""


class RateSettings(Section):
    """How often a caller may call for each tenant."""

    per_second: float
    """How many calls, or operations of a batch, per second: 0.1 to 10000."""
    burst: int
    """How many calls at once after a pause: 1 to 10000."""


class CallerSettings(Section):
    """A service that may call."""

    name: Annotated[CallerId, checked(CallerId)]
    """The name of the caller in logs, audit events and receipts."""
    title: Annotated[Title, checked(Title)] | None = None
    """The caller's name for people, which challenges show. 1 to 200 characters. Absent: `name`."""
    identities: Annotated[tuple[str, ...], Field(min_length=1)]
    """`spiffe://<domain>/<path>` of its certificates, `jwt:<issuer>#<subject>` of its tokens."""
    rules: tuple[RuleSettings, ...] = ()
    """What the caller may do. Absent: nothing."""
    rate: RateSettings | None = None
    """How often the caller may call. Absent: without limit."""
    return_origins: tuple[Annotated[WebOrigin, checked(WebOrigin)], ...] = ()
    """The origins to which the portal may send people back: `https://console.example`. A caller
    that opens portal sessions needs one at least."""
    portal: bool = False
    """Whether the caller is the web process (`stepup web`). It may act in portal sessions only."""


def callers_of(settings: Iterable[CallerSettings], *, fold_case: bool = False) -> Callers:
    """The callers with their rules.

    Args:
        settings: of each caller.
        fold_case: whether to fold the tenants of rules, as the server folds the tenants of calls.

    Raises:
        InvalidValueError: a wildcard is not at the end, a tenant begins or ends with a blank, a
            rate is out of its limits, or a name or identity occurs twice.
    """
    return Callers(_caller(index, each, fold_case) for index, each in enumerate(settings))


def _caller(index: int, settings: CallerSettings, fold_case: bool) -> Caller:
    rules = tuple(
        _rule(f"callers[{index}].rules[{number}]", rule, fold_case)
        for number, rule in enumerate(settings.rules)
    )
    rate = None
    if settings.rate is not None:
        with _errors_named(f"callers[{index}].rate"):
            rate = Rate(settings.rate.per_second, settings.rate.burst)
    return Caller(
        settings.name,
        frozenset(settings.identities),
        rules,
        rate,
        settings.title,
        frozenset(settings.return_origins),
        settings.portal,
    )


def _rule(origin: str, settings: RuleSettings, fold_case: bool) -> Rule:
    with _errors_named(origin):
        for tenant in settings.tenants:
            if tenant != tenant.strip():
                raise InvalidValueError(
                    f"tenants: {tenant!r} begins or ends with a blank: no tenant's id does"
                )
        tenants = map(folded, settings.tenants) if fold_case else settings.tenants
        return Rule(
            origin,
            Patterns(settings.methods),
            Patterns(tenants),
            Patterns(settings.operations),
            frozenset(settings.claims),
        )


@contextmanager
def _errors_named(origin: str) -> Iterator[None]:
    """Add the name of the setting to the error of a value that is not valid."""
    try:
        yield
    except InvalidValueError as error:
        raise InvalidValueError(f"{origin} {error}") from error
