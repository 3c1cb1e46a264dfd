"""A batch of 100 checks with receipts fits into a message (S18)."""

from stepup_tests.people import person
from stepup_tests.wire import on_wire, refusal_of

from stepup.rpc.engine import CallLimits
from stepup.rpc.server.server import MAX_MESSAGE_BYTES
from stepup.v1 import step_up_service_pb2 as step_up

CHECKS = 100
LONGEST = "i" * 128


def test_s26_messages_that_are_not_whole_fit_into_a_worker_many_times():
    """A quarter of the 512 MiB that the chart and Compose give a server."""
    assert CallLimits().half_open * MAX_MESSAGE_BYTES <= 128 * 2**20


async def test_s18_a_batch_with_every_field_at_its_limit_is_read(client):
    """Operations of 127 characters, targets of 256 bytes and receipts of 512: 91 KB."""
    operation = f"{'c' * 63}.{'n' * 63}"
    actor = on_wire(person(tenant=LONGEST, user=LONGEST, session=LONGEST))
    checks = [
        step_up.OperationCheck(operation=operation, target="t" * 256, retry_receipt="r" * 512)
    ] * CHECKS
    request = step_up.BatchCheckStepUpRequest(actor=actor, checks=checks)
    assert 64 * 1024 < request.ByteSize() < MAX_MESSAGE_BYTES
    refused = await refusal_of(client.step_up.BatchCheckStepUp(request))
    assert refused.reason == "UNKNOWN_OPERATION"
