"""The settings that say who may call: credentials, and the rules of each caller (S15, S16)."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Annotated, Self

from pydantic import Field, SecretStr, model_validator

from stepup.domain.actor import CallerId, folded
from stepup.domain.callers import Caller, Callers, Claim, Patterns, Rule
from stepup.domain.errors import InvalidValueError
from stepup.domain.rate import Rate
from stepup.settings.section import Section, SettingPath, checked


class TlsSettings(Section):
    """PEM files; they are read again when they change."""

    certificate: SettingPath
    """The server's certificate chain, leaf first."""
    key: SettingPath
    """Its private key."""
    client_ca: SettingPath | None = None
    """The authorities of client certificates. Present: callers must have one, with a SPIFFE id."""


class TokenIssuerSettings(Section):
    """Who signs bearer tokens (JWT) that callers present."""

    issuer: Annotated[str, Field(min_length=1, pattern="^[^#]*$")]
    """The `iss` claim."""
    audiences: Annotated[tuple[str, ...], Field(min_length=1)]
    """What the `aud` claim has to name one of: this service."""
    jwks_file: SettingPath | None = None
    """The issuer's keys in a file."""
    jwks_url: SecretStr | None = None
    """The issuer's keys at an https URL, instead of a file. Its query may have a key of the
    issuer's API (S11)."""
    ca_file: SettingPath | None = None
    """The authorities of that URL's server. Absent: the system's."""
    bearer_token_file: SettingPath | None = None
    """Holds the token that the URL's server demands, as a Kubernetes API server does."""
    algorithms: tuple[str, ...] | None = None
    """The algorithms it signs with, `["ES256"]`. Absent: all asymmetric ones that are thought
    safe."""

    @model_validator(mode="after")
    def _has_one_source(self) -> Self:
        if (self.jwks_file is None) == (self.jwks_url is None):
            raise ValueError("needs either jwks_file or jwks_url")
        return self


class RuleSettings(Section):
    """One grant: everything in it holds together. `*` at the end of a name is a wildcard."""

    methods: tuple[str, ...]
    """What it may call: `StepUpService/CheckStepUp`, `EnrollmentService/*`."""
    tenants: tuple[str, ...]
    """For which tenants."""
    operations: tuple[str, ...] = ()
    """About which operations, for methods that are about one. Absent: about none."""
    claims: tuple[Claim, ...] = ()
    """What it may assert of the actor."""


class RateSettings(Section):
    """How often a caller may call for each tenant."""

    per_second: float
    """How many calls, or operations of a batch, per second: 0.1 to 10000."""
    burst: int
    """How many at once after a pause: 1 to 10000."""


class CallerSettings(Section):
    """A service that may call."""

    name: Annotated[CallerId, checked(CallerId)]
    """Stands in logs, audit events and receipts."""
    identities: Annotated[tuple[str, ...], Field(min_length=1)]
    """`spiffe://<domain>/<path>` of its certificates, `jwt:<issuer>#<subject>` of its tokens."""
    rules: tuple[RuleSettings, ...] = ()
    """What it may do. Absent: nothing."""
    rate: RateSettings | None = None
    """How often. Absent: as often as it likes."""


def callers_of(settings: Iterable[CallerSettings], *, fold_case: bool = False) -> Callers:
    """The callers with their rules.

    Args:
        settings: of each caller.
        fold_case: whether the tenants of rules are folded, as those of calls are.

    Raises:
        InvalidValueError: a wildcard stands in the middle, a tenant begins or ends with a blank, a
            rate is out of its limits, or a name or identity stands twice.
    """
    return Callers(_caller(index, each, fold_case) for index, each in enumerate(settings))


def _caller(index: int, settings: CallerSettings, fold_case: bool) -> Caller:
    rules = tuple(
        _rule(f"callers[{index}].rules[{number}]", rule, fold_case)
        for number, rule in enumerate(settings.rules)
    )
    rate = None
    if settings.rate is not None:
        with _named(f"callers[{index}].rate"):
            rate = Rate(settings.rate.per_second, settings.rate.burst)
    return Caller(settings.name, frozenset(settings.identities), rules, rate)


def _rule(origin: str, settings: RuleSettings, fold_case: bool) -> Rule:
    with _named(origin):
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
def _named(origin: str) -> Iterator[None]:
    """Have the error say where in the settings the value stands that is not valid."""
    try:
        yield
    except InvalidValueError as error:
        raise InvalidValueError(f"{origin} {error}") from error
