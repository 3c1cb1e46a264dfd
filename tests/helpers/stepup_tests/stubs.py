"""The generated stubs of all services on one channel, and the reasons of their errors.

For tests and tools that look at single calls. Programs use `stepup.client`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import grpc

from stepup.client.channels import Endpoint
from stepup.client.errors import error_of
from stepup.v1 import (
    audit_service_pb2_grpc,
    challenge_service_pb2_grpc,
    enrollment_service_pb2_grpc,
    policy_service_pb2_grpc,
    portal_service_pb2_grpc,
    step_up_service_pb2_grpc,
)


@dataclass(frozen=True, slots=True)
class Stubs:
    channel: grpc.Channel
    step_up: step_up_service_pb2_grpc.StepUpServiceStub
    challenge: challenge_service_pb2_grpc.ChallengeServiceStub
    enrollment: enrollment_service_pb2_grpc.EnrollmentServiceStub
    policy: policy_service_pb2_grpc.PolicyServiceStub
    audit: audit_service_pb2_grpc.AuditServiceStub
    portal: portal_service_pb2_grpc.PortalServiceStub


@contextmanager
def connect(target: str, credentials: grpc.ChannelCredentials | None = None) -> Iterator[Stubs]:
    """Open a channel with the options of our client: the published retries, and no proxy."""
    endpoint = Endpoint(target, credentials)
    if credentials is None:
        channel = grpc.insecure_channel(target, endpoint.channel_options())
    else:
        channel = grpc.secure_channel(target, credentials, endpoint.channel_options())
    with channel:
        yield Stubs(
            channel,
            step_up_service_pb2_grpc.StepUpServiceStub(channel),
            challenge_service_pb2_grpc.ChallengeServiceStub(channel),
            enrollment_service_pb2_grpc.EnrollmentServiceStub(channel),
            policy_service_pb2_grpc.PolicyServiceStub(channel),
            audit_service_pb2_grpc.AuditServiceStub(channel),
            portal_service_pb2_grpc.PortalServiceStub(channel),
        )


def reason(error: grpc.RpcError) -> str:
    return error_of(error).reason


def metadata(error: grpc.RpcError) -> dict[str, str]:
    return dict(error_of(error).details)
