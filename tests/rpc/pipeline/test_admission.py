"""From identities to callers (S15)."""

from dataclasses import replace

import pytest
from stepup_tests.callers import all_powerful
from stepup_tests.clock import ManualClock
from stepup_tests.people import person
from stepup_tests.worker import OSQUERY

from stepup.domain.callers import Caller, Callers
from stepup.domain.errors import CallerNotPermittedError
from stepup.rpc.engine import Invocation
from stepup.rpc.pipeline.call import Admission, Method
from stepup.rpc.pipeline.pipeline import Pipeline
from stepup.rpc.pipeline.portal_calls import PortalCalls
from stepup.rpc.wire.errors import RefusedError
from stepup.service.calls.refused_claims import RefusedClaims
from stepup.v1.policy_service_pb2 import ListOperationsRequest, ListOperationsResponse

SOAR = Caller(all_powerful("soar").caller_id, frozenset({"spiffe://acme/soar", "jwt:i#soar"}), ())
CONSOLE = Caller(all_powerful("console").caller_id, frozenset({"spiffe://acme/console"}), ())
CALL = Invocation("ipv4:127.0.0.1:4711")


class Proven:
    """Credentials that prove these identities."""

    def __init__(self, *identities):
        self._identities = frozenset(identities)

    async def identify(self, _invocation):
        return self._identities


@pytest.mark.parametrize(
    "identities", [["spiffe://acme/soar"], ["spiffe://acme/soar", "jwt:i#soar"]]
)
async def test_s15_identities_of_one_caller_admit_it(identities):
    admitted = await Admission(Proven(*identities), Callers([SOAR, CONSOLE]))(CALL)
    assert admitted.caller is SOAR


async def test_who_is_admitted_has_the_identities_that_were_proven_and_no_others():
    proven = Proven("spiffe://acme/soar", "jwt:i#soar")
    admitted = await Admission(proven, Callers([SOAR]))(CALL)
    assert admitted.identities == ("jwt:i#soar", "spiffe://acme/soar")
    admitted = await Admission(Proven("spiffe://acme/soar"), Callers([SOAR]))(CALL)
    assert admitted.identities == ("spiffe://acme/soar",)


@pytest.mark.parametrize(
    "identities",
    [
        ["spiffe://acme/unknown"],
        ["spiffe://acme/soar", "spiffe://acme/unknown"],
        ["spiffe://acme/soar", "spiffe://acme/console"],
        [],
    ],
    ids=["unknown", "one unknown", "two callers", "none"],
)
async def test_s15_other_identities_admit_nobody(identities):
    with pytest.raises(CallerNotPermittedError):
        await Admission(Proven(*identities), Callers([SOAR, CONSOLE]))(CALL)


class Everybody:
    """Knows every tenant."""

    async def demand(self, _tenant_id):
        return None


async def test_a_call_under_way_keeps_its_rules_when_they_are_replaced():
    mighty = replace(all_powerful("soar"), identities=frozenset({"spiffe://acme/soar"}))
    admission = Admission(Proven("spiffe://acme/soar"), Callers([mighty]))

    async def handler(_request, call):
        admission.replace(Callers([]))
        await call.authorize_and_charge(person(), OSQUERY)
        return ListOperationsResponse()

    method = Method("test.Service", "Method", ListOperationsRequest, handler)
    pipeline = Pipeline(
        admission,
        RefusedClaims(None),
        None,
        Everybody(),
        ManualClock(),
        portal_calls=PortalCalls(None, None, admission.named),
    )
    assert await pipeline.unary(method, b"", CALL) == b""
    with pytest.raises(RefusedError):
        await pipeline.unary(method, b"", CALL)


async def test_s15_replaced_rules_hold_from_the_next_call_on():
    admission = Admission(Proven("spiffe://acme/soar"), Callers([SOAR]))
    await admission(CALL)
    admission.replace(Callers([CONSOLE]))
    with pytest.raises(CallerNotPermittedError):
        await admission(CALL)
    stricter = replace(SOAR, rules=())
    admission.replace(Callers([stricter]))
    assert (await admission(CALL)).caller is stricter


async def test_s15_replaced_rules_hold_for_a_call_whose_identity_was_not_yet_proven():
    class ProvenLater(Proven):
        async def identify(self, invocation):
            admission.replace(Callers([CONSOLE]))
            return await super().identify(invocation)

    admission = Admission(ProvenLater("spiffe://acme/soar"), Callers([SOAR]))
    with pytest.raises(CallerNotPermittedError):
        await admission(CALL)
