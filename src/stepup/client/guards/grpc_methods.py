"""The operations that the methods of a gRPC server need."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

from stepup.client.guards.gates import Gate, gate_of

Methods: TypeAlias = Mapping[str, "Gate | str | None"]
"""The gate or the operation of each method; None for a method that needs none. The names are full:
`/acme.v1.Hosts/StartShell`."""


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

    def gate(self, method: str) -> Gate | None:
        """Return the gate of a method; None if the method needs no operation."""
        return self._gates.get(method)

    def method_map(self) -> Mapping[str, str | None]:
        """Return the operation of each method; None for a method without an operation."""
        return {name: gate.operation if gate else None for name, gate in self._gates.items()}
