"""A backend on grpc.aio: an interceptor lets `StartShell` run only if stepup allows the action."""

import asyncio
import os

import grpc

from stepup.client import ActorContext, AsyncStepUpClient, Verified
from stepup.client.guards import Gate
from stepup.client.guards.grpc_aio import AsyncStepUpInterceptor

hosts_pb2, hosts_pb2_grpc = grpc.protos_and_services("hosts.proto")

SESSIONS = {  # by token; yours come from your sign-in
    "Bearer token-of-bob": ActorContext(
        tenant_id=os.environ.get("TENANT", "acme"), user_id="bob", session_id="bob-monday"
    )
}


async def actor_of(_request, context):
    """Return the person whose session the caller has proven; else end the call."""
    token = dict(context.invocation_metadata()).get("authorization")
    if token not in SESSIONS:
        await context.abort(grpc.StatusCode.UNAUTHENTICATED, "Sign in.")
    return SESSIONS[token]


class Hosts(hosts_pb2_grpc.HostsServicer):
    def __init__(self, stepup):
        self._stepup = stepup

    async def StartShell(self, request, _context):  # noqa: N802  # the name in the contract
        return hosts_pb2.StartShellResponse(session=f"{request.host}/1")

    async def SendCode(self, request, context):  # noqa: N802
        actor = await actor_of(request, context)
        answer = await self._stepup.verify(actor, request.code)
        outcome = "VERIFIED" if isinstance(answer, Verified) else answer.outcome
        return hosts_pb2.SendCodeResponse(outcome=outcome)


def server_with_guard(stepup):
    guard = AsyncStepUpInterceptor(
        stepup,
        actor=actor_of,
        services=[hosts_pb2.DESCRIPTOR.services_by_name["Hosts"]],
        methods={
            "/acme.v1.Hosts/StartShell": Gate("response.start_remote_shell", lambda r: r.host),
            "/acme.v1.Hosts/SendCode": None,
        },
    )
    server = grpc.aio.server(interceptors=[guard])
    hosts_pb2_grpc.add_HostsServicer_to_server(Hosts(stepup), server)
    return server


async def main():
    async with AsyncStepUpClient.from_env() as stepup:
        server = server_with_guard(stepup)
        server.add_insecure_port("127.0.0.1:50100")
        await server.start()
        await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(main())
