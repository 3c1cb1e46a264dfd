"""Where the configured stores are, and whether connections to them are encrypted (S15, S25)."""

import ipaddress
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass

from stepup.settings.settings import StorageSettings
from stepup.stores.redis.url import parse_url as parse_redis_url
from stepup.stores.sql.engine import parse_url as parse_database_url
from stepup.system.loopback import is_loopback

_WITH_TLS = {"require", "verify-ca", "verify-full"}


@dataclass(frozen=True, slots=True)
class StoreAddress:
    """Where a store is.

    Attributes:
        store: `sql` or `redis`.
        setting: the setting that names it.
        hosts: names and addresses; none for a file, a unix socket, and what is embedded.
        has_tls: whether every connection to it is encrypted.
    """

    store: str
    setting: str
    hosts: tuple[str, ...]
    has_tls: bool

    @property
    def is_in_plain_text(self) -> bool:
        """Whether what is sent to it, and received, can be read and altered on a network."""
        return not self.has_tls and not all(map(is_loopback, self.hosts))


def store_addresses(storage: StorageSettings) -> Iterator[StoreAddress]:
    """Where the stores are that the settings name."""
    if storage.database_url is not None:
        yield _database(storage.database_url.get_secret_value())
    if storage.redis_url is not None:
        url = parse_redis_url(storage.redis_url.get_secret_value())
        hosts = tuple(host for host, _ in url.addresses)
        yield StoreAddress("redis", "storage.redis_url", hosts, url.tls is not None)


def in_plain_text(storage: StorageSettings) -> Iterator[tuple[str, str]]:
    """The stores that are reached over a network without TLS: each with a sentence about it."""
    remedies = {
        "sql": "add ?ssl=verify-full, and name the authorities in PGSSLROOTCERT",
        "redis": "take a URL that begins with rediss",
    }
    for address in store_addresses(storage):
        if address.is_in_plain_text:
            sentence = (
                f"{address.setting}: connections over the network are not encrypted, so that others"
                f" there can read and alter what the store answers: {remedies[address.store]}"
            )
            yield address.store, sentence


def is_near(address: StoreAddress) -> bool:
    """Whether all hosts of a store have loopback or private addresses; names are looked up."""
    return all(map(_is_near, address.hosts))


def _is_near(host: str) -> bool:
    try:
        found = {ipaddress.ip_address(host)}
    except ValueError:
        try:
            entries = socket.getaddrinfo(host, None)
        except (OSError, UnicodeError):
            return False
        found = {ipaddress.ip_address(str(entry[4][0]).partition("%")[0]) for entry in entries}
    return all(each.is_private or each.is_loopback for each in found)


def _database(text: str) -> StoreAddress:
    url = parse_database_url(text)
    setting = "storage.database_url"
    if url.get_backend_name() == "sqlite":
        return StoreAddress("sql", setting, (), has_tls=False)
    # As the driver is called; it reads these variables where the URL says nothing.
    _, options = url.get_dialect()().create_connect_args(url)
    hosts = options.get("host") or os.environ.get("PGHOST", "").split(",")
    mode = options.get("ssl") or os.environ.get("PGSSLMODE", "prefer")
    named = (hosts,) if isinstance(hosts, str) else hosts
    # Without a host the driver takes a socket of this machine; a path is a socket, too.
    reached = tuple(host for host in named if host and not host.startswith("/"))
    return StoreAddress("sql", setting, reached, has_tls=mode in _WITH_TLS)
