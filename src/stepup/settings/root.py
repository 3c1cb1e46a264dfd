"""All settings together."""

from typing import Self

from pydantic import model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from stepup.domain.callers import Callers
from stepup.domain.errors import InvalidValueError
from stepup.domain.operations import SHIPPED, Catalogue, Category, Operation
from stepup.domain.origins import WebOrigin
from stepup.settings.callers import CallerSettings, TlsSettings, TokenIssuerSettings, callers_of
from stepup.settings.portal import PortalSettings
from stepup.settings.retention import RetentionSettings
from stepup.settings.section import ConfigurationError
from stepup.settings.server import ServerSettings
from stepup.settings.step_up import CatalogueSettings, IdentitySettings, VerificationSettings
from stepup.settings.storage import StorageSettings
from stepup.settings.telemetry import LogSettings, MetricsSettings, ProbesSettings, TracesSettings


class Settings(BaseSettings):
    """All settings of a server."""

    model_config = SettingsConfigDict(
        frozen=True, extra="forbid", env_prefix="STEPUP_", env_nested_delimiter="__"
    )

    server: ServerSettings = ServerSettings()
    storage: StorageSettings = StorageSettings()
    identity: IdentitySettings = IdentitySettings()
    verification: VerificationSettings = VerificationSettings()
    catalogue: CatalogueSettings = CatalogueSettings()
    retention: RetentionSettings = RetentionSettings()
    log: LogSettings = LogSettings()
    metrics: MetricsSettings | None = None
    """Absent: the server serves no metrics."""
    probes: ProbesSettings | None = None
    """Absent: the server answers no probes."""
    traces: TracesSettings | None = None
    """Absent: the server exports no traces."""
    portal: PortalSettings | None = None
    """Absent: nobody can open portal sessions, and challenges have no `portal_url`."""
    tls: TlsSettings | None = None
    token_issuers: tuple[TokenIssuerSettings, ...] = ()
    callers: tuple[CallerSettings, ...] = ()

    @model_validator(mode="after")
    def _demand_credentials_of_callers(self) -> Self:
        if self.tls is not None and self.tls.client_ca is None and not self.token_issuers:
            raise ValueError(
                "tls.client_ca: callers must have credentials: set it, or token_issuers"
            )
        if self.callers and not self.authenticates_callers:
            raise ValueError(
                "callers: the server identifies them by tls or token_issuers: configure one"
            )
        return self

    @property
    def authenticates_callers(self) -> bool:
        """Whether callers must have credentials."""
        return self.tls is not None or bool(self.token_issuers)

    @property
    def portal_url(self) -> WebOrigin | None:
        """The origin of the pages; None without a portal."""
        return self.portal.public_url if self.portal else None

    @property
    def registered_callers(self) -> Callers:
        """The callers with their rules.

        Raises:
            ConfigurationError: see `callers_of`.
        """
        try:
            return callers_of(self.callers, fold_case=self.identity.fold_case)
        except InvalidValueError as error:
            raise ConfigurationError(f"callers: {error}") from error

    @property
    def operations(self) -> Catalogue:
        """The catalogue with the operator's additions.

        Raises:
            ConfigurationError: an id occurs twice, or the category of an operation is missing.
        """
        try:
            return SHIPPED.extended(
                [Category(entry.id, entry.title) for entry in self.catalogue.categories],
                [Operation(entry.id, entry.title) for entry in self.catalogue.operations],
            )
        except InvalidValueError as error:
            raise ConfigurationError(f"catalogue: {error}") from error
