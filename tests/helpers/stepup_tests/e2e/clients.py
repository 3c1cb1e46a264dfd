"""Clients that are not ours: `grpcurl` and `buf curl`."""

import json
import re
import subprocess
from base64 import b64decode
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from stepup_tests.e2e.processes import PROGRAMS, ServerProcess
from stepup_tests.places import ROOT

Json = dict[str, Any]
_BEARER = "authorization: Bearer "


class Refused(Exception):  # noqa: N818  # reads as what became of the call
    """The call ended with a status.

    `code` is as in api.md (`INVALID_ARGUMENT`), `details` are JSON objects with their `@type`.
    """

    def __init__(self, code: str, message: str, details: Sequence[Json]) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.details = details

    def detail(self, name: str) -> Json | None:
        """The detail of a type, `ErrorInfo` for instance."""
        for detail in self.details:
            if detail["@type"] == f"type.googleapis.com/google.rpc.{name}":
                return detail
        return None

    @property
    def reason(self) -> str:
        """The reason of its `ErrorInfo`."""
        info = self.detail("ErrorInfo")
        assert info is not None
        return info["reason"]


class Unreachable(Exception):  # noqa: N818  # as above
    """There was no connection to make the call on."""


class Client:
    """One of the programs, speaking to one server. Field names are those of the protos.

    Args:
        server: the server.
        options: what the programs have in common: `--cacert`, without which there is no TLS,
            `--cert`, `--key`, and `-H` for metadata.
    """

    def __init__(self, server: ServerProcess, *options: str) -> None:
        self.server = server
        self._options = options
        self._has_tls = "--cacert" in options
        for option, value in pairwise(options):
            if option == "--key":
                server.secrets.note_private_key(Path(value).read_bytes())
            if option == "-H" and value.startswith(_BEARER):
                server.secrets.note_token(value.removeprefix(_BEARER))

    def call(self, method: str, request: Json | None = None) -> Json:
        """Call a method of `stepup.v1`, such as `StepUpService/CheckStepUp`.

        Raises:
            Refused: it ended with a status.
            Unreachable: the connection did not come about.
        """
        [response] = self.stream(method, request)
        return response

    def stream(self, method: str, request: Json | None = None) -> list[Json]:
        """Call a method that may answer more than once.

        Raises:
            Refused: it ended with a status.
            Unreachable: the connection did not come about.
        """
        self.server.secrets.note(request)
        command = self._command(f"stepup.v1.{method}", json.dumps(request or {}))
        done = subprocess.run(
            [PROGRAMS / command[0], *command[1:]],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        if done.returncode:
            refusal = self._refusal(done.stderr)
            self.server.errors.append(f"{refusal} {vars(refusal)}")
            raise refusal
        responses = [_snake_case(document) for document in _documents(done.stdout)]
        self.server.secrets.note(responses)
        return responses

    def _command(self, method: str, request: str) -> list[str]:
        raise NotImplementedError

    def _refusal(self, output: str) -> Exception:
        raise NotImplementedError

    @staticmethod
    def mask(*paths: str) -> Any:
        """A field mask as the program wants it written."""
        raise NotImplementedError


class GrpCurl(Client):
    """`grpcurl`, which knows the schema from the server's reflection."""

    def printed(self, *arguments: str, request: Json | None = None) -> bytes:
        """What it prints for `list`, `describe ...` or a method, before anything is made of it."""
        return subprocess.run(
            [PROGRAMS / "grpcurl", *self._flags(json.dumps(request or {})), *arguments],
            capture_output=True,
            timeout=60,
            check=True,
        ).stdout

    def _command(self, method: str, request: str) -> list[str]:
        return ["grpcurl", *self._flags(request), method]

    def _flags(self, request: str) -> Sequence[str]:
        return (
            *(() if self._has_tls else ("-plaintext",)),
            *("-max-time", "30", "-d", request, *self._options, self.server.address),
        )

    def _refusal(self, output: str) -> Exception:
        found = re.match(
            r"ERROR:\n  Code: (?P<code>\w+)\n  Message: (?P<message>.*)\n(?:  Details:\n)?", output
        )
        if output.startswith("Failed to dial"):
            return Unreachable(output)
        if found is None:
            return AssertionError(f"grpcurl: {output}")
        details = re.findall(r"^  [0-9]+\)\t(.*)$", output[found.end() :], flags=re.MULTILINE)
        code = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", found["code"]).upper()
        return Refused(code, found["message"], [json.loads(detail) for detail in details])

    @staticmethod
    def mask(*paths: str) -> Any:
        # grpcurl 1.8.6 knows no special JSON for field masks.
        return {"paths": paths}


class BufCurl(Client):
    """`buf curl`, which knows the schema from our protos."""

    schema: Sequence[str] = ("--schema", "protos")
    _DETAILS: Mapping[str, type[Message]] = {
        kind.DESCRIPTOR.full_name: kind for kind in (ErrorInfo, BadRequest, RetryInfo)
    }

    def _command(self, method: str, request: str) -> list[str]:
        scheme = "https" if self._has_tls else "http"
        return [
            *("buf", "curl", "--protocol", "grpc", *self._options, *self.schema),
            *(() if self._has_tls else ("--http2-prior-knowledge",)),
            *("-d", request, f"{scheme}://{self.server.address}/{method}"),
        ]

    def _refusal(self, output: str) -> Exception:
        try:
            status = json.loads(output)
        except ValueError:
            return AssertionError(f"buf curl: {output}")
        if status["code"] in {"unavailable", "canceled"} and "details" not in status:
            # It is buf's own: the server's come with details.
            return Unreachable(output)
        details = [self._detail(**detail) for detail in status.get("details", [])]
        return Refused(status["code"].upper(), status["message"], details)

    def _detail(self, type: str, value: str, **_: Any) -> Json:  # noqa: A002  # buf's name for it
        message = self._DETAILS[type].FromString(b64decode(value + "=" * (-len(value) % 4)))
        fields = MessageToDict(message, preserving_proto_field_name=True)
        return {"@type": f"type.googleapis.com/{type}", **fields}

    @staticmethod
    def mask(*paths: str) -> Any:
        return ",".join(paths)


class BufCurlByReflection(BufCurl):
    """`buf curl`, which knows the schema from the server's reflection."""

    schema = ("--reflect",)


def _documents(text: str) -> Iterator[Json]:
    decoder, position = json.JSONDecoder(), 0
    while text[position:].strip():
        position += len(text[position:]) - len(text[position:].lstrip())
        document, position = decoder.raw_decode(text, position)
        yield document


def _snake_case(document: Any) -> Any:
    """The names of the protos: grpcurl prints those, buf those of JSON."""
    match document:
        case dict():
            return {
                re.sub(r"[A-Z]", lambda found: f"_{found[0].lower()}", name): _snake_case(value)
                for name, value in document.items()
            }
        case list():
            return [_snake_case(element) for element in document]
    return document
