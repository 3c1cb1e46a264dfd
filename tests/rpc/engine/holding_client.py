"""A client that waits for answers until it is killed: `holding_client.py <target> <calls>`."""

import sys

import grpc

target, calls = sys.argv[1], int(sys.argv[2])
channel = grpc.insecure_channel(target)
waiting = [channel.unary_unary("/test.Service/Hold").future(b"") for _ in range(calls)]
for call in waiting:
    call.result()
