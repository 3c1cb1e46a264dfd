"""Calls over one channel: deadlines, metadata, errors, resends, and credentials that change."""

from __future__ import annotations

import time
from collections.abc import Iterator
from threading import Lock
from typing import Any, Final

import grpc

from stepup.client.channels import Endpoint
from stepup.client.credentials import checked_token
from stepup.client.errors import (
    RequestError,
    StepUpError,
    UnavailableError,
    error_of,
)
from stepup.client.requests import Metadata
from stepup.client.rpc import Request, Response, Rpc
from stepup.client.synchronous.io import (
    CANCELLED,
    LOCAL_ERRORS,
    Channel,
    close_channel,
    is_cancelled,
    open_channel,
    settled,
    sleep,
)
from stepup.client.trace_context import trace_context

STREAM_TIMEOUT: Final = 660.0
"""Seconds: a wait for a challenge lasts 10 minutes."""
_LOOK_EVERY: Final = 1.0
_RESEND_FOR: Final = 50.0
"""Seconds for which the same request id is certainly the same request to the server."""
_FIRST_PAUSE: Final = 0.1
_LONGEST_PAUSE: Final = 1.0
_SHORTEST_ATTEMPT: Final = 0.01
_GRACE: Final = 1.0
_LONGEST_TIMEOUT: Final = 86_400.0


