"""Limits how many calls wait for the same event, in all and for each network (S26)."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from stepup.domain.errors import OverloadedError
from stepup.rpc.engine.waiting import Cause, Refusals, network_of


class NetworkShare:
    """Lets a limited number of calls wait, and refuses the others at once.

    Args:
        cause: the label of the refusals in `stepup_overload_refusals_total`.
        limit: how many calls may wait.
        of_network: how many of them may come from one network.
    """

    def __init__(self, cause: Cause, limit: int, of_network: int) -> None:
        self._cause: Cause = cause
        self._limit = limit
        self._of_network = of_network
        self._waiting: Counter[str] = Counter()
        self._refusals = Refusals()

    @contextmanager
    def place(self, peer: str) -> Iterator[None]:
        """Take a place while the block runs.

        Args:
            peer: the address of the client as gRPC writes it.

        Raises:
            OverloadedError: no place is free, in all or for the network of the client.
        """
        network = network_of(peer)
        if self._waiting[network] >= self._of_network or self._waiting.total() >= self._limit:
            self._refusals.count(self._cause, peer)
            raise OverloadedError("too many calls wait already; try again")
        self._waiting[network] += 1
        try:
            yield
        finally:
            self._waiting[network] -= 1
            # Drop the networks without a waiting call, which would fill the memory.
            self._waiting += Counter()
