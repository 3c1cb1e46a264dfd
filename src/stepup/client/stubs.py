"""What callers import: the five services over one channel, and the reason of an error.

with connect("127.0.0.1:50051") as stepup:
    response = stepup.step_up.CheckStepUp(request, timeout=1)
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Self, cast

import grpc
from google.rpc.error_details_pb2 import ErrorInfo
from grpc_status import rpc_status

from stepup.system.loopback import NO_GRPC_PROXY, is_local_target
from stepup.v1 import (
    audit_service_pb2_grpc,
    challenge_service_pb2_grpc,
    enrollment_service_pb2_grpc,
    policy_service_pb2_grpc,
    step_up_service_pb2_grpc,
)

_RETRIED = (
    ("stepup.v1.StepUpService", "CheckStepUp"),
    ("stepup.v1.StepUpService", "BatchCheckStepUp"),
    ("stepup.v1.ChallengeService", "GetChallenge"),
    ("stepup.v1.ChallengeService", "ListChallenges"),
    ("stepup.v1.ChallengeService", "AwaitChallenge"),
    ("stepup.v1.EnrollmentService", "GetEnrollment"),
    ("stepup.v1.PolicyService", "GetPolicy"),
    ("stepup.v1.PolicyService", "ListOperations"),
    ("stepup.v1.AuditService", "ListAuditEvents"),
)
SERVICE_CONFIG = json.dumps(
    {
        "methodConfig": [
            {
                "name": [{"service": service, "method": method} for service, method in _RETRIED],
                "retryPolicy": {
                    "maxAttempts": 3,
                    "initialBackoff": "0.1s",
                    "maxBackoff": "1s",
                    "backoffMultiplier": 3,
                    "retryableStatusCodes": ["UNAVAILABLE", "CANCELLED"],
                },
            }
        ]
    }
)
"""The published retry advice. `VerifyOtp` is left out: resend it only with a `request_id`. A check
that brings a receipt needs a `request_id`, too: without it a resend finds the receipt used.

A server that ends gives calls back that it has not begun, and gRPC's core does so with CANCELLED.
"""


@dataclass(frozen=True, slots=True)
class Client:
    """The stubs of all services on one channel; a context manager that closes it."""

    channel: grpc.Channel
    step_up: step_up_service_pb2_grpc.StepUpServiceStub
    challenge: challenge_service_pb2_grpc.ChallengeServiceStub
    enrollment: enrollment_service_pb2_grpc.EnrollmentServiceStub
    policy: policy_service_pb2_grpc.PolicyServiceStub
    audit: audit_service_pb2_grpc.AuditServiceStub

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.channel.close()


def channel_options(target: str) -> tuple[tuple[str, str | int], ...]:
    """Return the options that `connect` sets, for a channel of your own, such as one of `grpc.aio`.

    They have the published retry advice and, for a server on this machine, turn the HTTP proxy off:
    grpc sends the calls of an insecure channel through `http_proxy`, which can read the codes.

    Args:
        target: as for `connect`.
    """
    options = (("grpc.service_config", SERVICE_CONFIG),)
    return (*options, *NO_GRPC_PROXY) if is_local_target(target) else options


def connect(target: str, credentials: grpc.ChannelCredentials | None = None) -> Client:
    """Connect to a server; to one on this machine without an HTTP proxy.

    Args:
        target: host and port, such as `stepup.prod:50051`, or `unix:/path`.
        credentials: `grpc.ssl_channel_credentials(...)` with the caller's certificate, or composed
            with its token. None only for a trial server on this machine: on a network an attacker
            in between could read codes, and answer ALLOWED.

    Raises:
        ValueError: without credentials, the target is not an address of this machine.
    """
    options = channel_options(target)
    if credentials is not None:
        channel = grpc.secure_channel(target, credentials, options)
    elif is_local_target(target):
        channel = grpc.insecure_channel(target, options)
    else:
        raise ValueError(f"{target} is not an address of this machine, and needs credentials")
    return Client(
        channel,
        step_up_service_pb2_grpc.StepUpServiceStub(channel),
        challenge_service_pb2_grpc.ChallengeServiceStub(channel),
        enrollment_service_pb2_grpc.EnrollmentServiceStub(channel),
        policy_service_pb2_grpc.PolicyServiceStub(channel),
        audit_service_pb2_grpc.AuditServiceStub(channel),
    )


def reason(error: grpc.RpcError) -> str:
    """Return the reason of an error, such as `ELEVATION_REQUIRED`; empty if it is not ours."""
    return str(_info(error).reason)


def metadata(error: grpc.RpcError) -> Mapping[str, str]:
    """Return the metadata of an error, for programs; empty if the error has none.

    `ENROLLMENT_STATE` has a `fault`, `ELEVATION_REQUIRED` a `next_step`, and `CHALLENGE_STATE` the
    `state` for the challenge's own user.
    """
    return dict(_info(error).metadata)


def _info(error: grpc.RpcError) -> ErrorInfo:
    # Errors of a stub are also a grpc.Call, which their type does not say.
    status = rpc_status.from_call(cast("grpc.Call", error))
    info = ErrorInfo()
    for detail in status.details if status else ():
        if detail.Unpack(info):
            break
    return info
