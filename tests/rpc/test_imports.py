"""`ImportAuthenticators` on the wire."""

import grpc
import pytest
from stepup_tests.people import administrator, operator
from stepup_tests.wire import on_wire, refusal_of

from stepup.v1 import actor_pb2
from stepup.v1 import people_service_pb2 as people

SECRET = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"
URI = f"otpauth://totp/Old:alice?secret={SECRET}"
SAM = operator()
OPERATOR = actor_pb2.ActorContext(
    tenant_id=SAM.tenant_id, operator={"name": SAM.name, "reason": SAM.reason}
)


@pytest.fixture
def import_(client):
    def call(*entries, actor=OPERATOR, dry_run=False):
        authenticators = [{"user_id": user, "otpauth_uri": uri} for user, uri in entries]
        return client.people.ImportAuthenticators(
            people.ImportAuthenticatorsRequest(
                actor=actor, authenticators=authenticators, dry_run=dry_run
            )
        )

    return call


@pytest.mark.parametrize("dry_run", [False, True])
async def test_each_entry_has_its_result(import_, dry_run):
    answer = await import_(
        ("alice", URI),
        ("bob ", URI),
        ("carol", URI + "&algorithm=SHA512"),
        ("dave", "otpauth://totp/dave?secret=GEZDGNBVGY3TQOJQ"),
        ("erin", "erin"),
        ("alice", URI),
        dry_run=dry_run,
    )
    assert [result.outcome for result in answer.results] == [
        people.IMPORT_OUTCOME_IMPORTED,
        people.IMPORT_OUTCOME_INVALID,
        people.IMPORT_OUTCOME_UNSUPPORTED,
        people.IMPORT_OUTCOME_WEAK,
        people.IMPORT_OUTCOME_INVALID,
        people.IMPORT_OUTCOME_REPEATED,
    ]
    assert answer.results[1].problem == "user_id must not begin or end with a blank"
    assert not answer.results[0].problem
    assert SECRET[:8] not in str(answer)


async def test_a_user_who_has_an_authenticator_is_refused(import_):
    await import_(("alice", URI))
    [result] = (await import_(("alice", URI))).results
    assert result.outcome == people.IMPORT_OUTCOME_HAS_AUTHENTICATOR


@pytest.mark.parametrize("number", [0, 101])
async def test_a_call_has_1_to_100_entries(import_, number):
    refusal = await refusal_of(import_(*[("alice", URI)] * number))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")


async def test_s16_a_master_administrator_imports_nothing(import_):
    refusal = await refusal_of(import_(("alice", URI), actor=on_wire(administrator())))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.PERMISSION_DENIED, "ROLE_REQUIRED")
