"""A console of the backend: it asks the person for a code where the backend needs one."""

import asyncio

import grpc

from stepup.client import error_of

hosts_pb2, hosts_pb2_grpc = grpc.protos_and_services("hosts.proto")

CALL = {"metadata": [("authorization", "Bearer token-of-bob")], "timeout": 10}


async def start_shell(hosts, host, ask_for_code):
    """Start a shell. Ask for codes until one is right, or none helps."""
    request = hosts_pb2.StartShellRequest(host=host)
    while True:
        try:
            return await hosts.StartShell(request, **CALL)
        except grpc.aio.AioRpcError as error:
            refused = error_of(error)
            if refused.reason != "STEP_UP_REQUIRED" or refused.details["challenge"] == "true":
                raise
        code = hosts_pb2.SendCodeRequest(code=ask_for_code())
        sent = await hosts.SendCode(code, **CALL)
        if sent.outcome not in {"VERIFIED", "REJECTED"}:
            raise SystemExit(f"No code helps now: {sent.outcome}")


async def main():
    async with grpc.aio.insecure_channel("127.0.0.1:50100") as channel:
        hosts = hosts_pb2_grpc.HostsStub(channel)
        print(await start_shell(hosts, "host-7", lambda: input("Your code: ")))


if __name__ == "__main__":
    asyncio.run(main())
