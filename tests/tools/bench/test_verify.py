"""What a verification costs: the pieces of it, and all of it."""

from datetime import UTC, datetime

import pytest
from stepup_tests.keys import fresh_ring
from stepup_tests.otp import code_at

from stepup.domain.actor import Actor, SessionId, TenantId, UserId
from stepup.domain.totp import TotpSecret
from stepup.stores.sql import SqlDatabase
from stepup.v1 import step_up_service_pb2 as pb
from tools.bench.enrolled import Enrolled, enrol
from tools.bench.figures import Latencies
from tools.bench.pieces import APART, STEPS, WHOLE, Cost
from tools.bench.verify import CASES, Effort, Run
from tools.bench.verify_report import AROUND, REST, TOTAL, document

EFFORT = Effort(repetitions=3, calls=10, pieces=5)


def runs(*rps):
    return [Run(each, Latencies(1.0, 2.0), Cost(service_us=1500, database_us=300)) for each in rps]


def reported(*rps):
    costs = {name: Cost(100, 30) for name in (*STEPS, *APART)} | {WHOLE: Cost(1000, 190)}
    measured = {case.name: runs(*rps) for case in CASES}
    return document(measured, {"postgresql": costs}, EFFORT, {"versions": {}})


def test_the_pieces_add_up_to_a_call():
    pieces = reported(400, 600, 500)["pieces_us"]["postgresql"]
    total = pieces.pop(TOTAL)
    assert total == {"service": 1500, "database": 300}
    for part, of_all in total.items():
        assert sum(cost[part] for cost in pieces.values()) == of_all


def test_the_log_line_is_no_piece_of_the_use_case():
    pieces = reported(500)["pieces_us"]["postgresql"]
    assert pieces[REST]["service"] == 1000 - 8 * 100
    assert pieces[AROUND]["service"] == 1500 - 1000 - 100


@pytest.mark.parametrize(("rps", "met"), [(499, False), (500, True)])
def test_the_median_is_held_against_what_is_wanted(rps, met):
    assert reported(rps, 400, 600)["met"] == {"rps: postgresql >= 500": met}


async def test_everybody_who_is_enrolled_can_give_a_code(tmp_path):
    ring, url = fresh_ring(), f"sqlite:///{tmp_path / 'stepup.db'}"
    everybody = await enrol(url, ring, number=5, tenants=2)
    database = SqlDatabase(url)
    async with database.snapshot() as records:
        for person in everybody:
            actor = person.actor
            found = await records.authenticators.find(actor.tenant_id, actor.user_id)
            place = found.tenant_id, found.user_id, found.enrollment_id
            assert ring.open(found.sealed_secret, *place) == person.secret
    await database.close()
    assert len({person.actor.tenant_id for person in everybody}) == 2


def test_an_attempt_has_the_code_of_now():
    actor = Actor(TenantId("acme"), UserId("bob"), SessionId("monday"))
    person = Enrolled(actor, TotpSecret.generate())
    before = datetime.now(UTC)
    request = pb.VerifyOtpRequest.FromString(person.attempt())
    assert request.code in {code_at(person.secret.octets, at) for at in (before, datetime.now(UTC))}
