"""Which PostgreSQL URLs are refused although SQLAlchemy or the driver would accept them.

As for Redis, no message repeats a part of the URL: a seeming parameter or host may be the rest of a
password that was not percent-encoded (S11).
"""

import os
import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

from sqlalchemy import URL
from sqlalchemy.exc import ArgumentError

_MAX_PORT = 65535
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_HOST = re.compile(r"/.*|[A-Za-z0-9._-]+|[0-9A-Fa-f:.]+(%\w+)?")
_PARAMETERS = frozenset({"host", "passfile", "port", "ssl"})
_SERVICE = ("PGSERVICE", "PGSERVICEFILE")
_REPEATED = frozenset({"host", "port"})  # of several servers
_SSL = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_NAMES_OF_LIBPQ: Final[Mapping[str, str]] = MappingProxyType(
    {
        "sslmode": "sslmode is named ssl here: ?ssl=verify-full",
        "sslrootcert": "sslrootcert is named by the variable PGSSLROOTCERT",
        "sslcert": "sslcert is named by the variable PGSSLCERT",
        "sslkey": "sslkey is named by the variable PGSSLKEY",
    }
)


def check_text(text: str) -> None:
    """Refuse blanks and control characters; the path of a SQLite database may contain blanks.

    Raises:
        ValueError: the message repeats no part of the URL.
    """
    if text != text.strip():
        raise ValueError("the database URL begins or ends with white space")
    if _CONTROL.search(text) or (" " in text and not text.startswith("sqlite")):
        raise ValueError(
            "white space and control characters in the database URL must be percent-encoded"
        )


def check_postgresql(url: URL, text: str) -> None:
    """Refuse parameters and hosts that the driver does not know, or would not accept.

    The variables of libpq's service file are refused, too: the driver would take hosts and TLS from
    that file, and stepup could not know where the database is (S15, S25).
    `text` is the same URL, after `check_text`.

    Raises:
        ValueError: the message repeats no part of the URL.
    """
    for variable in _SERVICE:
        if os.environ.get(variable):
            raise ValueError(
                f"the variable {variable} is set, and its service file would name the database's"
                " host: unset it, and name host and ssl in the database URL"
            )
    before, _, query = text.partition("?")
    if "@" in query or before.count("@") > 1 or "#" in text:
        raise ValueError("an @, ? or # within a part of the database URL must be percent-encoded")
    if _BAD_ESCAPE.search(text):
        raise ValueError("a % in the database URL must be followed by two hexadecimal digits")
    names = [_parameter(pair) for pair in query.split("&")] if query else []
    if any(names.count(name) > 1 and name not in _REPEATED for name in names):
        raise ValueError("the database URL has a parameter twice")
    if url.query.get("ssl", _SSL[0]) not in _SSL:
        raise ValueError(f"ssl in the database URL must be one of {', '.join(_SSL)}")
    _check_hosts(url)


def _parameter(pair: str) -> str:
    name, _, value = pair.partition("=")
    if name in _NAMES_OF_LIBPQ:
        raise ValueError(f"a parameter of the database URL is unknown: {_NAMES_OF_LIBPQ[name]}")
    if name not in _PARAMETERS:
        known = ", ".join(sorted(_PARAMETERS))
        raise ValueError(f"a parameter of the database URL is unknown; known are {known}")
    if not value:
        raise ValueError("a parameter of the database URL has no value")
    return name


def _check_hosts(url: URL) -> None:
    if url.host and "," in url.host:
        raise ValueError(
            "the database URL must name several hosts as ?host=HOST:PORT&host=HOST:PORT"
        )
    try:
        # These are the driver's arguments.
        _, options = url.get_dialect()().create_connect_args(url)
        ports = [int(port) for port in _listed(options.get("port"))]
        hosts_are_known = all(map(_HOST.fullmatch, _listed(options.get("host"))))
    except (ArgumentError, ValueError, AssertionError):
        hosts_are_known = False
    if not hosts_are_known:
        raise ValueError(
            "a host of the database URL must be HOST or HOST:PORT, or the path of a socket's"
            " directory"
        )
    if url.port is not None:  # 0 would be left out
        ports.append(url.port)
    if not all(0 < port <= _MAX_PORT for port in ports):
        raise ValueError(f"a port of the database URL must be 1 to {_MAX_PORT}")


def _listed(value: Any) -> Sequence[Any]:
    return [] if value is None else value if isinstance(value, list | tuple) else [value]
