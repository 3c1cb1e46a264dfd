"""The settings of logs, metrics, probes and traces."""

import re
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from stepup.settings.section import A_PATH, Listener, Section, SettingPath, address
from stepup.telemetry.logs import LogFormat


class LinesSettings(Section):
    """What is written to standard error."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """The lowest level that is written to the log."""
    format: LogFormat = "json"
    """`json` writes a JSON object per line, `console` writes lines for people."""


class LogSettings(LinesSettings):
    """What is written about calls and decisions."""

    decisions: Annotated[Path | Literal["-"], A_PATH] | None = None
    """The decision log's file; `-` is standard output. Absent: `decisions.jsonl` in the data
    directory."""


class MetricsSettings(Listener):
    """Where the server answers Prometheus, over HTTP without credentials."""


class ProbesSettings(Listener):
    """Where the server answers an orchestrator's probes, over HTTP without credentials."""


def _collector(value: str) -> str:
    scheme, _, host_and_port = value.partition("://")
    if scheme not in {"http", "https"} or re.search("[@/?#]", host_and_port):
        raise ValueError("must be http://HOST:PORT or https://HOST:PORT")
    address(host_and_port)
    return value


class TracesSettings(Section):
    """Where the server exports [traces](operating.md#traces) to by OTLP. Needs the extra `otel`."""

    endpoint: Annotated[str, AfterValidator(_collector)]
    """`http://host:port`, or `https://host:port` for TLS."""
    ca_file: SettingPath | None = None
    """The authorities of the collector's certificate. Absent: the file that
    `OTEL_EXPORTER_OTLP_CERTIFICATE` names, or the system's authorities."""
    sample_ratio: Annotated[float, Field(ge=0, le=1)] = 1.0
    """The share of calls that begin a trace, of all calls without a `traceparent`. For a call with
    a `traceparent` the caller decides whether the server records it."""

    @model_validator(mode="after")
    def _demand_tls_for_authorities(self) -> Self:
        if self.ca_file is not None and not self.has_tls:
            raise ValueError("ca_file needs an endpoint with https")
        return self

    @property
    def has_tls(self) -> bool:
        """Whether the collector has to authenticate."""
        return self.endpoint.startswith("https://")
