"""Cerbos PDP, a yardstick: an authorization service in Go, on one core, with one small policy.

It evaluates a policy that it has in memory. It authenticates no caller and reads no store.
`python -m tools.bench.cerbos <program> [--audited]` serves it until SIGTERM. `--audited` turns on
its audit of access and decisions, and its log of requests.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
)
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from stepup_tests.e2e.processes import eventually
from stepup_tests.valkey_server import free_port

from tools.bench.store import listens

VERSION = "0.51.0"
METHOD = "/cerbos.svc.v1.CerbosService/CheckResources"
_EFFECT_ALLOW = 1
_POLICY = {
    "apiVersion": "api.cerbos.dev/v1",
    "resourcePolicy": {
        "version": "default",
        "resource": "operation",
        "rules": [{"actions": ["run"], "effect": "EFFECT_ALLOW", "roles": ["analyst"]}],
    },
}
# The fields of Cerbos's public messages that are used here: number and type; a name is a message.
_MESSAGES = {
    "Principal": {"id": (1, "string"), "roles": (3, "string*")},
    "Resource": {"kind": (1, "string"), "id": (3, "string")},
    "Entry": {"actions": (1, "string*"), "resource": (2, "Resource")},
    "Request": {
        "request_id": (1, "string"),
        "principal": (3, "Principal"),
        "resources": (4, "Entry*"),
    },
    "Action": {"key": (1, "string"), "value": (2, "int32")},
    "Result": {"actions": (2, "Action*")},
    "Response": {"results": (2, "Result*")},
}


def question():
    """The request, encoded: may an analyst run this operation?"""
    resource = _message("Resource")(kind="operation", id="response.run_osquery")
    return _message("Request")(
        request_id="host-000017",
        principal=_message("Principal")(id="bob@acme.example", roles=["analyst"]),
        resources=[_message("Entry")(actions=["run"], resource=resource)],
    ).SerializeToString()


def is_allowed(answer):
    """Whether the encoded response allows the one action that was asked about."""
    results = _message("Response").FromString(answer).results
    effects = [(action.key, action.value) for result in results for action in result.actions]
    return effects == [("run", _EFFECT_ALLOW)]


def install(directory):
    """Install the program from the npm registry; returns its path, or None without npm."""
    if shutil.which("npm") is None:
        return None
    command = ("npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", directory)
    subprocess.run((*command, f"cerbos@{VERSION}"), check=True)
    return next(Path(directory).glob("node_modules/@cerbos/cerbos-*/cerbos-*"))


def serve(program, *, audited):
    """Run Cerbos on a free port until it ends; SIGTERM ends it."""
    with tempfile.TemporaryDirectory(prefix="cerbos-") as name:
        directory = Path(name)
        (directory / "policies").mkdir()
        (directory / "policies" / "operation.yaml").write_text(json.dumps(_POLICY))
        port = free_port()
        settings = {
            "server": {
                "grpcListenAddr": f"127.0.0.1:{port}",
                "httpListenAddr": f"127.0.0.1:{free_port()}",
            },
            "storage": {"driver": "disk", "disk": {"directory": str(directory / "policies")}},
            "telemetry": {"disabled": True},
        }
        if audited:
            settings["audit"] = {
                "enabled": True,
                "backend": "file",
                "accessLogsEnabled": True,
                "decisionLogsEnabled": True,
                "file": {"path": str(directory / "audit.log")},
            }
        (directory / "conf.json").write_text(json.dumps(settings))
        level = "info" if audited else "error"
        command = (program, "server", "--config", directory / "conf.json", "--log-level", level)
        one_core = os.environ | {"GOMAXPROCS": "1"}
        with subprocess.Popen(command, env=one_core, stdout=sys.stderr) as server:
            signal.signal(signal.SIGTERM, lambda *_: server.terminate())
            eventually(lambda: listens(port), "Cerbos listens")
            sys.stdout.write(f"cerbos is listening on 127.0.0.1:{port}\n")
            sys.stdout.flush()


def _message(name):
    return GetMessageClass(_POOL.FindMessageTypeByName(f"cerbos.{name}"))


def _described():
    types = {"string": FieldDescriptorProto.TYPE_STRING, "int32": FieldDescriptorProto.TYPE_INT32}
    file = FileDescriptorProto(name="cerbos.proto", package="cerbos", syntax="proto3")
    for name, fields in _MESSAGES.items():
        message = DescriptorProto(name=name)
        for field, (number, kind) in fields.items():
            single = kind.removesuffix("*")
            repeated = kind != single
            message.field.add(
                name=field,
                number=number,
                label=FieldDescriptorProto.LABEL_REPEATED
                if repeated
                else FieldDescriptorProto.LABEL_OPTIONAL,
                type=types.get(single, FieldDescriptorProto.TYPE_MESSAGE),
                type_name=None if single in types else f".cerbos.{single}",
            )
        file.message_type.append(message)
    pool = DescriptorPool()
    pool.Add(file)
    return pool


_POOL = _described()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("--audited", action="store_true")
    arguments = parser.parse_args()
    serve(arguments.program, audited=arguments.audited)
