"""What a verification costs: the pieces of it, and all of it."""

import io
from datetime import UTC, datetime

import pytest
from fakeredis import FakeAsyncRedis
from stepup_tests.clock import ManualClock
from stepup_tests.keys import fresh_ring
from stepup_tests.otp import code_at

from stepup.domain.actor import Actor, SessionId, TenantId, UserId
from stepup.domain.totp import TotpSecret
from stepup.stores.sql import SqlDatabase
from stepup.v1 import step_up_service_pb2 as pb
from tools.bench.enrolled import Enrolled, attempts, enrol
from tools.bench.figures import Latencies
from tools.bench.pieces import APART, STEPS, WHOLE, Cost, Pieces
from tools.bench.verify import CASES, Effort, Run
from tools.bench.verify_report import AROUND, REST, TOTAL, document

# The step at DEAD has the code of the step before, as one step in a million does.
SECRET = TotpSecret(bytes(range(20)))
DEAD = datetime.fromtimestamp(58_787_834 * 30, UTC)
ALIVE = datetime.fromtimestamp(58_787_835 * 30, UTC)
PERSON = Enrolled(Actor(TenantId("acme"), UserId("bob"), SessionId("monday")), SECRET)

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


@pytest.mark.parametrize(("now", "is_dead"), [(DEAD, True), (ALIVE, False)])
def test_a_code_is_dead_that_is_the_code_of_the_step_before(now, is_dead):
    assert PERSON.has_dead_code(now) is is_dead


def test_a_code_is_dead_that_is_the_code_of_a_used_step():
    before_the_pair = datetime.fromtimestamp(58_787_833 * 30, UTC)
    assert PERSON.has_dead_code(before_the_pair, used_steps=[58_787_834])
    assert not PERSON.has_dead_code(before_the_pair, used_steps=[58_787_835])


@pytest.fixture
async def pieces(tmp_path, monkeypatch):
    """The pieces, a person whose secret is `SECRET`, and a clock at DEAD."""
    monkeypatch.setattr(TotpSecret, "generate", lambda: SECRET)
    ring, url = fresh_ring(), f"sqlite:///{tmp_path / 'stepup.db'}"
    [person] = await enrol(url, ring, number=1, tenants=1)
    database, clock = SqlDatabase(url), ManualClock(DEAD)
    async with FakeAsyncRedis() as redis:
        yield Pieces(database, redis, ring, io.BytesIO(), clock), person, clock
    await database.close()


async def test_the_pieces_run_in_turn_for_one_person(pieces):
    pieces, person, clock = pieces
    clock.set(ALIVE)
    for work in pieces.works().values():
        await work(person)


async def test_a_dead_code_does_not_end_a_measurement(pieces):
    pieces, person, _ = pieces
    await pieces.works()[WHOLE](person)


async def test_a_refused_code_that_is_alive_ends_a_measurement(pieces):
    pieces, person, clock = pieces
    clock.set(ALIVE)
    await pieces.works()[WHOLE](person)
    with pytest.raises(AssertionError):
        await pieces.works()[WHOLE](person)


def test_an_attempt_has_the_code_of_now():
    [message] = attempts(iter([PERSON]), 1, ALIVE)
    request = pb.VerifyOtpRequest.FromString(message)
    assert request.code == code_at(SECRET.octets, ALIVE)


def test_a_person_with_a_dead_code_makes_no_attempt():
    alive = Enrolled(PERSON.actor, TotpSecret(bytes(20)))
    [message] = attempts(iter([PERSON, alive, alive]), 1, DEAD)
    assert pb.VerifyOtpRequest.FromString(message).code == code_at(alive.secret.octets, DEAD)
