"""Limits the number of calls that wait for their client, and their time, fairly by client (S26).

A client can leave a call half-open at no cost. So a half-open call takes no place among the calls
in flight, and the half-open calls of one client never end those of another client.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from ipaddress import IPv6Address, ip_address, ip_network
from itertools import islice, takewhile
from typing import Any, Final, Literal, Protocol, TypeAlias
from urllib.parse import unquote

import prometheus_client
import structlog

from stepup.domain.errors import OverloadedError
from stepup.rpc.wire.errors import Status, message_late, overloaded
from stepup.telemetry.limited_lines import LimitedLines

Cause: TypeAlias = Literal[
    "in_flight", "half_open", "message_late", "unread", "exempt", "waiting", "issuer_keys"
]

_IPV6_PREFIX: Final = 64
"""A client usually has a whole /64."""
_SMALLEST_SHARE: Final = 16
"""At least one in so many calls ends at a time, because each search reads all calls."""
_SECONDS_BETWEEN_LINES: Final = 10.0
_MAX_REMEMBERED: Final = 4096

_log = structlog.get_logger(__name__)
_refused = prometheus_client.Counter(
    "stepup_overload_refusals",
    "Calls that the server ended because of its limits on calls, by cause.",
    ["cause"],
)


class WaitingCall(Protocol):
    """A call that another call can end."""

    @property
    def peer(self) -> str:
        """The address of the client as gRPC writes it: `ipv4:192.0.2.1:50000`."""
        ...

    def end_early(self, status: Status) -> None:
        """End the call with a status, whatever it waits for. It MUST NOT raise."""
        ...


class Refusals:
    """Counts the calls that the limits end, and logs each cause at most every ten seconds."""

    def __init__(self) -> None:
        self._lines = LimitedLines(_SECONDS_BETWEEN_LINES)

    def count(self, cause: Cause, peer: str, calls: int = 1) -> None:
        """Count calls of one client that a limit ends, and log them if a line is due."""
        _refused.labels(cause).inc(calls)
        if unlogged := self._lines.count(cause, calls):
            _log.warning(
                "calls_refused_for_overload",
                cause=cause,
                calls=unlogged,
                latest_network=network_of(peer),
            )


class WaitingCalls:
    """Calls that wait for the same event, oldest first.

    If one more call exceeds the limit, the older half of the calls of the network with the most
    calls ends with OVERLOADED. An honest call waits only milliseconds, so it is young.

    Args:
        cause: the label of the metric.
        limit: how many calls may wait.
        seconds: how long each call may wait; None sets no limit.
        refusals: counts the calls that end.
    """

    def __init__(self, cause: Cause, limit: int, seconds: float | None, refusals: Refusals) -> None:
        self._cause: Cause = cause
        self._limit = limit
        self._seconds = seconds
        self._refusals = refusals
        self.since: dict[Any, float] = {}
        """The calls, and since when they wait."""

    def __len__(self) -> int:
        return len(self.since)

    def add(self, call: WaitingCall, now: float) -> None:
        """Add a call that waits since `now`, in seconds of the event loop's clock.

        The oldest calls of the largest network may end for it.
        """
        self.since[call] = now
        if len(self.since) > self._limit:
            self._end(self._cause, self._most_costly(), overloaded())

    def discard(self, call: WaitingCall) -> None:
        """Remove a call if it waits."""
        self.since.pop(call, None)

    def end_overdue(self, now: float) -> None:
        """End the calls that have waited too long, with DEADLINE_EXCEEDED."""
        if self._seconds is None:
            return
        since = now - self._seconds
        overdue = list(takewhile(lambda call: self.since[call] <= since, self.since))
        if overdue:
            cause: Cause = "message_late" if self._cause == "half_open" else self._cause
            self._end(cause, overdue, message_late())

    def _most_costly(self) -> list[WaitingCall]:
        sizes = Counter(network_of(call.peer) for call in self.since)
        [(network, size)] = sizes.most_common(1)
        share = max(len(self.since) // _SMALLEST_SHARE, 1)
        if size // 2 < share:  # no network has many more calls than the others
            return list(islice(self.since, share))
        of_network = (call for call in self.since if network_of(call.peer) == network)
        return list(islice(of_network, size // 2))

    def _end(self, cause: Cause, calls: Iterable[WaitingCall], status: Status) -> None:
        for call in calls:
            del self.since[call]
            self._refusals.count(cause, call.peer)
            call.end_early(status)


def network_of(peer: str) -> str:
    """The network of a client: its IPv4 address, or the /64 of its IPv6 address.

    Args:
        peer: the address as gRPC writes it: `ipv4:192.0.2.1:50000`, `ipv6:%5B2001:db8::1%5D:50000`.
    """
    return _network_of_host(peer.partition(":")[2].rpartition(":")[0])


@lru_cache(_MAX_REMEMBERED)
def _network_of_host(host: str) -> str:
    try:
        address = ip_address(unquote(host).strip("[]").partition("%")[0])
    except ValueError:
        return host
    if not isinstance(address, IPv6Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ip_network((address, _IPV6_PREFIX), strict=False))


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
        """Take a place for a client, by its address as gRPC writes it, while the block runs.

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
