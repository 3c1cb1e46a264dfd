"""What is measured, as data: a variant is one entry here.

The stage fills in a command: `{python}`, `{stepup}`, `{config}` (of the variant's access),
`{directory}` (of the stage), `{redis}` (host and port), `{go}` and `{cerbos}` (the yardsticks that
the machine has), `{before}` (`stepup` of another checkout, where one is given). The server chooses
its port. Its first line on standard output ends with the address.
"""

from dataclasses import dataclass
from enum import Enum, unique


@unique
class Access(Enum):
    """How a caller proves who it is; servers that do not care are sent the same bytes."""

    TOKEN = "token"
    """A bearer token over plaintext loopback."""
    TOKEN_OVER_TLS = "token_over_tls"
    CERTIFICATE = "certificate"
    """Mutual TLS. h2load can present no certificate: there is latency only, no throughput."""


@unique
class Service(Enum):
    """Whose API a server has."""

    STEP_UP = "stepup"
    CERBOS = "cerbos"


@dataclass(frozen=True, slots=True)
class Variant:
    """A server, and what its answers have to have. All of them are ALLOWED, for ELEVATED."""

    name: str
    command: tuple[str, ...]
    access: Access = Access.TOKEN
    has_elevation: bool = True
    """Whether answers carry the live elevation, which was read from Redis."""
    on_record: bool = False
    """Whether each answer has a line in the decision log, and a receipt."""
    service: Service = Service.STEP_UP

    @property
    def is_loaded(self) -> bool:
        """Whether its throughput is measured."""
        return self.access is not Access.CERTIFICATE


@dataclass(frozen=True, slots=True)
class Ratio:
    """A comparison of two variants by one measure, taken run by run, and what it should be."""

    measure: str
    """`rps`, or `p50_ms`: of one call at a time."""
    variant: str
    to: str
    at_least: float | None = None
    at_most: float | None = None

    @property
    def name(self) -> str:
        """Such as `rps: aio-check / aio-noop`."""
        return f"{self.measure}: {self.variant} / {self.to}"


def _noop(name: str, *command: str) -> Variant:
    return Variant(name, command, has_elevation=False)


def _check(
    name: str, engine: str, access: Access = Access.TOKEN, program: str = "{stepup}"
) -> Variant:
    serve = (program, "serve", "--config", "{config}", "--listen", "127.0.0.1:0")
    return Variant(name, (*serve, "--engine", engine), access, on_record=True)


def _cerbos(name: str, *options: str) -> Variant:
    command = ("{python}", "-m", "tools.bench.cerbos", "{cerbos}", *options)
    return Variant(name, command, service=Service.CERBOS)


VARIANTS = (
    _noop("aio-noop", "{python}", "-m", "tools.bench.noop", "aio"),
    _check("aio-check", "aio"),
    _noop("core-noop", "{python}", "-m", "tools.bench.noop", "core"),
    _check("core-check", "core"),
    _check("core-check-before", "core", program="{before}"),
    _check("core-check-tls", "core", Access.TOKEN_OVER_TLS),
    _check("core-check-mtls", "core", Access.CERTIFICATE),
    _noop("go-noop", "{go}", "-kind", "noop"),
    Variant("go-check", ("{go}", "-kind", "check", "-redis", "{redis}")),
    Variant(
        "go-same-work",
        ("{go}", "-kind", "same-work", "-redis", "{redis}", "-directory", "{directory}"),
        on_record=True,
    ),
    _cerbos("cerbos"),
    _cerbos("cerbos-audited", "--audited"),
)

RATIOS = (
    Ratio("rps", "core-check", "aio-noop", at_least=2),
    Ratio("rps", "core-check", "cerbos-audited", at_least=1.5),
    Ratio("rps", "core-check", "cerbos", at_least=1.1),
    Ratio("p50_ms", "core-check", "aio-noop", at_most=1.8),
    Ratio("rps", "core-check", "core-check-before"),
    Ratio("rps", "core-check", "go-same-work"),
    Ratio("rps", "core-check", "go-check"),
    Ratio("rps", "core-check", "aio-check"),
    Ratio("rps", "core-check", "core-noop"),
    Ratio("rps", "core-noop", "aio-noop"),
    Ratio("rps", "aio-check", "aio-noop"),
    Ratio("rps", "core-check-tls", "core-check"),
    Ratio("p50_ms", "core-check-tls", "core-check"),
    Ratio("p50_ms", "core-check-mtls", "core-check"),
    Ratio("rps", "go-check", "go-noop"),
)
