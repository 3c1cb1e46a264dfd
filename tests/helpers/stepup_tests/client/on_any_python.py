"""Use both clients with nothing but what they need. A test runs this with other Pythons.

Prints what was imported, as JSON.
"""

import json
import sys
from importlib import metadata

import stepup.client  # first: what it imports is the point

IMPORTED = sorted(sys.modules)

import asyncio  # noqa: E402

import grpc  # noqa: E402

from stepup.client import (  # noqa: E402
    ActorContext,
    Allowed,
    NewChallengeItem,
    StateError,
    Verified,
    rpcs,
)
from stepup.client.messages import challenge, step_up  # noqa: E402
from stepup_tests.client.either_client import either_client  # noqa: E402
from stepup_tests.client.scripted_server import RefusedError, scripted_server  # noqa: E402

ACTOR = ActorContext(tenant_id="acme", user_id="bob", session_id="monday")
ALLOWED = step_up.CheckStepUpResponse(
    decision=step_up.DECISION_ALLOWED,
    reason=step_up.DECISION_REASON_ELEVATED,
    elevation={"methods": [1]},
)


async def use(kind, server):
    server.script(rpcs.CHECK_STEP_UP, ALLOWED)
    server.script(
        rpcs.VERIFY_OTP,
        RefusedError(grpc.StatusCode.UNAVAILABLE),
        step_up.VerifyOtpResponse(outcome=step_up.OUTCOME_VERIFIED, elevation={"methods": [1]}),
    )
    server.script(
        rpcs.CREATE_CHALLENGE,
        RefusedError(grpc.StatusCode.FAILED_PRECONDITION, "UNKNOWN_TENANT", details={"a": "b"}),
        challenge.CreateChallengeResponse(challenge={"state": 1, "challenge_id": "an-id"}),
    )
    server.script(
        rpcs.AWAIT_CHALLENGE,
        [challenge.AwaitChallengeResponse(challenge={"state": 2, "challenge_id": "an-id"})],
    )
    items = [NewChallengeItem(operation="x.y", target="a", label="a")]
    async with either_client(kind, server.address) as stepup:
        assert isinstance(await stepup.require(ACTOR, "x.y"), Allowed)
        await stepup.run(stepup.client.action(ACTOR, "x.y"), lambda: None)
        assert isinstance(await stepup.verify(ACTOR, "123456"), Verified)
        [error] = await asyncio.gather(stepup.approve(ACTOR, items, "x"), return_exceptions=True)
        assert isinstance(error, StateError)
        assert (error.reason, dict(error.details)) == ("UNKNOWN_TENANT", {"a": "b"})
        assert (await stepup.approve(ACTOR, items, "x")).challenge_id == "an-id"


def main():
    with scripted_server() as server:
        for kind in ("async", "sync"):
            asyncio.run(use(kind, server))
    found = {
        "client": stepup.client.__name__,
        "imported": IMPORTED,
        "distributions": sorted({each.metadata["Name"] for each in metadata.distributions()}),
    }
    json.dump(found, sys.stdout)


main()
