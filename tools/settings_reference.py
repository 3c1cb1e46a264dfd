"""`docs/settings.md`, made from the settings classes: `python -m settings_reference`.

What a setting means is the docstring below its field. What it may be is the field's type.
"""

import ast
import inspect
import re
import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from functools import cache
from itertools import pairwise
from pathlib import Path
from textwrap import dedent, wrap
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import to_jsonable_python

from stepup.settings import Settings, WebSettings

_WIDTH = 100
_EXAMPLE = tomllib.loads("""
[storage]
data_dir = "/var/lib/stepup"
database_url = "postgresql://stepup@db/stepup?ssl=verify-full"
redis_url = "rediss://cache:6379/0?ssl_ca_certs=/etc/stepup/redis-ca.pem"
keys_file = "/etc/stepup/keys.json"
keys_variable = "STEPUP_KEYS"

[[catalogue.categories]]
id = "forensics"
title = "Forensics"

[[catalogue.operations]]
id = "forensics.dump_memory"
title = "Dump memory"

[log]
decisions = "-"

[metrics]
listen = "127.0.0.1:9464"

[probes]
listen = "0.0.0.0:9465"

[traces]
endpoint = "https://otel-collector:4317"
ca_file = "/etc/stepup/collector-ca.pem"

[portal]
public_url = "https://mfa.example.com"

[tls]
certificate = "/etc/stepup/tls.crt"
key = "/etc/stepup/tls.key"
client_ca = "/etc/stepup/clients.pem"

[[token_issuers]]
issuer = "https://kubernetes.default.svc"
audiences = ["stepup"]
jwks_file = "/etc/stepup/jwks.json"
jwks_url = "https://kubernetes.default.svc/openid/v1/jwks"
ca_file = "/var/run/secrets/kubernetes.io/serviceaccount/ca.crt"
bearer_token_file = "/var/run/secrets/kubernetes.io/serviceaccount/token"
algorithms = ["RS256", "ES256"]

[[callers]]
name = "response-actions"
title = "Response actions"
identities = [
  "spiffe://acme/ns/prod/sa/response-actions",
  "jwt:https://kubernetes.default.svc#system:serviceaccount:prod:response-actions",
]
rate = { per_second = 50, burst = 100 }
return_origins = ["https://console.example.com"]

[[callers.rules]]
methods = ["StepUpService/CheckStepUp", "StepUpService/VerifyOtp"]
tenants = ["*"]
operations = ["response.*"]
claims = ["managed_services", "timed_out_retry"]
""")
"""What the complete example has where there is no default."""
ALTERNATIVES = {("storage", "keys_variable"), ("token_issuers", "jwks_file")}
"""Not to be set together with the setting beside it: a comment in the example."""
_HEAD = """\
# Settings

This page is made by `make settings-reference` from the settings classes; `make lint` compares the
two. [Operating](operating.md) explains the subjects behind the settings.

Settings come from a TOML file (`--config` or `STEPUP_CONFIG`), from environment variables, and some
from flags (`stepup serve --help`). Flags win over variables, variables over the file, and the file
over the defaults. `stepup check-config` validates the settings for serving, names each setting that
is wrong, and shows the settings in effect.

An unknown setting is an error, in the file and in the environment; the message suggests a setting
that exists. Every variable that begins with `STEPUP_` counts as a setting. Exceptions are
`STEPUP_CLIENT_*`, `STEPUP_TEST_*`, `STEPUP_DEPLOY_TOOLS`, `STEPUP_WEB_*` (of the
[web process](#the-web-process)), the two passwords of `roles.sql`, the variable that
`storage.keys_variable` names, and the variables that Kubernetes sets for a Service whose name
begins with `stepup` (`STEPUP_SERVICE_HOST`, `STEPUP_PORT=tcp://...`).

- A *duration* is ISO 8601 text, `PT90S` or `PT1H`. In a file it may be a number of seconds.
- A *list* is a TOML array, and a *table* a TOML table. In a variable both are JSON:
  `STEPUP_CALLERS='[{"name": "soar", ...}]'`.
- A *path* must not be empty, and `~` is not expanded.
- A *secret* is text that no output shows.

A change of `[[callers]]` takes effect on
[SIGHUP](operating.md#changing-callers-while-serving), any other at the next start.
"""
_EXAMPLE_HEAD = """\
## Example

Every setting with its default, or with an example where the setting has no default.
"""
_WEB_HEAD = """\
## The web process

`stepup web` has settings of its own: from a TOML file (`--config` or `STEPUP_WEB_CONFIG`), from
variables that begin with `STEPUP_WEB_`, and some from flags. [The portal](portal.md) explains the
subjects behind the settings.
"""


