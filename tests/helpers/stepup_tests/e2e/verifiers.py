"""Callers that verify codes without a pause, each code several times: none may be taken twice."""

import asyncio
import threading
import time
from collections import Counter
from datetime import UTC, datetime

import grpc
from stepup_tests.e2e.processes import eventually
from stepup_tests.otp import code_at

from stepup.domain.actor import TenantId
from stepup.domain.audit import EventKind
from stepup.domain.totp import TotpSecret
from stepup.service.ports import EventQuery
from stepup.stores.sql import SqlDatabase
from stepup.v1 import actor_pb2, step_up_service_pb2_grpc
from stepup.v1.step_up_service_pb2 import Outcome, VerifyOtpRequest

TENANT = "acme"
SECRET = TotpSecret(bytes(range(100, 120)))
USERS = [f"user-{number}" for number in range(400)]
CALLERS_OF_EACH = 2
THREADS = 4 * CALLERS_OF_EACH
OUTCOMES = {"OUTCOME_VERIFIED", "OUTCOME_REJECTED", "OUTCOME_THROTTLED"}
LATEST_SECONDS = 15
"""By then a call has ended, on a machine that is busy with other tests: its limits are 1 s each."""


class Load:
    """Callers that verify codes without a pause; each code is given by several at once.

    A call that ends with UNAVAILABLE is made again, with the same code.
    """

    def __init__(self, target):
        self.ends = Counter()
        self.verified = Counter()
        self.slowest = 0.0
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._channels = [
            grpc.insecure_channel(target, (("grpc.use_local_subchannel_pool", 1),))
            for _ in range(THREADS)
        ]
        self._codes = {}
        self._threads = [
            threading.Thread(
                target=self._call, args=(channel, USERS[number // CALLERS_OF_EACH :: 4])
            )
            for number, channel in enumerate(self._channels)
        ]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.end()

    def end(self):
        """Let the callers end."""
        self._stopped.set()
        for thread in self._threads:
            thread.join()
        for channel in self._channels:
            channel.close()

    def goes_on(self):
        """Wait until some more codes have been accepted, from now on."""
        enough = self.verified.total() + 20
        eventually(lambda: self.verified.total() >= enough, "codes are accepted")

    def is_refused(self):
        """Wait until some more calls have been refused, from now on."""
        enough = self.ends["UNAVAILABLE"] + THREADS
        eventually(lambda: self.ends["UNAVAILABLE"] >= enough, "calls are refused")

    def _call(self, channel, users):
        stub = step_up_service_pb2_grpc.StepUpServiceStub(channel)
        for user in users:
            with self._lock:
                code = self._codes.setdefault(user, code_at(SECRET.octets, datetime.now(UTC)))
            actor = actor_pb2.ActorContext(tenant_id=TENANT, user_id=user, session_id="monday")
            while not self._stopped.is_set() and self._verify(stub, actor, code) == "UNAVAILABLE":
                self._stopped.wait(0.05)

    def _verify(self, stub, actor, code):
        began = time.monotonic()
        try:
            answer = stub.VerifyOtp(VerifyOtpRequest(actor=actor, code=code), timeout=60)
            end = Outcome.Name(answer.outcome)
        except grpc.RpcError as error:
            end = error.code().name
        with self._lock:
            self.slowest = max(self.slowest, time.monotonic() - began)
            self.ends[end] += 1
            self.verified[actor.user_id] += end == "OUTCOME_VERIFIED"
        return end


def recorded_verifications(url):
    """How often the audit trail has it of each user that a code was accepted."""
    return asyncio.run(_recorded_verifications(url))


async def _recorded_verifications(url):
    database = SqlDatabase(url)
    query = EventQuery(TenantId(TENANT), kinds=frozenset({EventKind.OTP_VERIFIED}))
    async with database.snapshot() as records:
        listed = await records.audit.list(query, 10 * len(USERS))
    await database.close()
    return Counter(chained.event.actor_user_id for chained in listed)
