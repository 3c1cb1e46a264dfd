"""Callers that check without a pause: `right` and `wrong` are how their calls end."""

import json
from contextlib import ExitStack, contextmanager
from functools import partial

import grpc
from google.protobuf.json_format import ParseDict
from stepup_tests.e2e.callers import Callers
from stepup_tests.e2e.people import OSQUERY, SHELL, person
from stepup_tests.engines import CONNECTION_OF_ITS_OWN

from stepup.v1 import actor_pb2
from stepup.v1.step_up_service_pb2 import DECISION_ALLOWED, DECISION_ENROLLMENT_REQUIRED
from stepup.v1.step_up_service_pb2 import CheckStepUpRequest as Check
from stepup.v1.step_up_service_pb2_grpc import StepUpServiceStub

TENANT = "acme"
"""It has to protect `OSQUERY`."""
RIGHT = {OSQUERY: DECISION_ENROLLMENT_REQUIRED, SHELL: DECISION_ALLOWED}
CHANNELS = 4
CALLERS = CHANNELS * len(RIGHT)
ENOUGH = 100
"""Calls: each caller has made several."""


def _check(stub, operation):
    actor = ParseDict(person(TENANT, "bob"), actor_pb2.ActorContext())
    answer = stub.CheckStepUp(Check(actor=actor, operation=operation), timeout=20)
    return "right" if answer.decision == RIGHT[operation] else "wrong"


@contextmanager
def checking(*servers, **config):
    """Callers of servers, among which each has its turn, with a gRPC service config."""
    addresses = ",".join(server.address for server in servers)
    config["loadBalancingConfig"] = [{"round_robin": {}}]
    options = (*CONNECTION_OF_ITS_OWN, ("grpc.service_config", json.dumps(config)))
    with ExitStack() as stack:
        calls = {}
        for number in range(CHANNELS):
            channel = stack.enter_context(grpc.insecure_channel(f"ipv4:{addresses}", options))
            for operation in RIGHT:
                calls[number, operation] = partial(_check, StepUpServiceStub(channel), operation)
        callers = stack.enter_context(Callers(calls))
        callers.wait_for(ENOUGH, "right")
        yield callers
