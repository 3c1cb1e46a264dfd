"""One round trip for the reads of many calls: a batch shares the cost of the client."""

import asyncio
from collections.abc import Iterator, Sequence
from contextvars import Context
from itertools import islice
from typing import Any, Final, Protocol, TypeAlias
from weakref import WeakValueDictionary

from stepup.domain.errors import StoreUnavailableError
from stepup.stores.redis.cluster import Cluster
from stepup.stores.redis.connection import Client, answering
from stepup.telemetry.spans import Part

SLOW_SECONDS: Final = 0.005
"""How long reads wait for a batch under way before they are sent beside it."""

Values: TypeAlias = Sequence[bytes | None]
_Answer: TypeAlias = Values | Exception


class Reads(Protocol):
    """Reads keys."""

    async def read(self, keys: Sequence[str]) -> Values:
        """Return the values of keys of one slot at one instant; None for an absent key.

        Raises:
            StoreUnavailableError: the server does not answer.
        """
        ...


def reads_of(client: Client) -> Reads:
    """The batches of a client."""
    return ClusterReads(client) if isinstance(client, Cluster) else BatchedReads(client)


class BatchedReads:
    """Reads keys; the reads that arrive while a batch is under way make up the next batch.

    A lone read is sent at once. If a batch fails, only its own reads fail.
    All reads must be of one server of a cluster.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._waiting: list[tuple[Sequence[str], asyncio.Future[_Answer]]] = []
        self._under_way: set[asyncio.Task[None]] = set()
        self._latest_began = 0.0
        # Remembered: get_running_loop makes a system call in Python 3.11.
        self._loop: asyncio.AbstractEventLoop | None = None

    async def read(self, keys: Sequence[str]) -> Values:
        loop = self._loop = self._loop or asyncio.get_running_loop()
        values: asyncio.Future[_Answer] = loop.create_future()
        self._waiting.append((keys, values))
        if not self._under_way or loop.time() - self._latest_began > SLOW_SECONDS:
            self._begin(loop)
        with Part("redis"):
            answer = await values
            if isinstance(answer, Exception):
                # A new error for each call: one that many calls raise collects all their stacks.
                raise StoreUnavailableError(str(answer), getattr(answer, "fault", None)) from answer
        return answer

    def _begin(self, loop: asyncio.AbstractEventLoop) -> None:
        # The task starts in the loop's next turn: the reads of this whole turn are in its batch.
        self._latest_began = loop.time()
        # The batch belongs to no call: the trace of each call shows how long that call has waited.
        batch = loop.create_task(self._read_waiting(), context=Context())
        self._under_way.add(batch)
        batch.add_done_callback(self._ended)

    def _ended(self, batch: asyncio.Task[None]) -> None:
        self._under_way.discard(batch)
        if self._waiting and not self._under_way:
            self._begin(batch.get_loop())

    async def _read_waiting(self) -> None:
        batch, self._waiting = self._waiting, []
        answers: Sequence[_Answer]
        try:
            async with answering(self._client):
                answers = await self._fetch([keys for keys, _ in batch])
        except Exception as error:  # noqa: BLE001  # no call may wait for ever
            answers = [error] * len(batch)
        for (_, values), answer in zip(batch, answers, strict=True):
            if not values.done():  # else its call was cancelled
                values.set_result(answer)

    async def _fetch(self, reads: Sequence[Sequence[str]]) -> Sequence[_Answer]:
        if isinstance(self._client, Cluster):
            return await self._client.fetch(reads)
        values: Iterator[Any] = iter(
            await self._client.mget([key for keys in reads for key in keys])
        )
        return [list(islice(values, len(keys))) for keys in reads]


class ClusterReads:
    """Reads from each server of a cluster in separate batches: no read waits for another server."""

    def __init__(self, client: Cluster) -> None:
        self._client = client
        # Entries live while reads use them, so that servers that are gone leave nothing behind.
        self._of_server: WeakValueDictionary[str, BatchedReads] = WeakValueDictionary()

    async def read(self, keys: Sequence[str]) -> Values:
        server = self._client.server_of(keys[0])
        reads = self._of_server.get(server)
        if reads is None:
            reads = self._of_server[server] = BatchedReads(self._client)
        return await reads.read(keys)
