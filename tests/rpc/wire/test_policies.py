"""What a policy looks like on the wire."""

from datetime import timedelta

import pytest

from stepup.domain.actor import TenantId
from stepup.domain.elevation import LIFETIME
from stepup.domain.operations import SHIPPED, OperationId
from stepup.domain.policy import EVERY_TIME, Policy
from stepup.rpc.wire import encode, policies
from stepup.v1 import policy_service_pb2 as pb

OSQUERY = OperationId("response.run_osquery")


@pytest.mark.parametrize(
    ("max_age", "field"),
    [
        (EVERY_TIME, pb.SelectedOperation(operation=OSQUERY, every_time=True)),
        (LIFETIME, pb.SelectedOperation(operation=OSQUERY)),
        (timedelta(minutes=1), pb.SelectedOperation(operation=OSQUERY, max_age={"seconds": 60})),
    ],
)
def test_what_an_operation_needs_is_sent_and_taken_in_the_same_words(max_age, field):
    sent = encode.tenant_policy(Policy(TenantId("acme"), enabled=True, max_ages={OSQUERY: max_age}))
    assert list(sent.operations) == [field]
    request = pb.UpdatePolicyRequest(policy=sent, update_mask={"paths": ["operations"]})
    assert policies.policy_change(SHIPPED, request).max_ages == {OSQUERY: max_age}
