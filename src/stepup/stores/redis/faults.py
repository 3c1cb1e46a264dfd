"""What is wrong with Redis or Valkey, in sentences for operators.

A sentence names the setting, the host, Redis's own word for the error (WRONGPASS, NOPERM, ...) and
what to do. It has no password, and no text of the driver, which could have one (S11).
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Final

from redis.asyncio.sentinel import MasterNotFoundError
from redis.exceptions import RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from stepup.stores.connection_faults import (
    causes,
    certificate_problem,
    network_problem,
    tls_problem,
)
from stepup.stores.redis.url import RedisUrl, Topology

SETTING: Final = "storage.redis_url"

# Each completes "Redis at HOST ...".
_BY_WORD: Final[Mapping[str, str]] = MappingProxyType(
    {
        "WRONGPASS": "refuses the password of {user} ({word}): check the user and the password",
        "NOAUTH": "demands a password ({word}): put USER:PASSWORD@ before the host of the URL",
        "NOPERM": "denies {user} {denied} ({word}): grant it by ACL SETUSER, see docs/operating.md",
        "READONLY": "is a replica, which takes no writes ({word}): name the primary, or the"
        " Sentinels",
        "LOADING": "loads its data ({word}): wait until it has loaded them",
        "MASTERDOWN": "is a replica that has lost its primary ({word}): name the primary, or the"
        " Sentinels",
        "OOM": "has no memory for writes ({word}): raise maxmemory",
        "MISCONF": "takes no writes, because it cannot store them on its disk ({word}): see its"
        " log; free space there",
        "NOREPLICAS": "takes no writes, because too few replicas follow it ({word}): start them, or"
        " lower min-replicas-to-write",
        "BUSY": "runs a script that does not end ({word}): SCRIPT KILL ends it",
        "DENIED": "is in protected mode ({word}): set a password there",
    }
)
_CLUSTER_WORDS: Final = frozenset({"MOVED", "ASK", "CROSSSLOT", "CLUSTERDOWN"})
_DENIED_COMMAND: Final = re.compile(r"run the '([a-z|]+)' command")
_UNKNOWN_COMMAND: Final = re.compile(r"unknown command\W+([A-Za-z]+)")


def describe_redis_fault(url: RedisUrl, error: BaseException) -> str:
    """Why Redis cannot be reached or refuses a command, and what to do.

    Args:
        url: a result of `url.parse_url`.
        error: an error of redis-py or of the system, with its causes.
    """
    found = list(causes(error))
    fault = _of_sentinels(url, found)
    if fault is None:
        what = _of_topology(url, found) or _of_word(url, found) or _of_tls(url, found)
        fault = f"{_place(url)} {what or _of_network(url, found)}"
    return f"{SETTING}: {fault}"


def _of_sentinels(url: RedisUrl, found: Sequence[BaseException]) -> str | None:
    """The sentence about Sentinels that do not name a master; None if they were not asked."""
    if url.topology is not Topology.SENTINEL:
        return None
    sentinels = f"the Sentinels at {_hosts(url)}"
    if any(command == "SENTINEL" for command in _unknown_commands(found)):
        return f"{sentinels} are servers: use a URL that begins with redis or rediss"
    for each in found:
        if isinstance(each, MasterNotFoundError):
            # redis-py reports only the kinds of the Sentinels' errors.
            _, _, refused = str(each).partition(f"{url.master!r} : ")
            if "AuthenticationError" in refused:
                return f"{sentinels} refuse the login: see sentinel_password in the URL"
            if refused:
                return (
                    f"{sentinels} cannot be asked: check the URL, its TLS, the network and the"
                    " Sentinels"
                )
            return (
                f"{sentinels} do not know the master {url.master}, or report it as down: check the"
                " name, which is the path of the URL"
            )
    return None


def _of_topology(url: RedisUrl, found: Sequence[BaseException]) -> str | None:
    words = _CLUSTER_WORDS.intersection(map(_word, found))
    if words and url.topology is not Topology.CLUSTER:
        return (
            f"is a server of a cluster ({min(words)}): use a URL that begins with redis+cluster"
            " or rediss+cluster"
        )
    if "CLUSTERDOWN" in words:
        return "is down, or has no server for some keys (CLUSTERDOWN): see CLUSTER INFO there"
    if any("cluster support disabled" in str(each) for each in found):
        return "is not a cluster (ERR): use a URL that begins with redis or rediss"
    for command in _unknown_commands(found):
        return (
            f"does not know the command {command} (ERR): for a Sentinel use a URL that begins with"
            " redis+sentinel or rediss+sentinel; a server must be Redis 7 or later, or Valkey"
        )
    return None


def _unknown_commands(found: Sequence[BaseException]) -> Iterator[str]:
    for each in found:
        if isinstance(each, ResponseError) and (unknown := _UNKNOWN_COMMAND.search(str(each))):
            yield unknown[1].upper()


def _of_word(url: RedisUrl, found: Sequence[BaseException]) -> str | None:
    for each in found:
        word = _word(each)
        if word is not None and word in _BY_WORD:
            denied = _DENIED_COMMAND.search(str(each))
            by_sentinel = denied is not None and denied[1].startswith("sentinel")
            login = url.sentinel_login if by_sentinel else url.login
            return _BY_WORD[word].format(
                word=word,
                user=f"the user {login.username or 'default'}",
                denied=f"the command {denied[1]}" if denied else "a key or command",
            )
        text = str(each) if isinstance(each, RedisError) else ""
        if "DB index is out of range" in text:
            return f"has no database {url.database} (ERR): use the database 0"
        if "max number of clients reached" in text:
            return "has no free connection (ERR): raise maxclients there"
    if any(isinstance(each, ResponseError) for each in found):
        return "answers with an error: see its log"
    return None


def _of_tls(url: RedisUrl, found: Sequence[BaseException]) -> str | None:
    if problem := certificate_problem(found):
        named = url.tls.ca_certs if url.tls is not None else None
        return (
            f"presents a certificate that is not verified ({problem}):"
            f" {f'ssl_ca_certs names {named}, which' if named else 'the authorities of this host'}"
            " must have its authority; the URL must name a host of the certificate"
        )
    if problem := tls_problem(found):
        return f"fails the TLS handshake ({problem}): {_hint_about_tls(url)}"
    return None


def _of_network(url: RedisUrl, found: Sequence[BaseException]) -> str:
    reason = network_problem(found)
    if any(isinstance(each, RedisTimeoutError | TimeoutError) for each in found):
        reason = "no answer in time"
    elif any(isinstance(each, IndexError) for each in found):  # redis-py reads an empty list
        return "has no server for any key: see CLUSTER INFO there"
    elif any(isinstance(each, ConnectionResetError) for each in found) or reason is None:
        reason = "it closes the connection"
    else:
        return f"cannot be reached ({reason}): check the URL, the network and the server"
    return (
        f"does not answer ({reason}): {_hint_about_tls(url)}; else check the URL, the network and"
        " the server"
    )


def _hint_about_tls(url: RedisUrl) -> str:
    """What to do if only one side speaks TLS, or Redis demands a certificate of its client."""
    if url.tls is None:
        return "if it listens with TLS, use a URL that begins with rediss"
    certificate = (
        ""
        if url.tls.certfile
        else "; if it demands a client's certificate, name ssl_certfile and ssl_keyfile"
    )
    return f"if it listens in plain text, use a URL that begins with redis{certificate}"


def _word(error: BaseException) -> str | None:
    """Redis's word for an error; None for an unknown word, which could be any text of a driver."""
    if not isinstance(error, RedisError):
        return None
    word = error.status_code or str(error).partition(" ")[0]
    return word if word in _BY_WORD or word in _CLUSTER_WORDS else None


def _place(url: RedisUrl) -> str:
    match url.topology:
        case Topology.SINGLE:
            return f"Redis at {url.path or _hosts(url)}"
        case Topology.SENTINEL:
            return f"the master {url.master} of the Sentinels at {_hosts(url)}"
        case Topology.CLUSTER:
            return f"the Redis cluster at {_hosts(url)}"


def _hosts(url: RedisUrl) -> str:
    return ", ".join(f"{host}:{port}" for host, port in url.addresses)
