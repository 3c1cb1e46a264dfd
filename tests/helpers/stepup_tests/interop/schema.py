"""The messages of `interop.proto`, made when they are asked for."""

import subprocess
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from stepup_tests.e2e.processes import PROGRAMS

PROTO = Path(__file__).with_name("interop.proto")
SERVICE = "grpc.testing.TestService"


@cache
def descriptors():
    """The serialised `FileDescriptorSet` of the proto."""
    with TemporaryDirectory() as directory:
        output = Path(directory) / "interop.binpb"
        build = [PROGRAMS / "buf", "build", PROTO, "--as-file-descriptor-set", "--output", output]
        subprocess.run(build, check=True, timeout=60)
        return output.read_bytes()


@cache
def _pool():
    pool = descriptor_pool.DescriptorPool()
    for file in FileDescriptorSet.FromString(descriptors()).file:
        pool.Add(file)
    return pool


def message(name):
    """The class of a message."""
    descriptor = _pool().FindMessageTypeByName(f"grpc.testing.{name}")
    return message_factory.GetMessageClass(descriptor)


def method(path):
    """The descriptor of a method, such as `TestService/EmptyCall`."""
    service, name = path.split("/")
    return _pool().FindServiceByName(f"grpc.testing.{service}").methods_by_name[name]
