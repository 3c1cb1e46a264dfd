"""Callers that verify codes all the time, each code twice at once: none may be taken twice."""

import asyncio
import threading
import time
from collections import Counter
from datetime import UTC, datetime
from functools import partial
from itertools import count

import grpc
from stepup_tests.e2e.authenticator_app import STEP_SECONDS
from stepup_tests.e2e.callers import Callers
from stepup_tests.engines import CONNECTION_OF_ITS_OWN
from stepup_tests.otp import code_at

from stepup.domain.actor import TenantId
from stepup.domain.audit import EventKind
from stepup.domain.totp import TotpSecret
from stepup.service.ports import EventQuery
from stepup.stores.sql import SqlDatabase
from stepup.v1 import actor_pb2
from stepup.v1.step_up_service_pb2 import Outcome, VerifyOtpRequest
from stepup.v1.step_up_service_pb2_grpc import StepUpServiceStub

TENANT = "acme"
SECRET = TotpSecret(bytes(range(100, 120)))
USERS = [f"user-{number}" for number in range(400)]
PAIRS = 4
PAUSE_SECONDS = 0.3
"""So that everybody has another code by the time of their next turn."""
OUTCOMES = {"OUTCOME_VERIFIED", "OUTCOME_REJECTED", "OUTCOME_THROTTLED"}
LATEST_SECONDS = 15
"""By then a call has ended, on a machine that is busy with other tests: its limits are 1 s each."""


class Load(Callers):
    """Callers that verify codes as long as the block lasts: each code is given by two at once.

    A call that ends with UNAVAILABLE is made again, with the same code. `verified` counts how often
    a user's code of a time step was accepted.
    """

    def __init__(self, target):
        self.verified = Counter()
        self.slowest = 0.0
        self._lock = threading.Lock()
        self._steps = {}
        self._channels = [
            grpc.insecure_channel(target, CONNECTION_OF_ITS_OWN) for _ in range(2 * PAIRS)
        ]
        calls = {
            number: partial(next, self._verifications(StepUpServiceStub(channel), number // 2))
            for number, channel in enumerate(self._channels)
        }
        super().__init__(calls, PAUSE_SECONDS)

    def end(self):
        super().end()
        for channel in self._channels:
            channel.close()

    def go_on(self):
        """Wait until some more codes have been accepted, from now on."""
        self.wait_for(20, "OUTCOME_VERIFIED")

    def _verifications(self, stub, pair):
        """Verify a code of each of a pair's users, again and again; yields how each call ends."""
        for turn in ((number, user) for number in count() for user in USERS[pair::PAIRS]):
            with self._lock:
                step = self._steps.setdefault(turn, int(time.time()) // STEP_SECONDS)
            end = "UNAVAILABLE"
            while end == "UNAVAILABLE":
                end = self._verify(stub, turn[1], step)
                yield end

    def _verify(self, stub, user, step):
        code = code_at(SECRET.octets, datetime.fromtimestamp(step * STEP_SECONDS, UTC))
        actor = actor_pb2.ActorContext(tenant_id=TENANT, user_id=user, session_id="monday")
        began = time.monotonic()
        try:
            answer = stub.VerifyOtp(VerifyOtpRequest(actor=actor, code=code), timeout=60)
            end = Outcome.Name(answer.outcome)
        except grpc.RpcError as error:
            end = error.code().name
        with self._lock:
            self.slowest = max(self.slowest, time.monotonic() - began)
            self.verified[user, step] += end == "OUTCOME_VERIFIED"
        return end


def recorded_verifications(url):
    """How often the audit trail has it that a user's code of a time step was accepted."""
    return asyncio.run(_recorded_verifications(url))


async def _recorded_verifications(url):
    database = SqlDatabase(url)
    query = EventQuery(TenantId(TENANT), kinds=frozenset({EventKind.OTP_VERIFIED}))
    async with database.snapshot() as records:
        listed = await records.audit.list(query, 100 * len(USERS))
    await database.close()
    events = [chained.event for chained in listed]
    return Counter(
        (event.actor_user_id, int(event.occurred_at.timestamp()) // STEP_SECONDS)
        for event in events
    )
