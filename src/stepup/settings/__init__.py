"""The settings of a server: frozen, and validated once, by `load`."""

from stepup.settings.callers import CallerSettings, RateSettings, TlsSettings, TokenIssuerSettings
from stepup.settings.loading import in_effect, load, load_web
from stepup.settings.root import Settings
from stepup.settings.section import ConfigurationError, UnusableFileError
from stepup.settings.server import ServerSettings
from stepup.settings.step_up import VerificationSettings
from stepup.settings.storage import DatabaseSettings, StorageSettings
from stepup.settings.telemetry import TracesSettings
from stepup.settings.web import WebSettings

__all__ = [
    "CallerSettings",
    "ConfigurationError",
    "DatabaseSettings",
    "RateSettings",
    "ServerSettings",
    "Settings",
    "StorageSettings",
    "TlsSettings",
    "TokenIssuerSettings",
    "TracesSettings",
    "UnusableFileError",
    "VerificationSettings",
    "WebSettings",
    "in_effect",
    "load",
    "load_web",
]
