"""The settings of the web process, `stepup web`."""

import re
from ipaddress import ip_network
from typing import Annotated, Final, Self

from pydantic import AfterValidator, Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from stepup.domain.origins import WebOrigin
from stepup.settings.section import Section, SettingPath, address, checked
from stepup.settings.telemetry import LinesSettings, MetricsSettings
from stepup.system.colours import WHITE, contrast
from stepup.system.loopback import is_loopback

_CONTRAST: Final = 4.5  # WCAG 2.2, 1.4.3


def _colour(value: str) -> str:
    if not re.fullmatch("#[0-9a-fA-F]{6}", value):
        raise ValueError("must be #rrggbb")
    found = contrast(value, WHITE)
    if found < _CONTRAST:
        raise ValueError(
            f"white text on it has a contrast of {found:.1f}:1, and people need {_CONTRAST}:1:"
            " take a darker colour"
        )
    return value


def _network(value: str) -> str:
    try:
        ip_network(value)
    except ValueError:
        raise ValueError("must be an IP address, or a network such as 10.0.0.0/8") from None
    return value


class CoreSettings(Section):
    """The core that the web process calls, and how the web process proves which caller it is."""

    target: Annotated[str, Field(min_length=1)] = "127.0.0.1:50051"
    """Host and port, or `unix:/PATH`."""
    certificate: SettingPath | None = None
    """The certificate chain of the web process, with its SPIFFE id. The web process reads a changed
    file again."""
    private_key: SettingPath | None = None
    """The private key of the certificate."""
    authorities: SettingPath | None = None
    """The authorities of the core's certificate. Absent: those that grpc brings."""
    token_file: SettingPath | None = None
    """A file with a bearer token, instead of the certificate or beside it."""
    insecure: bool = False
    """Whether to send everything in plain text to another machine, codes too: for trials on a
    network that you trust."""


class CertificateSettings(Section):
    """The certificate for browsers, in PEM files. Absent: plain HTTP."""

    certificate: SettingPath
    """The certificate chain, leaf first."""
    key: SettingPath
    """The private key of the certificate."""


class WebSettings(BaseSettings):
    """The web process itself."""

    model_config = SettingsConfigDict(
        frozen=True, extra="forbid", env_prefix="STEPUP_WEB_", env_nested_delimiter="__"
    )

    listen: Annotated[str, AfterValidator(address)] = "127.0.0.1:8080"
    """HOST:PORT. Without `[tls]` and without `trusted_proxies` the host must be a loopback
    address."""
    public_url: Annotated[WebOrigin, checked(WebOrigin)] | None = None
    """The origin that browsers see, such as `https://mfa.example.com`: the same as
    `portal.public_url` of the core. Absent: `http://` and the address of `listen`, for a trial on
    this machine."""
    trusted_proxies: tuple[Annotated[str, AfterValidator(_network)], ...] = ()
    """The addresses and networks of proxies, whose `X-Forwarded-For` names the browser's address.
    Any other client that sends the header is not believed."""
    workers: Annotated[int, Field(ge=1, le=64)] = 1
    """How many processes answer browsers."""
    title: Annotated[str, Field(min_length=1, max_length=64)] = "MFA"
    """The name of the portal on pages that belong to no visit. All others have the name of the
    tenant."""
    accent_color: Annotated[str, AfterValidator(_colour)] = "#3452c7"
    """The colour of buttons and links, `#rrggbb`. White text on it has a contrast of 4.5:1 or
    more."""
    core: CoreSettings = CoreSettings()
    tls: CertificateSettings | None = None
    metrics: MetricsSettings | None = None
    """Absent: the web process serves no metrics."""
    log: LinesSettings = LinesSettings()

    @model_validator(mode="after")
    def _demand_a_safe_way_to_browsers(self) -> Self:
        if self.is_local:
            return self
        if self.public_url is None:
            raise ValueError("public_url: required, because others than this machine can connect")
        if self.tls is None and not self.trusted_proxies:
            raise ValueError(
                "listen: others than this machine can connect, and codes would come in plain text:"
                " set [tls], or the trusted_proxies that have TLS"
            )
        return self

    @property
    def host(self) -> str:
        """The host of `listen`, without brackets."""
        return self.listen.rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        """The port of `listen`."""
        return int(self.listen.rpartition(":")[2])

    @property
    def is_local(self) -> bool:
        """Whether only programs on this machine can connect."""
        return is_loopback(self.host)

    def origin(self, port: int) -> str:
        """The origin that browsers see.

        Args:
            port: the one that the operating system assigned.
        """
        return self.public_url or f"http://{self.address(port)}".removesuffix(":80")

    def address(self, port: int) -> str:
        """HOST:PORT with the port that the operating system assigned."""
        return f"{self.listen.rpartition(':')[0]}:{port}"
