"""An answer that a proxy cuts off, and the resend of a gRPC client by the published advice."""

from uuid import uuid4

import grpc
import pytest
from stepup_tests.cutting_proxy import cutting_proxy
from stepup_tests.people import person
from stepup_tests.wire import Client, on_wire
from stepup_tests.worker import OSQUERY

from stepup.client import SERVICE_CONFIG
from stepup.v1 import step_up_service_pb2 as step_up

ALICE = person()
HOSTS = [f"host-{number}" for number in range(10)]
EXEMPT = step_up.DECISION_REASON_EXEMPT_TIMED_OUT_RETRY


@pytest.fixture
async def receipts(worker):
    """Of one action on ten hosts, in a session that is not elevated any more."""
    await worker.select(OSQUERY)
    await worker.elevate(ALICE, await worker.enrol(ALICE))
    allowed = [await worker.check(ALICE, target=host, caller="local") for host in HOSTS]
    await worker.revoke(ALICE)
    return [answer.receipt for answer in allowed]


@pytest.fixture
async def proxy(running):
    async with cutting_proxy(running.target) as (proxy, port):
        proxy.port = port
        yield proxy


@pytest.fixture
async def resending(proxy):
    """A client as the published service config makes it."""
    client = Client(f"127.0.0.1:{proxy.port}", [("grpc.service_config", SERVICE_CONFIG)])
    yield client
    await client.close()


def retrying(receipt, **fields):
    request = step_up.CheckStepUpRequest(
        actor=on_wire(ALICE), operation=OSQUERY, target=HOSTS[0], **fields
    )
    request.actor.retry_receipt = receipt
    return request


async def test_s16_an_answer_that_was_cut_off_burns_no_receipt(world, proxy, resending, receipts):
    proxy.cuts = 2
    request = retrying(receipts[0], request_id=str(uuid4()))
    answer = await resending.step_up.CheckStepUp(request)
    assert proxy.has_cut == 2
    assert answer.reason == EXEMPT
    lines = [line for line in world.decisions() if line["decision_id"] == answer.decision_id]
    assert [line.get("repeated") for line in lines] == [None, True, True]


async def test_the_receipts_of_a_batch_survive_it_too(proxy, resending, receipts):
    proxy.cuts = 1
    request = step_up.BatchCheckStepUpRequest(
        actor=on_wire(ALICE),
        checks=[
            step_up.OperationCheck(operation=OSQUERY, target=host, retry_receipt=receipt)
            for host, receipt in zip(HOSTS, receipts, strict=True)
        ],
        request_id=str(uuid4()),
    )
    answer = await resending.step_up.BatchCheckStepUp(request)
    assert proxy.has_cut == 1
    assert [decision.reason for decision in answer.decisions] == [EXEMPT] * 10
    assert await resending.step_up.BatchCheckStepUp(request) == answer


async def test_the_published_advice_is_what_these_tests_rely_on(proxy, receipts):
    """Without it the channel sends nothing again."""
    proxy.cuts = 1
    client = Client(f"127.0.0.1:{proxy.port}", [("grpc.enable_retries", 0)])
    with pytest.raises(grpc.aio.AioRpcError) as cut:
        await client.step_up.CheckStepUp(retrying(receipts[0]))
    assert cut.value.code() is grpc.StatusCode.UNAVAILABLE
    await client.close()
