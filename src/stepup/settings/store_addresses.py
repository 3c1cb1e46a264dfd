"""The hosts of the configured stores, and whether connections to them are encrypted (S15, S25)."""

import os
from collections.abc import Iterator
from dataclasses import dataclass

from stepup.settings.storage import StorageSettings
from stepup.stores.redis.url import parse_url as parse_redis_url
from stepup.stores.sql.engine import parse_url as parse_database_url
from stepup.system.loopback import is_loopback, is_near

_WITH_TLS = {"require", "verify-ca", "verify-full"}


@dataclass(frozen=True, slots=True)
class StoreAddress:
    """The hosts of a store.

    Attributes:
        store: `sql` or `redis`.
        setting: the setting that names it.
        hosts: names and addresses; none for a file, a unix socket, and an embedded store.
        has_tls: whether every connection to it is encrypted.
    """

    store: str
    setting: str
    hosts: tuple[str, ...]
    has_tls: bool

    @property
    def is_in_plain_text(self) -> bool:
        """Whether others on a network can read and alter the traffic to the store."""
        return not self.has_tls and not all(map(is_loopback, self.hosts))


def store_addresses(storage: StorageSettings) -> Iterator[StoreAddress]:
    """The addresses of the stores that the settings name."""
    if storage.database_url is not None:
        yield _database(storage.database_url.get_secret_value())
    if storage.redis_url is not None:
        url = parse_redis_url(storage.redis_url.get_secret_value())
        hosts = tuple(host for host, _ in url.addresses)
        yield StoreAddress("redis", "storage.redis_url", hosts, url.tls is not None)


def in_plain_text(storage: StorageSettings) -> Iterator[tuple[str, str]]:
    """Each store that the server reaches over a network without TLS, with a warning about it."""
    remedies = {
        "sql": "add ?ssl=verify-full, and name the authorities in PGSSLROOTCERT",
        "redis": "use a URL that begins with rediss",
    }
    for address in store_addresses(storage):
        if address.is_in_plain_text:
            sentence = (
                f"{address.setting}: connections over the network are not encrypted, so that others"
                f" there can read and alter what the store answers: {remedies[address.store]}"
            )
            yield address.store, sentence


def is_store_near(address: StoreAddress) -> bool:
    """Whether all hosts of a store have loopback or private addresses. This looks names up."""
    return all(map(is_near, address.hosts))


def _database(text: str) -> StoreAddress:
    url = parse_database_url(text)
    setting = "storage.database_url"
    if url.get_backend_name() == "sqlite":
        return StoreAddress("sql", setting, (), has_tls=False)
    # SQLAlchemy calls the driver with these options. The driver reads the variables without them.
    _, options = url.get_dialect()().create_connect_args(url)
    hosts = options.get("host") or os.environ.get("PGHOST", "").split(",")
    mode = options.get("ssl") or os.environ.get("PGSSLMODE", "prefer")
    named = (hosts,) if isinstance(hosts, str) else hosts
    # Without a host the driver takes a socket of this machine. A path is a socket, too.
    reached = tuple(host for host in named if host and not host.startswith("/"))
    return StoreAddress("sql", setting, reached, has_tls=mode in _WITH_TLS)