@dataclass(frozen=True)
class Setting:
    """A field that has a value of its own."""

    path: tuple[str, ...]
    field: FieldInfo
    says: str
    variable: str | None

    @property
    def name(self) -> str:
        return self.path[-1]


@dataclass(frozen=True)
class Table:
    """A TOML table, or each of an array of tables."""

    path: tuple[str, ...]
    is_array: bool
    says: str
    variable: str | None
    settings: tuple[Setting, ...]

    @property
    def header(self) -> str:
        name = ".".join(self.path)
        return f"[[{name}]]" if self.is_array else f"[{name}]"


def reference() -> str:
    """The whole document."""
    sections = ("\n".join(_section(table)) for table in tables())
    return "\n".join(
        (_HEAD, *sections, f"{_EXAMPLE_HEAD}\n```toml\n{example()}```\n", _WEB_HEAD, *_of_web())
    )


def _of_web() -> Iterator[str]:
    """The sections of the web process. Its variables have a prefix of their own."""
    own = Table((), False, "", "STEPUP", tuple(_settings_of(WebSettings, (), "STEPUP")))
    _, _, *rows = _section(own)
    yield _variables_of_web(rows)
    for table in tables(WebSettings):
        yield _variables_of_web(_section(table)).replace("## `[", "### `[", 1)


def _variables_of_web(lines: Iterable[str]) -> str:
    return "\n".join(lines).replace("`STEPUP_", "`STEPUP_WEB_")


def tables(
    model: type[BaseModel] = Settings,
    path: tuple[str, ...] = (),
    variable: str | None = "STEPUP",
) -> Iterator[Table]:
    """All tables, each before those within it."""
    for name, field in model.model_fields.items():
        inner, is_array = _model_in(field.annotation)
        if inner is None:
            continue
        where = (*path, name)
        own = _joined(variable, where)
        # Only an array as a whole has a variable.
        below = None if is_array else own
        settings = tuple(_settings_of(inner, where, below))
        says = f"{inner.__doc__} {_says(model, name)}"
        if settings:
            yield Table(where, is_array, says, own, settings)
        yield from tables(inner, where, below)


def _settings_of(
    model: type[BaseModel], path: tuple[str, ...], variable: str | None
) -> Iterator[Setting]:
    """The fields of a section that have a value of their own."""
    for each, what in model.model_fields.items():
        if _model_in(what.annotation)[0] is None:
            where = (*path, each)
            yield Setting(where, what, _says(model, each), _joined(variable, where))


def example() -> str:
    """A TOML file with every setting."""
    return "\n".join("\n".join(_shown(table)) for table in tables()).lstrip() + "\n"


def _section(table: Table) -> Iterator[str]:
    yield f"## `{table.header}`\n"
    yield f"{_linked(table.says)}\n"
    if table.is_array and table.variable:
        yield f"Variable: `{table.variable}`, all of them as one list.\n"
    if table.variable and not table.is_array:
        yield "| setting | variable | is | default | |\n|---|---|---|---|---|"
    else:
        yield "| setting | is | default | |\n|---|---|---|---|"
    for setting in table.settings:
        if not setting.says:
            raise SystemExit(f"{'.'.join(setting.path)} has no docstring")
        variable = f" `{setting.variable}` |" if setting.variable else ""
        cells = (_kind(setting.field), _default(setting.field), _linked(setting.says))
        yield f"| `{setting.name}` |{variable} " + " | ".join(cells) + " |"
    yield ""


def _shown(table: Table) -> Iterator[str]:
    yield from ("", table.header)
    for setting in table.settings:
        yield from (f"# {line}" for line in wrap(_flowing(setting.says), _WIDTH - 2))
        line = f"{setting.name} = {_toml(_example_of(setting))}"
        yield f"# {line}" if setting.path in ALTERNATIVES else line


