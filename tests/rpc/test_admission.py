"""From identities to callers (S15)."""

import pytest
from support.callers import all_powerful

from stepup.domain.callers import Caller, Callers
from stepup.domain.errors import CallerNotPermittedError
from stepup.rpc.admission import Admission
from stepup.rpc.call import Invocation

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


async def test_replaced_rules_hold_from_the_next_call_on():
    admission = Admission(Proven("spiffe://acme/soar"), Callers([SOAR]))
    admission.replace(Callers([CONSOLE]))
    with pytest.raises(CallerNotPermittedError):
        await admission(CALL)
