"""The domain opens, stats and waits for nothing, and reads no clock: values come in and go out."""

import ast
from pathlib import Path

import pytest
from stepup_tests.clock import ManualClock

import stepup.domain
from stepup.keys.file import KeyFile
from stepup.keys.following import ReloadingKeys
from stepup.keys.source import KeySource

MODULES = sorted(Path(stepup.domain.__file__).parent.rglob("*.py"))
PURE = {
    "base64",
    "binascii",
    "collections",
    "dataclasses",
    "datetime",
    "enum",
    "functools",
    "hashlib",
    "hmac",
    "ipaddress",
    "itertools",
    "json",
    "math",
    "pyotp",
    "re",
    "secrets",
    "stepup.system.loopback",
    "struct",
    "types",
    "typing",
    "urllib.parse",
    "uuid",
}
"""What the domain may import, beside itself."""
REACHES_OUT = {"open", "print", "input", "exec", "eval", "compile", "breakpoint", "__import__"}
ON_WHAT_IS_HANDED_IN = {"open", "stat", "exists", "now", "utcnow", "today", "wait", "sleep"}
"""Methods of paths, clocks and locks."""


def impurities(source):
    """What in the source of a module could read, write or wait."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names):
                modules = [alias.name for alias in names]
            case ast.ImportFrom("sys", [ast.alias("version_info")]):
                continue
            case ast.ImportFrom(module=module):
                modules = [module or "."]
            case ast.Call(ast.Name(name)) if name in REACHES_OUT:
                yield name
                continue
            case ast.Call(ast.Attribute(attr=name)) if name in ON_WHAT_IS_HANDED_IN:
                yield f".{name}()"
                continue
            case ast.AsyncFunctionDef() | ast.Await() | ast.AsyncFor() | ast.AsyncWith():
                yield "async"
                continue
            case _:
                continue
        yield from (
            module
            for module in modules
            if PURE.isdisjoint((module, module.partition(".")[0]))
            and not module.startswith("stepup.domain.")
        )


@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.stem)
def test_a_module_of_the_domain_neither_reads_nor_waits(module):
    assert list(impurities(module.read_text("utf-8"))) == []


@pytest.mark.parametrize(
    "source",
    [
        "import os",
        "from sys import stdin",
        "import urllib.request",
        "from pathlib import Path",
        "from stepup.system import clock",
        "from . import actor",
        "open('keys.json')",
        "path.stat()",
        "datetime.now(UTC)",
        "async def decide(): await store",
    ],
)
def test_what_reads_or_waits_is_found(source):
    assert list(impurities(source))


def test_the_keys_handed_to_the_domain_follow_no_file(tmp_path):
    """`receipts.check` looks keys up by ids that anybody makes up."""
    source, clock = KeySource(tmp_path / "keys.json"), ManualClock()
    source.create(KeyFile.generated(clock.now()))
    keys = ReloadingKeys(source, clock)
    for mac_keys in (keys.receipts, keys.page_tokens, keys.stored_values):
        assert type(mac_keys.keys) is dict
