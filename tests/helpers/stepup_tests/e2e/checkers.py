"""Callers that check without a pause and count what becomes of it: nothing may be wrong."""

import json
import threading
import time
from collections import Counter
from contextlib import contextmanager

import grpc
from google.protobuf.json_format import ParseDict
from stepup_tests.e2e.people import OSQUERY, SHELL, person
from stepup_tests.e2e.processes import eventually

from stepup.v1 import actor_pb2
from stepup.v1.step_up_service_pb2 import DECISION_ALLOWED, DECISION_ENROLLMENT_REQUIRED
from stepup.v1.step_up_service_pb2 import CheckStepUpRequest as Check
from stepup.v1.step_up_service_pb2_grpc import StepUpServiceStub

TENANT = "acme"
"""It has to protect `OSQUERY`."""
RIGHT = {OSQUERY: DECISION_ENROLLMENT_REQUIRED, SHELL: DECISION_ALLOWED}
CALLERS = 8


class Load:
    """Threads that check without a pause, on several connections; `outcomes` are counted."""

    def __init__(self, target, options):
        self.outcomes = Counter()
        self._ends = threading.Event()
        self._channels = [
            grpc.insecure_channel(target, (("grpc.use_local_subchannel_pool", 1), *options))
            for _ in range(CALLERS // len(RIGHT))
        ]
        self._threads = [
            threading.Thread(target=self._call, args=(StepUpServiceStub(channel), operation))
            for channel in self._channels
            for operation in RIGHT
        ]

    def _call(self, stub, operation):
        actor = ParseDict(person(TENANT, "bob"), actor_pb2.ActorContext())
        request = Check(actor=actor, operation=operation)
        while not self._ends.is_set():
            try:
                answer = stub.CheckStepUp(request, timeout=20)
                is_right = answer.decision == RIGHT[operation]
                self.outcomes["right" if is_right else "wrong"] += 1
            except grpc.RpcError as error:
                self.outcomes[error.code().name] += 1
                time.sleep(0.01)

    def is_answered(self):
        """Wait until a good number of calls have been, from now on."""
        enough = self.outcomes["right"] + 300
        eventually(lambda: self.outcomes["right"] > enough, "calls are answered")

    def start(self):
        for thread in self._threads:
            thread.start()

    def end(self):
        self._ends.set()
        for thread in self._threads:
            thread.join()
        for channel in self._channels:
            channel.close()


@contextmanager
def checking(*servers, **config):
    """Callers of servers, among which each has its turn, with a gRPC service config."""
    addresses = ",".join(server.address for server in servers)
    config["loadBalancingConfig"] = [{"round_robin": {}}]
    options = (("grpc.service_config", json.dumps(config)),)
    running = Load(f"ipv4:{addresses}", options)
    running.start()
    try:
        running.is_answered()
        yield running
    finally:
        running.end()
