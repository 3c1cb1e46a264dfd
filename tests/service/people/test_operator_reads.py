"""S16: what an operator reads is on record before it is answered; what a person reads is not."""

import pytest
from stepup_tests.people import ACME, administrator, operator
from stepup_tests.worker import REQUEST_ID

from stepup.domain.actor import UserId
from stepup.domain.audit import EventKind
from stepup.domain.errors import StoreUnavailableError
from stepup.service.people.operator_reads import record_operator_read

BOB = UserId("bob")
METHOD = "PeopleService/GetPerson"


@pytest.fixture
def record(world, worker):
    def record(actor, subject=None):
        return record_operator_read(world.database, worker.context(actor), METHOD, subject)

    return record


@pytest.mark.parametrize("subject", [BOB, None])
async def test_s16_an_operator_reads_by_name_and_with_a_reason(worker, record, subject):
    await record(operator("sam", reason="ticket 1"), subject)
    [event] = await worker.events()
    assert (event.tenant_id, event.kind) == (ACME, EventKind.OPERATOR_READ)
    assert (event.actor_user_id, event.subject_user_id) == (None, subject)
    assert event.details == {
        "request_id": REQUEST_ID,
        "operator": {"name": "sam", "reason": "ticket 1"},
        "method": METHOD,
    }


async def test_a_read_of_a_person_is_not_recorded(worker, record):
    await record(administrator(), BOB)
    assert await worker.events() == []


async def test_s16_a_read_that_cannot_be_recorded_fails(world, record):
    world.database.audit_trail_takes_events = False
    await world.refuses(record(operator()), StoreUnavailableError)
