"""A business at work: callers that never pause, and a book of what they were told.

A call may end as docs/api-behaviour.md says that calls do while something is lost; every answer has
to be right. In the end everything that was acknowledged has to be there.
"""

import threading
import time
from collections import Counter, defaultdict
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import count
from uuid import uuid4

import grpc
from google.protobuf.json_format import MessageToDict
from stepup_tests.e2e.processes import eventually
from stepup_tests.engines import CONNECTION_OF_ITS_OWN
from stepup_tests.otp import code_at, wrong_code_at
from stepup_tests.stubs import metadata, reason

from stepup.client import SERVICE_CONFIG
from stepup.domain.audit import EventKind
from stepup.v1 import actor_pb2
from stepup.v1.audit_service_pb2 import ListAuditEventsRequest
from stepup.v1.audit_service_pb2_grpc import AuditServiceStub
from stepup.v1.challenge_service_pb2 import (
    AnswerChallengeRequest,
    CreateChallengeRequest,
    NewChallengeItem,
)
from stepup.v1.challenge_service_pb2_grpc import ChallengeServiceStub
from stepup.v1.enrollment_service_pb2 import (
    CONFIRM_OUTCOME_CONFIRMED,
    BeginEnrollmentRequest,
    CompleteEnrollmentRequest,
    ConfirmEnrollmentRequest,
    GetEnrollmentRequest,
)
from stepup.v1.enrollment_service_pb2_grpc import EnrollmentServiceStub
from stepup.v1.policy_service_pb2 import GetPolicyRequest, UpdatePolicyRequest
from stepup.v1.policy_service_pb2_grpc import PolicyServiceStub
from stepup.v1.step_up_service_pb2 import (
    DECISION_ALLOWED,
    DECISION_REASON_CHALLENGE_APPROVED,
    DECISION_STEP_UP_REQUIRED,
    OUTCOME_REJECTED,
    OUTCOME_THROTTLED,
    OUTCOME_VERIFIED,
    REVOCATION_SCOPE_SESSION,
    CheckStepUpRequest,
    RevokeElevationsRequest,
    VerifyOtpRequest,
)
from stepup.v1.step_up_service_pb2_grpc import StepUpServiceStub

TENANT = "acme"
"""It has to protect `OSQUERY`."""
OSQUERY = "response.run_osquery"
SHELL = "response.start_remote_shell"
_TARGETS = ("host-1", "host-2")
IN_DOUBT = {"UNAVAILABLE", "CANCELLED"}
"""How a call may end while something is lost."""
WRONG_CODES = 5
"""In a row they lock."""
REVOKED_WITHIN_SECONDS = 2.0
_PAIRS = 2
_LIVES = 2
_APPROVERS = 500
_PAUSE_SECONDS = 0.05
"""So that there are people left to verify whatever a kill takes, on a busy machine as well."""


class InDoubtError(Exception):
    """A call was not answered: nobody knows whether it was done."""


class Stubs:
    """The services on a connection of its own, with the retry policy that we publish."""

    def __init__(self, target):
        options = (*CONNECTION_OF_ITS_OWN, ("grpc.service_config", SERVICE_CONFIG))
        self.channel = grpc.insecure_channel(target, options)
        self.step_up = StepUpServiceStub(self.channel)
        self.enrollment = EnrollmentServiceStub(self.channel)
        self.policy = PolicyServiceStub(self.channel)
        self.audit = AuditServiceStub(self.channel)
        self.challenge = ChallengeServiceStub(self.channel)


