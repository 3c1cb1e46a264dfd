"""One URL for a single server, for Sentinels and for a cluster, each with or without TLS.

No message has a part of the URL: even what seems to be a parameter's name may be the rest of a
password that was not percent-encoded (S11).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from ipaddress import IPv6Address
from types import MappingProxyType
from typing import Final, TypeAlias
from urllib.parse import unquote

Address: TypeAlias = tuple[str, int]

FORMS: Final = (
    "redis://HOST, rediss://HOST, unix:///PATH, redis+sentinel://HOST,HOST/MASTER,"
    " rediss+sentinel://..., redis+cluster://HOST,HOST or rediss+cluster://..."
)

_REDIS_PORT, _SENTINEL_PORT, _MAX_PORT = 6379, 26379, 65535
_HOST = re.compile(
    r"(?:\[(?P<ipv6>[0-9A-Fa-f:.]+)\]|(?P<name>[A-Za-z0-9._-]+))(?::(?P<port>[0-9]+))?"
)
_DATABASE = re.compile(r"[0-9]{1,5}")
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_SENTINEL_PARAMETERS = frozenset({"db", "sentinel_username", "sentinel_password"})
_FILES = frozenset({"ssl_ca_certs", "ssl_certfile", "ssl_keyfile"})
_VERIFYING: Final[Mapping[str, str]] = MappingProxyType(
    {"ssl_cert_reqs": "required", "ssl_check_hostname": "true"}
)
"""What these parameters may say: that certificates are verified, as they always are."""


class RedisUrlError(ValueError):
    """The URL cannot be used; the message says why, and has no part of it."""


class Topology(Enum):
    """What is at the addresses of a URL."""

    SINGLE = "single"
    SENTINEL = "sentinel"
    CLUSTER = "cluster"


@dataclass(frozen=True, slots=True)
class Login:
    """The credentials for a server: without a user, its default user; without a password, none."""

    username: str | None = None
    password: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Tls:
    """Certificates are verified with host names, by `ca_certs`, else by the machine's authorities.

    Paths are those of PEM files. `certfile` and `keyfile` are our own, for servers that want them.
    """

    ca_certs: str | None = None
    certfile: str | None = None
    keyfile: str | None = None


@dataclass(frozen=True, slots=True)
class RedisUrl:
    """Where Redis is, and how it is reached; made by `parse_url`.

    Attributes:
        addresses: of the server, of the Sentinels, or of some nodes of the cluster; none for a
            unix socket.
        path: of a unix socket.
        master: the name by which Sentinels know the servers.
        login: at the servers.
        sentinel_login: at the Sentinels.
        tls: None for a connection in plain text.
    """

    topology: Topology
    addresses: tuple[Address, ...]
    path: str | None = None
    master: str | None = None
    database: int = 0
    login: Login = Login()
    sentinel_login: Login = Login()
    tls: Tls | None = None


def parse_url(text: str) -> RedisUrl:
    """Read a URL in one of the `FORMS`, with `USER:PASSWORD@` or `:PASSWORD@` before the hosts.

    The database of a single server is its path or the parameter `db`; with Sentinels it is the
    parameter. User, password, path and parameters may be percent-encoded.

    Raises:
        RedisUrlError: it is something else, or asks for less than TLS with verified certificates.
    """
    scheme, found, rest = text.partition("://")
    plain_scheme = scheme.replace("rediss", "redis", 1)
    if not found or (plain_scheme != "unix" and plain_scheme not in _TOPOLOGIES):
        raise RedisUrlError(f"the URL must be {FORMS}")
    if "#" in rest:
        raise RedisUrlError("a # in the URL must be percent-encoded")
    rest, _, query = rest.partition("?")
    authority, slash, path = rest.partition("/")
    login_text, _, hosts = authority.rpartition("@")
    login, parameters = _login(login_text), _parameters(query)
    if "@" in path:
        raise RedisUrlError("an @ in the path is %40, and a / in a password is %2F")
    if plain_scheme == "unix":
        return _unix(hosts, slash + path, login, parameters)
    topology = _TOPOLOGIES[plain_scheme]
    known = _SENTINEL_PARAMETERS if topology is Topology.SENTINEL else frozenset({"db"})
    tls = _tls(parameters) if scheme != plain_scheme else None
    _demand_known(parameters, known, tls)
    master = None
    if topology is Topology.SENTINEL:
        master = _decoded(path)
        if not master or "/" in master:
            raise RedisUrlError("the path of a URL of Sentinels must be the name of the master")
        database = _database("", parameters)
    else:
        database = _database(path, parameters)
    if topology is Topology.CLUSTER and database:
        raise RedisUrlError("a cluster has no database but 0")
    addresses = tuple(_address(host, topology) for host in hosts.split(","))
    if topology is Topology.SINGLE and len(addresses) > 1:
        raise RedisUrlError(
            "several hosts need redis+sentinel:// or redis+cluster://, or the same with rediss"
        )
    return RedisUrl(
        topology,
        addresses,
        master=master,
        database=database,
        login=login,
        sentinel_login=Login(
            parameters.get("sentinel_username"), parameters.get("sentinel_password")
        ),
        tls=tls,
    )


_TOPOLOGIES: Final[Mapping[str, Topology]] = MappingProxyType(
    {
        "redis": Topology.SINGLE,
        "redis+sentinel": Topology.SENTINEL,
        "redis+cluster": Topology.CLUSTER,
    }
)


def _unix(host: str, path: str, login: Login, parameters: Mapping[str, str]) -> RedisUrl:
    _demand_known(parameters, frozenset({"db"}), None)
    path = _decoded(path)
    if host or path in ("", "/"):
        raise RedisUrlError("the URL of a unix socket must be unix:// and an absolute path")
    database = _database("", parameters)
    return RedisUrl(Topology.SINGLE, (), path=path, database=database, login=login)


def _login(text: str) -> Login:
    if not text:
        return Login()
    username, _, password = text.partition(":")
    if not password:
        raise RedisUrlError("the part before the @ must be USER:PASSWORD or :PASSWORD")
    return Login(_decoded(username) or None, _decoded(password))


def _parameters(query: str) -> dict[str, str]:
    parameters: dict[str, str] = {}
    for pair in query.split("&") if query else ():
        name, _, value = pair.partition("=")
        if name in parameters or not value:
            raise RedisUrlError("a parameter of the URL occurs twice or has no value")
        parameters[name] = _decoded(value)
    return parameters


def _tls(parameters: Mapping[str, str]) -> Tls:
    certfile, keyfile = parameters.get("ssl_certfile"), parameters.get("ssl_keyfile")
    if (certfile is None) != (keyfile is None):
        raise RedisUrlError("ssl_certfile and ssl_keyfile need each other")
    return Tls(parameters.get("ssl_ca_certs"), certfile, keyfile)


def _demand_known(parameters: Mapping[str, str], known: frozenset[str], tls: Tls | None) -> None:
    if tls is None and (_FILES | _VERIFYING.keys()) & parameters.keys():
        raise RedisUrlError("parameters that begin with ssl_ need a URL that begins with rediss")
    for name, only in _VERIFYING.items():
        if parameters.get(name, only).lower() != only:
            raise RedisUrlError(f"{name} must be {only}: certificates are always verified")
    if parameters.keys() - known - _FILES - _VERIFYING.keys():
        allowed = ", ".join(sorted(known | (_FILES if tls else frozenset())))
        raise RedisUrlError(f"a parameter of the URL is unknown; the known ones are {allowed}")
    if "sentinel_username" in parameters and "sentinel_password" not in parameters:
        raise RedisUrlError("sentinel_username needs sentinel_password")


def _database(path: str, parameters: Mapping[str, str]) -> int:
    text = parameters.get("db")
    if path:
        if text is not None:
            raise RedisUrlError("the database is given twice: as the path and as db")
        text = path
    if text is None:
        return 0
    if not _DATABASE.fullmatch(text):
        raise RedisUrlError("the database must be a number")
    return int(text)


def _address(text: str, topology: Topology) -> Address:
    matched = _HOST.fullmatch(text)
    if matched is None:
        raise RedisUrlError("a host must be NAME, NAME:PORT, [IPV6] or [IPV6]:PORT")
    host = matched["name"] or _ipv6(matched["ipv6"])
    default = _SENTINEL_PORT if topology is Topology.SENTINEL else _REDIS_PORT
    port = int(matched["port"] or default)
    if not 0 < port <= _MAX_PORT:
        raise RedisUrlError(f"a port must be 1 to {_MAX_PORT}")
    return host, port


def _ipv6(text: str) -> str:
    try:
        return str(IPv6Address(text))
    except ValueError:
        raise RedisUrlError("the text in brackets must be an IPv6 address") from None


def _decoded(text: str) -> str:
    if _BAD_ESCAPE.search(text):
        raise RedisUrlError("two hexadecimal digits must follow a % in the URL")
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError:
        raise RedisUrlError("the percent-encoded octets of the URL must be UTF-8") from None
