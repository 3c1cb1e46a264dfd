"""Approvals: create or find a challenge, show it, and wait for the person."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from datetime import timedelta
from threading import Lock
from typing import Any, Final

from stepup.client import rpcs
from stepup.client.answers import Approved, approval_of, state_of
from stepup.client.channels import Endpoint
from stepup.client.errors import NotApprovedError, StateError, StepUpError
from stepup.client.requests import Metadata, duration_of, new_request_id
from stepup.client.synchronous.io import settled, sleep
from stepup.client.synchronous.transport import (
    STREAM_TIMEOUT,
    RpcTransport,
    checked_timeout,
)
from stepup.v1.actor_pb2 import ActorContext
from stepup.v1.challenge_service_pb2 import (
    AwaitChallengeRequest,
    Challenge,
    CreateChallengeRequest,
    GetChallengeRequest,
    NewChallengeItem,
)

_WAITS_PER_CONNECTION: Final = 90
"""A server takes 100 calls on a connection."""
_PAUSE: Final = 1.0
"""Seconds between two waits for a challenge: a server that stops is soon replaced."""
_LATER: Final = 10.0
"""Seconds by which a wait ends later than its challenge."""
_LONGEST_LIFETIME: Final = 600
"""Seconds for which a challenge can be pending."""


class Approvals:
    """See `StepUpClient.approve`.

    Args:
        transport: makes all calls but the waits, which last minutes.
        endpoint: the server, for connections of the waits.
    """

    def __init__(self, transport: RpcTransport, endpoint: Endpoint) -> None:
        self._transport = transport
        self._endpoint = endpoint.apart()
        self._lock = Lock()
        self._waits: dict[RpcTransport, int] = {}

    def close(self) -> None:
        """Close the connections of waits."""
        for transport in list(self._waits):
            transport.close()

    def approve(
        self,
        actor: ActorContext,
        items: Iterable[NewChallengeItem],
        message: str,
        *,
        show: Callable[[Challenge], Any] | None,
        challenge_id: str,
        expires_in: timedelta | None,
        valid_for: timedelta | None,
        timeout: float | None,
        metadata: Metadata,
    ) -> Approved:
        """See `StepUpClient.approve`."""
        request = CreateChallengeRequest(
            actor=actor,
            items=items,
            message=message,
            expires_in=duration_of(expires_in),
            valid_for=duration_of(valid_for),
            request_id=new_request_id(),
        )
        challenge = self._earlier(request, challenge_id, metadata)
        if challenge is None:
            created = self._transport.resent(rpcs.CREATE_CHALLENGE, request, None, metadata)
            challenge = created.challenge
        if state_of(challenge) == "PENDING" and show is not None:
            settled(show(challenge))
        return self._wait(actor, challenge, timeout, metadata)

    def _earlier(
        self, request: CreateChallengeRequest, challenge_id: str, metadata: Metadata
    ) -> Challenge | None:
        """Return an earlier challenge if it is pending or approved, and has the same items."""
        if not challenge_id:
            return None
        asked = GetChallengeRequest(actor=request.actor, challenge_id=challenge_id)
        try:
            found = self._transport.unary(rpcs.GET_CHALLENGE, asked, None, metadata)
        except StateError:
            return None  # unknown, or ended over a day ago
        challenge = found.challenge
        unused = {
            (item.operation, item.target)
            for item in challenge.items
            if not item.HasField("used_at")
        }
        wanted = {(item.operation, item.target) for item in request.items}
        is_usable = state_of(challenge) in {"PENDING", "APPROVED"} and wanted <= unused
        return challenge if is_usable else None

    def _wait(
        self,
        actor: ActorContext,
        challenge: Challenge,
        timeout: float | None,
        metadata: Metadata,
    ) -> Approved:
        """Wait until the challenge is not pending. A wait that is cut begins again."""
        seconds = _lifetime(challenge) if timeout is None else checked_timeout(timeout)
        ends_at = time.monotonic() + seconds
        request = AwaitChallengeRequest(actor=actor, challenge_id=challenge.challenge_id)
        transport = self._begin_wait()
        try:
            while state_of(challenge) == "PENDING":
                left = ends_at - time.monotonic()
                if left <= 0:
                    raise NotApprovedError("PENDING", challenge)
                pause = _PAUSE
                try:
                    for response in transport.stream(rpcs.AWAIT_CHALLENGE, request, left, metadata):
                        challenge = response.challenge
                except StepUpError as error:
                    if not error.retryable:
                        raise
                    if error.retry_after is not None:
                        pause = max(pause, error.retry_after.total_seconds())
                if state_of(challenge) == "PENDING":
                    sleep(max(0, min(pause, ends_at - time.monotonic())))
        finally:
            self._end_wait(transport)
        return approval_of(challenge)

    def _begin_wait(self) -> RpcTransport:
        """Return a connection that can take another wait."""
        with self._lock:
            free = (each for each, waits in self._waits.items() if waits < _WAITS_PER_CONNECTION)
            transport = next(free, None) or RpcTransport(
                self._endpoint, timeout=STREAM_TIMEOUT, wait_for_ready=False
            )
            self._waits[transport] = self._waits.get(transport, 0) + 1
            return transport

    def _end_wait(self, transport: RpcTransport) -> None:
        with self._lock:
            self._waits[transport] -= 1


def _lifetime(challenge: Challenge) -> float:
    """Return the seconds for which a challenge can be pending, from its creation."""
    seconds = challenge.expires_at.seconds - challenge.create_time.seconds
    return min(max(seconds, 0), _LONGEST_LIFETIME) + _LATER
