"""redis-py's client of a cluster, so that the loss of a node is felt by its own slots only."""

from collections.abc import Sequence
from typing import Any

from redis.asyncio import RedisCluster
from redis.asyncio.cluster import ClusterNode

from stepup.stores.redis.url import Address


class Cluster(RedisCluster):
    """A cluster."""

    def __init__(self, addresses: Sequence[Address], max_connections: int, **options: Any) -> None:
        super().__init__(
            startup_nodes=[ClusterNode(host, port) for host, port in addresses],
            max_connections=max_connections,
            require_full_coverage=False,
            dynamic_startup_nodes=False,
            reinitialize_steps=0,
            **options,
        )
