"""The operations that the methods of a gRPC server need."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, TypeAlias

import grpc

from stepup.client.guards.gates import Gate, gate_of

Methods: TypeAlias = Mapping[str, "Gate | str | None"]
"""The gate or the operation of each method; None for a method that needs none. The names are full:
`/acme.v1.Hosts/StartShell`."""

Behavior: TypeAlias = Callable[[Any, Any], Any]
"""The function of a method, which takes a request, or requests, and a context."""

_KINDS: Final = {
    (False, False): (grpc.unary_unary_rpc_method_handler, "unary_unary"),
    (False, True): (grpc.unary_stream_rpc_method_handler, "unary_stream"),
    (True, False): (grpc.stream_unary_rpc_method_handler, "stream_unary"),
    (True, True): (grpc.stream_stream_rpc_method_handler, "stream_stream"),
}
"""The function that makes a handler, and the handler's attribute with the behavior, by whether
requests and responses are streams."""


class GuardedMethods:
    """The methods of guarded services.

    Every method of a guarded service must be in the map, so that a new method is not forgotten.

    Args:
        services: descriptors of the guarded services, such as
            `hosts_pb2.DESCRIPTOR.services_by_name["Hosts"]`.
        methods: the methods of these services, by full name.

    Raises:
        ValueError: a method of a service is not in the map, or the map has another method.
    """

    def __init__(self, services: Iterable[Any], methods: Methods) -> None:
        known = {
            f"/{service.full_name}/{method.name}"
            for service in services
            for method in service.methods
        }
        if missing := sorted(known - methods.keys()):
            raise ValueError(
                f"methods of guarded services need an operation, or None: {', '.join(missing)}"
            )
        if unknown := sorted(methods.keys() - known):
            raise ValueError(f"no guarded service has these methods: {', '.join(unknown)}")
        self._gates = {
            name: None if needed is None else gate_of(needed) for name, needed in methods.items()
        }

    def guard(self, method: str, handler: Any, guarded: Callable[[Gate, Any], Behavior]) -> Any:
        """Return the handler of a call, behind a guard if the method needs an operation.

        Args:
            method: the full name of the method.
            handler: the handler of grpc; None if the server has no such method.
            guarded: returns the behavior behind a gate, for a handler.
        """
        gate = self._gates.get(method)
        if handler is None or gate is None:
            return handler
        make, _ = _KINDS[handler.request_streaming, handler.response_streaming]
        behavior = guarded(gate, handler)
        return make(behavior, handler.request_deserializer, handler.response_serializer)

    def method_map(self) -> Mapping[str, str | None]:
        """Return the operation of each method; None for a method without an operation."""
        return {name: gate.operation if gate else None for name, gate in self._gates.items()}


def behavior_of(handler: Any) -> Behavior:
    """Return the function of the servicer."""
    _, attribute = _KINDS[handler.request_streaming, handler.response_streaming]
    behavior: Behavior = getattr(handler, attribute)
    return behavior