class Business:
    """Callers of a server, each in a thread.

    Args:
        server: it protects `OSQUERY` and, every time, `SHELL` in `TENANT`.
        secrets: of people whom it has enrolled, by user; each gives one code, twice at once, or
            for a challenge.
    """

    def __init__(self, server, secrets):
        self.ends = defaultdict(Counter)
        self.wrong = []
        self.done = Counter()
        self.last_in_doubt = 0.0
        self.verified = Counter()
        self.enrolled = {}
        self.rejected = Counter()
        self.locked = set()
        self.revoked = {}
        self.policies = set()
        self.approved = {}
        self._server = server
        self._secrets = secrets
        self._codes = {}
        self._lock = threading.Lock()
        self._ends_now = threading.Event()
        *people, _ = secrets  # the last one never gives a code
        people, approvers = people[:-_APPROVERS], people[-_APPROVERS:]
        self._threads = [
            threading.Thread(target=self._calls, args=(name, what, *arguments))
            for name, what, *arguments in (
                *(
                    (f"verifier {pair}.{twin}", self._verify, people[pair::_PAIRS])
                    for pair in range(_PAIRS)
                    for twin in range(2)
                ),
                *((f"life {number}", self._live, f"life-{number}") for number in range(_LIVES)),
                ("agent", self._act_with_approval, approvers),
                ("administrator", self._change_policies),
                ("inspector", self._inspect),
            )
        ]

    def begin(self):
        for thread in self._threads:
            thread.start()

    def end(self):
        self._ends_now.set()
        for thread in self._threads:
            thread.join()

    def goes_on(self):
        """Wait until everybody has had what he wanted once more, from now on."""
        wanted = self.done.copy()
        names = [thread.name for thread in self._threads]

        def has_gone_on():
            assert not self.wrong, self.wrong
            return all(self.done[name] >= wanted[name] + 2 for name in names)

        eventually(has_gone_on, f"all of {names} go on")

    def _calls(self, name, what, *arguments):
        threading.current_thread().name = name
        stubs = Stubs(self._server.address)
        try:
            for _ in what(stubs, *arguments):
                self.done[name] += 1
                if self._ends_now.wait(_PAUSE_SECONDS):
                    return
            self.wrong.append(f"{name}: there is nothing left to do")
        except Exception as error:  # noqa: BLE001  # it is shown where the test waits
            self.wrong.append(f"{name}: {error!r}")
        finally:
            stubs.channel.close()

    def _call(self, method, request):
        kind = type(request).__name__
        try:
            answer = method(request, timeout=30)
        except grpc.RpcError as error:
            end = error.code().name
            if end not in IN_DOUBT:
                raise
            self.ends[kind][end] += 1
            self.last_in_doubt = time.monotonic()
            self._ends_now.wait(0.05)
            raise InDoubtError(kind) from error
        self.ends[kind]["OK"] += 1
        self._server.secrets.note(MessageToDict(answer, preserving_proto_field_name=True))
        return answer

    def _expect(self, holds, what):
        if not holds:
            self.wrong.append(f"{threading.current_thread().name}: {what}")

    # --- What each of them does; after each `yield` something is done ---

    def _verify(self, stubs, people):
        for user in people:
            with self._lock:
                octets = self._secrets[user].octets
                code = self._codes.setdefault(user, code_at(octets, datetime.now(UTC)))
            try:
                answer = self._call(
                    stubs.step_up.VerifyOtp, VerifyOtpRequest(actor=actor(user), code=code)
                )
            except InDoubtError:
                continue
            if answer.outcome == OUTCOME_VERIFIED:
                with self._lock:
                    self.verified[user] += 1
            yield

    def _act_with_approval(self, stubs, people):
        """Ask a person to approve two actions, and do each of them once (S19)."""
        for user in people:
            created = self._until_answered(
                stubs.challenge.CreateChallenge,
                CreateChallengeRequest(
                    actor=actor(user),
                    items=[
                        NewChallengeItem(operation=SHELL, target=target, label=target)
                        for target in _TARGETS
                    ],
                    message="Look into incident 7",
                    request_id=str(uuid4()),
                ),
            )
            challenge_id = created.challenge.challenge_id
            if not self._approve(stubs, user, challenge_id):
                continue  # the 30 seconds of the code were over
            approved = actor(user, challenge_id=challenge_id)
            for target in _TARGETS:
                request = CheckStepUpRequest(actor=approved, operation=SHELL, target=target)
                once_more = CheckStepUpRequest()
                once_more.CopyFrom(request)
                request.request_id = str(uuid4())
                answer = self._until_answered(stubs.step_up.CheckStepUp, request)
                self._expect(
                    answer.reason == DECISION_REASON_CHALLENGE_APPROVED,
                    f"an approval was lost: {answer}",
                )
                answer = self._until_answered(stubs.step_up.CheckStepUp, once_more)
                self._expect(
                    answer.decision == DECISION_STEP_UP_REQUIRED,
                    f"an item was allowed twice: {answer}",
                )
            self.approved[user] = challenge_id
            yield

    def _approve(self, stubs, user, challenge_id):
        request = AnswerChallengeRequest(
            actor=actor(user),
            challenge_id=challenge_id,
            code=code_at(self._secrets[user].octets, datetime.now(UTC)),
            request_id=str(uuid4()),
        )
        try:
            answer = self._until_answered(stubs.challenge.AnswerChallenge, request)
        except grpc.RpcError as error:
            # The server was killed before it knew the outcome: the person types the next code.
            if reason(error) == "REQUEST_UNDER_WAY":
                return False
            # Redis has lost the outcome of an attempt whose answer was lost.
            if reason(error) != "CHALLENGE_STATE" or metadata(error).get("state") != "APPROVED":
                raise
            return True
        return answer.outcome == OUTCOME_VERIFIED

    def _until_answered(self, method, request):
        """Send a request until it is answered; its `request_id` makes that safe."""
        while True:
            try:
                return self._call(method, request)
            except InDoubtError:
                if self._ends_now.is_set():
                    raise

    def _live(self, stubs, name):
        for number in count():
            try:
                yield from self._enrols_and_is_locked(stubs, f"{name}-{number}")
            except InDoubtError:
                continue

    def _enrols_and_is_locked(self, stubs, user):
        who = actor(user)
        begun = self._call(stubs.enrollment.BeginEnrollment, BeginEnrollmentRequest(actor=who))
        code = code_at(begun.secret, datetime.now(UTC))
        confirmed = self._call(
            stubs.enrollment.ConfirmEnrollment, ConfirmEnrollmentRequest(actor=who, code=code)
        )
        if confirmed.outcome != CONFIRM_OUTCOME_CONFIRMED:
            return  # its 30 seconds were over
        self._call(
            stubs.enrollment.CompleteEnrollment,
            CompleteEnrollmentRequest(actor=who, reset_code_stored=True),
        )
        self.enrolled[user] = begun.enrollment_id
        again = self._call(stubs.step_up.VerifyOtp, VerifyOtpRequest(actor=who, code=code))
        self._expect(again.outcome == OUTCOME_REJECTED, f"the confirming code: {again.outcome}")
        self.rejected[user] += 1

        self._call(
            stubs.step_up.RevokeElevations,
            RevokeElevationsRequest(actor=who, scope=REVOCATION_SCOPE_SESSION),
        )
        self.revoked[user] = time.monotonic()

        for _ in range(WRONG_CODES):
            wrong = wrong_code_at(begun.secret, datetime.now(UTC))
            answer = self._call(stubs.step_up.VerifyOtp, VerifyOtpRequest(actor=who, code=wrong))
            self._expect(answer.outcome == OUTCOME_REJECTED, f"a wrong code: {answer.outcome}")
            self.rejected[user] += 1
        self.locked.add(user)
        yield

    def _change_policies(self, stubs):
        for number in count():
            tenant = f"tenant-{number}"
            request = UpdatePolicyRequest(
                actor=actor("ada", tenant, role=actor_pb2.ROLE_MASTER_ADMINISTRATOR)
            )
            request.policy.enabled = True
            request.policy.operations.add(operation=OSQUERY)
            request.update_mask.paths.extend(["enabled", "operations"])
            try:
                read = GetPolicyRequest(tenant_id=tenant)
                request.policy.etag = self._call(stubs.policy.GetPolicy, read).policy.etag
                self._call(stubs.policy.UpdatePolicy, request)
            except InDoubtError:
                continue
            self.policies.add(tenant)
            yield

    def _inspect(self, stubs):
        """Ask for those who were signed out, and for whom no code was ever given."""
        while True:
            ended = time.monotonic() - REVOKED_WITHIN_SECONDS
            signed_out = [user for user, when in list(self.revoked.items()) if when < ended]
            for user in (*signed_out[-3:], next(reversed(self._secrets))):
                request = CheckStepUpRequest(actor=actor(user), operation=OSQUERY)
                try:
                    answer = self._call(stubs.step_up.CheckStepUp, request)
                except InDoubtError:
                    continue
                self._expect(
                    answer.decision == DECISION_STEP_UP_REQUIRED,
                    f"{user} should give a code, and got {answer.decision}",
                )
            if signed_out:
                yield

    # --- What has to hold in the end ---

    def audit(self, recorded):
        """Demand that nothing that was acknowledged is lost, and nothing was done twice.

        `recorded` has how many audit events there are of each kind and user in `TENANT`.
        """
        assert not self.wrong, self.wrong
        assert max(self.verified.values()) == 1
        stubs = Stubs(self._server.address)
        try:
            self._audit_people(stubs, recorded)
            self._audit_policies(stubs)
            self._audit_service(stubs)
        finally:
            stubs.channel.close()

    def _audit_people(self, stubs, recorded):
        of_user = defaultdict(Counter)
        for (kind, user), times in recorded.items():
            of_user[user][kind] = times
        for user in self._secrets:
            times = of_user[user][EventKind.OTP_VERIFIED]
            assert self.verified[user] <= times <= 1, user
        assert self.enrolled
        for user, enrollment in self.enrolled.items():
            found = stubs.enrollment.GetEnrollment(GetEnrollmentRequest(actor=actor(user)))
            assert found.active.enrollment_id == enrollment, user
            assert of_user[user][EventKind.ENROLLMENT_COMPLETED] == 1, user
            assert of_user[user][EventKind.OTP_REJECTED] >= self.rejected[user], user
        assert self.revoked
        for user in self.revoked:
            assert of_user[user][EventKind.ELEVATIONS_REVOKED] >= 1, user
            check = CheckStepUpRequest(actor=actor(user), operation=OSQUERY)
            assert stubs.step_up.CheckStepUp(check).decision != DECISION_ALLOWED, user
        assert self.approved
        for user in self.approved:
            assert of_user[user][EventKind.CHALLENGE_APPROVED] == 1, user
            assert of_user[user][EventKind.CHALLENGE_ITEM_USED] == len(_TARGETS), user
        assert self.locked
        for user in self.locked:
            tried = stubs.step_up.VerifyOtp(VerifyOtpRequest(actor=actor(user), code="000000"))
            assert tried.outcome == OUTCOME_THROTTLED, user

    def _audit_policies(self, stubs):
        assert self.policies
        for tenant in self.policies:
            policy = stubs.policy.GetPolicy(GetPolicyRequest(tenant_id=tenant)).policy
            assert policy.enabled, tenant
            assert [each.operation for each in policy.operations] == [OSQUERY], tenant
            listed = stubs.audit.ListAuditEvents(ListAuditEventsRequest(tenant_id=tenant)).events
            assert len(listed) == 1, tenant

    def _audit_service(self, stubs):
        """Whoever has given no code yet gives one, and is elevated."""
        user = next(reversed(self._secrets))
        code = code_at(self._secrets[user].octets, datetime.now(UTC))
        given = stubs.step_up.VerifyOtp(VerifyOtpRequest(actor=actor(user), code=code))
        assert given.outcome == OUTCOME_VERIFIED
        check = CheckStepUpRequest(actor=actor(user), operation=OSQUERY)
        assert stubs.step_up.CheckStepUp(check).decision == DECISION_ALLOWED


def actor(user, tenant=TENANT, **context):
    return actor_pb2.ActorContext(
        tenant_id=tenant, user_id=user, session_id=f"{user}-monday", **context
    )


@contextmanager
def at_work(server, secrets):
    """A business that works as long as the block lasts."""
    business = Business(server, secrets)
    business.begin()
    try:
        business.goes_on()
        yield business
    finally:
        business.end()
