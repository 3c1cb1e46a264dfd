"""`docs/reference.md`, made from the comments of the protos: `make api-reference` writes it."""

import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
    ServiceDescriptorProto,
)

_ROOT = Path(__file__).parents[1]
_PACKAGE = ".stepup.v1."
_MESSAGES, _ENUMS, _SERVICES = 4, 5, 6  # field numbers of FileDescriptorProto: they make up paths
_SYNTAX = 12  # as above: what a file says of itself is above its first statement
_MEMBERS = 2  # the field number of a message's fields, an enum's values and a service's methods
_HEAD = """\
# API reference

This page is made by `make api-reference` from the comments of the
[protos](../protos/stepup/v1); `make lint` compares the two. [Integrating](integrating.md) explains
the flow, and the [errors](integrating.md#errors).

All names are in the package `stepup.v1`. A field of a message type may be absent; a number, text,
list or truth value that is absent is the zero of its type.
"""


def reference() -> str:
    """Return the whole document."""
    # Services first: they are what a reader looks for.
    files = sorted(_files(), key=lambda file: (not file.service, file.name))
    sections = (line for file in files for line in _Section(file).lines())
    return "\n".join((_HEAD, *_contents(files), *sections))


def _files() -> Sequence[FileDescriptorProto]:
    buf = Path(sys.executable).with_name("buf")
    build = (buf, "build", _ROOT / "protos", "--exclude-imports", "--output", "-")
    described = subprocess.run(build, stdout=subprocess.PIPE, check=True).stdout
    return FileDescriptorSet.FromString(described).file


def _contents(files: Sequence[FileDescriptorProto]) -> Iterator[str]:
    yield "| service | methods |\n|---|---|"
    for file in files:
        for service in file.service:
            methods = ", ".join(_link(method.name) for method in service.method)
            yield f"| {_link(service.name)} | {methods} |"
    yield ""


class _Section:
    """The part of the page about one file."""

    def __init__(self, file: FileDescriptorProto) -> None:
        self._file = file
        self._comments = {
            tuple(location.path): " ".join(location.leading_comments.split())
            for location in file.source_code_info.location
        }

    def lines(self) -> Iterator[str]:
        for index, service in enumerate(self._file.service):
            yield from self._service(service, (_SERVICES, index))
        if not self._file.service:
            yield f"## {Path(self._file.name).name}\n\n{self._says((_SYNTAX,))}\n"
        for index, message in enumerate(self._file.message_type):
            yield from self._message(message, (_MESSAGES, index))
        for index, enum in enumerate(self._file.enum_type):
            yield from self._enum(enum, (_ENUMS, index))

    def _service(self, service: ServiceDescriptorProto, path: tuple[int, ...]) -> Iterator[str]:
        yield f"## {service.name}\n\n{self._says(path)}\n"
        for index, method in enumerate(service.method):
            yield f"### {method.name}\n\n{self._says((*path, _MEMBERS, index))}\n"
            answer = f"a stream of {_type_link(method.output_type)}"
            answer = answer if method.server_streaming else _type_link(method.output_type)
            yield f"{_type_link(method.input_type)} → {answer}\n"

    def _message(self, message: DescriptorProto, path: tuple[int, ...]) -> Iterator[str]:
        yield f"### {message.name}\n\n{self._says(path)}\n"
        if message.field:
            yield "| field | number | type | |\n|---|---|---|---|"
        for index, field in enumerate(message.field):
            says = self._says((*path, _MEMBERS, index))
            yield f"| `{field.name}` | {field.number} | {_type(field)} | {_cell(says)} |"
        if message.field:
            yield ""

    def _enum(self, enum: EnumDescriptorProto, path: tuple[int, ...]) -> Iterator[str]:
        yield f"### {enum.name}\n\n{self._says(path)}\n"
        yield "| value | number | |\n|---|---|---|"
        for index, value in enumerate(enum.value):
            says = self._says((*path, _MEMBERS, index))
            yield f"| `{value.name}` | {value.number} | {_cell(says)} |"
        yield ""

    def _says(self, path: tuple[int, ...]) -> str:
        if not (comment := self._comments.get(path)):
            raise SystemExit(f"{self._file.name} has no comment at {path}")
        return comment


def _type(field: FieldDescriptorProto) -> str:
    if field.type_name:
        kind = _type_link(field.type_name)
    else:
        kind = FieldDescriptorProto.Type.Name(field.type).removeprefix("TYPE_").lower()
    if field.label == FieldDescriptorProto.LABEL_REPEATED:
        return f"list of {kind}"
    return f"{kind}, optional" if field.proto3_optional else kind


def _type_link(name: str) -> str:
    if name.startswith(_PACKAGE):
        return _link(name.removeprefix(_PACKAGE))
    return f"`{name.removeprefix('.')}`"


def _link(name: str) -> str:
    return f"[`{name}`](#{name.lower()})"


def _cell(text: str) -> str:
    return re.sub(r"\|", r"\\|", text)


if __name__ == "__main__":
    sys.stdout.write(reference())
