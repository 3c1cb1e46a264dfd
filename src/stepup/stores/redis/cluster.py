"""redis-py's client of a cluster, so that the loss of a server is felt by its own slots only."""

import asyncio
from collections.abc import Sequence
from typing import Any, Final
from weakref import WeakValueDictionary

from redis.asyncio import RedisCluster
from redis.asyncio.cluster import ClusterNode
from redis.exceptions import (
    ClusterDownError,
    ConnectionError,  # noqa: A004  # it does not derive from Python's
    RedisClusterException,
    TimeoutError,  # noqa: A004  # as above
)

from stepup.stores.redis.tls import TlsConnection
from stepup.stores.redis.url import Address

LOOK_SECONDS: Final = 0.5
"""How often, at most, the servers are asked for their slots after a lost connection. redis-py opens
all connections again each time."""

_LOST = (ConnectionError, TimeoutError, ClusterDownError)


class Cluster(RedisCluster):
    """A cluster. A command is sent once, unless a server redirects it.

    When a connection is lost, redis-py lets all calls wait until the servers have reported their
    slots. If that takes a call too long, the call closes every connection. Here the calls continue
    with the slots that are known, and a task asks the servers beside them.

    Args:
        addresses: of some servers. They are asked each time, so name several, or a name of all.
        max_under_way: how many commands, or batches of reads, are under way at a server at most.
        options: of `RedisCluster`.
    """

    def __init__(self, addresses: Sequence[Address], max_under_way: int, **options: Any) -> None:
        super().__init__(
            startup_nodes=[ClusterNode(host, port) for host, port in addresses],
            # Beyond these it would fail. Those that are redirected do not wait for their turn.
            max_connections=2 * max_under_way,
            require_full_coverage=False,
            dynamic_startup_nodes=False,
            reinitialize_steps=0,
            **options,
        )
        if options.get("ssl"):
            self.connection_kwargs["connection_class"] = TlsConnection
            for node in self.startup_nodes:
                node.connection_class = TlsConnection
        self._max_under_way = max_under_way
        self._turns: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()
        self._look: asyncio.Task[None] | None = None
        self._next_look = 0.0

    async def initialize(self, *_: Any, **__: Any) -> "Cluster":
        """Start a task that asks the servers for their slots; wait for it if no slots are known.

        Raises:
            RedisClusterException: no server reports its slots.
        """
        if self._initialize:
            if self._look is None or self._look.done():
                self._look = asyncio.create_task(self._look_for_servers())
                # Nobody may be waiting for it.
                self._look.add_done_callback(lambda look: look.cancelled() or look.exception())
            if not self._is_known:
                # Other calls wait, too: the task continues if this call is cancelled.
                await asyncio.wait([self._look])
            if not self._is_known:
                reason = None if self._look.cancelled() else self._look.exception()
                raise RedisClusterException(
                    "no server of the cluster reports its slots"
                ) from reason
            self._initialize = False
        return self

    async def aclose(self) -> None:
        """Close all connections; redis-py does so itself when the cluster says that it is down."""
        if self._look is not None:
            await asyncio.wait([self._look])
        self._initialize = True
        await self.nodes_manager.aclose()
        await self.nodes_manager.aclose("startup_nodes")

    async def execute_command(self, *args: Any, **kwargs: Any) -> Any:
        """See `RedisCluster`, which would ask any server for the first key of all."""
        await self.initialize()
        return await super().execute_command(*args, **kwargs)

    async def fetch(self, reads: Sequence[Sequence[str]]) -> list[Any]:
        """The values of each read's keys, or the error of the read; all keys are on one server."""
        pipeline = self.pipeline()
        for keys in reads:
            pipeline.execute_command("MGET", *keys)
        try:
            async with self._turn(self.server_of(reads[0][0])):
                answers: list[Any] = await pipeline.execute(raise_on_error=False)
        except _LOST:
            self._initialize = True
            raise
        # redis-py does not do this after a pipeline, and would not find a new master.
        if any(isinstance(answer, _LOST) for answer in answers):
            self._initialize = True
        return answers

    def server_of(self, key: str) -> str:
        """The name of the server that has a key, as far as is known."""
        nodes = self.nodes_manager.slots_cache.get(self.keyslot(key))
        return nodes[0].name if nodes else ""

    async def _execute_command(self, target_node: ClusterNode, *args: Any, **kwargs: Any) -> Any:
        async with self._turn(target_node.name):
            return await super()._execute_command(target_node, *args, **kwargs)

    @property
    def _is_known(self) -> bool:
        return self.get_default_node() is not None and bool(self.commands_parser.commands)

    def _turn(self, server: str) -> asyncio.Semaphore:
        turn = self._turns.get(server)
        if turn is None:
            turn = self._turns[server] = asyncio.Semaphore(self._max_under_way)
        return turn

    async def _look_for_servers(self) -> None:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(self._next_look - loop.time())
        try:
            await self.nodes_manager.initialize()
            if not self.commands_parser.commands:
                await self.commands_parser.initialize(self.nodes_manager.default_node)
        finally:
            self._next_look = loop.time() + LOOK_SECONDS
