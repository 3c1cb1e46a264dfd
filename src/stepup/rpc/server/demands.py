"""Derives from each request what its method demands of the rules of callers."""

from collections.abc import Mapping
from typing import Final

from google.protobuf.descriptor import MethodDescriptor

from stepup.domain.callers import Demands
from stepup.rpc.pipeline.call import path_of
from stepup.rpc.server.server import PROTOS


def _demands(method: MethodDescriptor) -> Demands:
    fields = method.input_type.fields_by_name
    has_actor = "actor" in fields
    return Demands(
        path_of(method.containing_service.full_name, method.name),
        tenant=has_actor or "tenant_id" in fields,
        # A batch has its operations in `checks`, and demands each of them.
        operation="operation" in fields or "checks" in fields,
        claims=has_actor,
    )


DEMANDS: Final[Mapping[str, Demands]] = {
    demands.method: demands
    for proto in PROTOS
    for service in proto.DESCRIPTOR.services_by_name.values()
    for demands in map(_demands, service.methods)
}
"""The demands of all methods, by path."""