class RpcTransport:
    """Makes calls. Every call has a deadline, and every failure is a `StepUpError`.

    Args:
        endpoint: the server.
        timeout: seconds for a call that names no other time.
        wait_for_ready: whether calls wait for a connection instead of failing.
    """

    def __init__(self, endpoint: Endpoint, *, timeout: float, wait_for_ready: bool) -> None:
        self._endpoint = endpoint
        self._timeout = checked_timeout(timeout)
        self._wait_for_ready = wait_for_ready
        self._lock = Lock()
        self._channel: Channel | None = None
        self._retired: Channel | None = None
        self._methods: dict[str, Any] = {}
        self._look_at = 0.0
        self._is_closed = False
        self._trace_context = trace_context()
        self._adds_metadata = self._trace_context is not tuple or endpoint.has_token

    def unary(
        self,
        rpc: Rpc[Request, Response],
        request: Request,
        timeout: float | None = None,
        metadata: Metadata = (),
    ) -> Response:
        """Make a call; grpc resends it by the published retry policy.

        Raises:
            StepUpError: there is no response.
        """
        seconds = self._timeout if timeout is None else checked_timeout(timeout)
        try:
            response = self._method(rpc)(
                request.SerializeToString(),
                timeout=seconds,
                metadata=self._metadata(metadata, seconds) if self._adds_metadata else metadata,
                wait_for_ready=self._wait_for_ready,
            )
        except grpc.RpcError as error:
            raise error_of(error) from error
        except LOCAL_ERRORS as error:
            raise self._unsent(error) from error
        except CANCELLED as error:
            self._raise_if_closed(error)
            raise
        return rpc.decoded(response)

    def resent(
        self,
        rpc: Rpc[Request, Response],
        request: Request,
        timeout: float | None = None,
        metadata: Metadata = (),
    ) -> Response:
        """Make a call whose request has a request id, and resend it until its deadline.

        An attempt takes a third of the time, so that a lost answer leaves time for another attempt.

        Raises:
            StepUpError: there is no response.
        """
        seconds = self._timeout if timeout is None else checked_timeout(timeout)
        begun_at = time.monotonic()
        pause = _FIRST_PAUSE
        while True:
            left = begun_at + seconds - time.monotonic()
            try:
                return self.unary(
                    rpc, request, max(min(left, seconds / 3), _SHORTEST_ATTEMPT), metadata
                )
            except StepUpError as error:
                if not error.retryable:
                    raise
                if error.retry_after is not None:
                    pause = max(pause, error.retry_after.total_seconds())
                if time.monotonic() + pause > begun_at + min(seconds, _RESEND_FOR):
                    raise
            sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    def stream(
        self,
        rpc: Rpc[Request, Response],
        request: Request,
        timeout: float | None = None,
        metadata: Metadata = (),
    ) -> Iterator[Response]:
        """Make a call with many responses. It lasts `STREAM_TIMEOUT` unless another time is given.

        Raises:
            StepUpError: there is no response, or no further one.
        """
        seconds = STREAM_TIMEOUT if timeout is None else checked_timeout(timeout)
        call = None
        try:
            call = self._method(rpc)(
                request.SerializeToString(),
                timeout=seconds,
                metadata=self._metadata(metadata, seconds),
                wait_for_ready=self._wait_for_ready,
            )
            for response in call:
                yield rpc.decoded(response)
        except grpc.RpcError as error:
            raise error_of(error) from error
        except LOCAL_ERRORS as error:
            raise self._unsent(error) from error
        except CANCELLED as error:
            self._raise_if_closed(error)
            raise
        finally:
            if call is not None:
                call.cancel()  # a program may stop reading before the end

    def close(self) -> None:
        """Close the channel. Calls in flight have a second to end."""
        self._is_closed = True
        with self._lock:
            channels, self._channel, self._retired = (self._channel, self._retired), None, None
            self._methods = {}
        for channel in filter(None, channels):
            close_channel(channel, _GRACE)

    def _method(self, rpc: Rpc[Any, Any]) -> Any:
        """Return what calls an RPC. It takes and returns bytes.

        grpc.aio answers None where it cannot decode a response, and sends an empty request where it
        cannot encode one, so that the client does both.
        """
        if time.monotonic() >= self._look_at:
            self._renew()
        method = self._methods.get(rpc.path)
        return self._add_method(rpc) if method is None else method

    def _add_method(self, rpc: Rpc[Any, Any]) -> Any:
        with self._lock:
            if self._is_closed:
                raise UnavailableError("this client is closed")
            if self._channel is None:
                self._channel = open_channel(
                    self._endpoint.target,
                    self._endpoint.channel_credentials(),
                    self._endpoint.channel_options(),
                )
            kind = self._channel.unary_stream if rpc.is_stream else self._channel.unary_unary
            method = self._methods[rpc.path] = kind(rpc.path)
            return method

    def _renew(self) -> None:
        """Use another channel if the files of the credentials have changed.

        Calls in flight continue on the previous channel, which ends at the next change.
        """
        with self._lock:
            self._look_at = time.monotonic() + _LOOK_EVERY
            if self._endpoint.renew():
                self._retired, self._channel, self._methods = self._channel, None, {}

    def _metadata(self, metadata: Metadata, seconds: float) -> Metadata:
        try:
            token = settled(self._endpoint.token(), seconds)
            authorization = [("authorization", f"Bearer {checked_token(token)}")] if token else []
        except Exception as error:  # a function of the program's: it may raise anything
            raise UnavailableError("the function for the token failed", retryable=True) from error
        return (*metadata, *authorization, *self._trace_context())

    def _raise_if_closed(self, error: BaseException) -> None:
        """Raise an error of this client for a call that `close` has ended, and no one cancelled."""
        if self._is_closed and not is_cancelled():
            raise UnavailableError("this client was closed during the call") from error

    def _unsent(self, error: Exception) -> StepUpError:
        """Return the error for a call that this program could not send."""
        if self._is_closed:
            return UnavailableError("this client is closed")
        return RequestError(f"the call cannot be sent: {error}")


def checked_timeout(seconds: float) -> float:
    """Return the seconds that a call may take.

    Raises:
        ValueError: the number is not a time, or over a day: no call waits for ever.
    """
    if not 0 < seconds <= _LONGEST_TIMEOUT:
        raise ValueError(f"a timeout is over 0 and at most {_LONGEST_TIMEOUT} seconds")
    return seconds
