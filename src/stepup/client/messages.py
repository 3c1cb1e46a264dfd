"""The messages of the API, a module for each proto file."""

from stepup.v1 import actor_pb2 as actor
from stepup.v1 import audit_service_pb2 as audit
from stepup.v1 import challenge_service_pb2 as challenge
from stepup.v1 import elevation_pb2 as elevation
from stepup.v1 import enrollment_service_pb2 as enrollment
from stepup.v1 import people_service_pb2 as people
from stepup.v1 import policy_service_pb2 as policy
from stepup.v1 import portal_service_pb2 as portal
from stepup.v1 import step_up_service_pb2 as step_up

__all__ = [
    "actor",
    "audit",
    "challenge",
    "elevation",
    "enrollment",
    "people",
    "policy",
    "portal",
    "step_up",
]