def _example_of(setting: Setting) -> Any:
    value: Any = _EXAMPLE
    for name in setting.path:
        value = value[0] if isinstance(value, list) else value
        value = value.get(name) if value is not None else None
    if value is not None:
        return value
    default = setting.field.get_default(call_default_factory=True)
    if setting.field.is_required() or default is None:
        raise SystemExit(f"_EXAMPLE has nothing for {'.'.join(setting.path)}")
    return to_jsonable_python(default)


def _toml(value: Any) -> str:
    match value:
        case bool():
            return str(value).lower()
        case str():
            return f'"{value}"'
        case list():
            line = f"[{', '.join(map(_toml, value))}]"
            lines = "".join(f"  {_toml(each)},\n" for each in value)
            return line if len(line) < _WIDTH else f"[\n{lines}]"
    return f"{value:g}"


def _default(field: FieldInfo) -> str:
    default = field.get_default(call_default_factory=True)
    if field.is_required():
        return "required"
    match default:
        case None | ():
            return "none"
        case Path() if default.is_relative_to(Path.home()):
            return f"`~/{default.relative_to(Path.home())}`"
    return f"`{_toml(to_jsonable_python(default))}`"


def _kind(field: FieldInfo) -> str:
    return ", ".join(filter(None, (_in_words(field.annotation), *map(_limit, field.metadata))))


def _in_words(kind: Any) -> str:
    arguments = [each for each in get_args(kind) if each is not type(None)]
    match get_origin(kind) or kind:
        case origin if origin is Union or origin is UnionType:
            return " or ".join(map(_in_words, arguments))
        case origin if origin is Literal:
            *others, last = (f"`{value}`" for value in arguments)
            return f"{', '.join(others)} or {last}" if others else last
        case origin if origin is Annotated:
            return _in_words(arguments[0])
        case origin if origin is tuple:
            return f"list of {_in_words(arguments[0])}"
        case type() as known if issubclass(known, Enum):
            return ", ".join(f"`{each.value}`" for each in known)
        case type() as known:
            return next(word for base, word in _WORDS.items() if issubclass(known, base))
    raise SystemExit(f"there are no words for {kind}")


_WORDS: dict[type, str] = {
    bool: "`true` or `false`",
    int: "whole number",
    float: "number",
    timedelta: "duration",
    Path: "path",
    SecretStr: "secret",
    object: "text",
}


def _limit(constraint: Any) -> str:
    for attribute, words in _LIMITS.items():
        if (value := getattr(constraint, attribute, None)) is not None:
            return f"{words} {_written(value)}"
    return ""


_LIMITS = {
    "ge": "at least",
    "gt": "more than",
    "le": "at most",
    "lt": "less than",
    "min_length": "at least of length",
    "pattern": "like",
}


def _written(value: Any) -> str:
    match value:
        case timedelta():
            return f"`{to_jsonable_python(value)}`"
        case str():
            return f"`{value}`"
    return f"{value:g}"


def _model_in(kind: Any) -> tuple[type[BaseModel] | None, bool]:
    """The section that a field holds, and whether it holds several."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return kind, False
    is_array = get_origin(kind) is tuple
    for argument in get_args(kind):
        if (inner := _model_in(argument)[0]) is not None:
            return inner, is_array
    return None, False


def _joined(variable: str | None, path: tuple[str, ...]) -> str | None:
    return None if variable is None else f"STEPUP_{'__'.join(path)}".upper()


def _says(model: type[BaseModel], name: str) -> str:
    """The docstring below a field, of the nearest class that has one."""
    for each in model.__mro__:
        if name in inspect.get_annotations(each) and (text := _docstrings(each).get(name)):
            return text
    return ""


@cache
def _docstrings(model: type) -> Mapping[str, str]:
    """The docstrings below the fields of one class, by field."""
    [definition] = ast.parse(dedent(inspect.getsource(model))).body
    assert isinstance(definition, ast.ClassDef)
    found = {}
    for statement, below in pairwise(definition.body):
        match statement, below:
            case (
                ast.AnnAssign(target=ast.Name(id=name)),
                ast.Expr(value=ast.Constant(value=str() as text)),
            ):
                found[name] = inspect.cleandoc(text)
    return found


def _linked(text: str) -> str:
    """Return the text as one line, with links from ids of security requirements to their rows."""
    return re.sub(r"\bS(\d{1,2})\b", r"[S\1](requirements.md#s\1)", _flowing(text))


def _flowing(text: str) -> str:
    return " ".join(text.split())


if __name__ == "__main__":
    sys.stdout.write(reference())
