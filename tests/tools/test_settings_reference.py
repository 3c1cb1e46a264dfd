"""What `docs/settings.md` says of the settings: the rest of it is compared in `make lint`."""

import json
import os
import re
import tomllib

import pytest

from stepup.settings import in_effect, load
from tools import settings_reference

EXAMPLE = settings_reference.example()
VARIABLES = {
    setting.variable: setting.path
    for table in settings_reference.tables()
    for setting in table.settings
    if setting.variable and setting.path not in settings_reference.ALTERNATIVES
} | {
    table.variable: table.path
    for table in settings_reference.tables()
    if table.is_array and table.variable
}


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch):
    for name in os.environ:
        if name.upper().startswith("STEPUP_"):
            monkeypatch.delenv(name)


@pytest.fixture
def loaded(tmp_path):
    """What is in effect with a file of some text."""

    def loaded(text):
        file = tmp_path / "stepup.toml"
        file.write_text(text)
        return dict(in_effect(load(file)))

    return loaded


def test_the_example_loads_and_has_every_setting(loaded):
    effective = loaded(EXAMPLE)
    unset = {name.replace(".0", "") for name, value in effective.items() if value in (None, [], {})}
    # What cannot be set beside another setting is a comment.
    assert unset == {".".join(path) for path in settings_reference.ALTERNATIVES}
    shown = re.findall(r"^# (\w+) = ", EXAMPLE, re.MULTILINE)
    assert sorted(shown) == sorted(path[-1] for path in settings_reference.ALTERNATIVES)


@pytest.mark.parametrize("variable", VARIABLES)
def test_each_variable_sets_what_the_file_sets(loaded, monkeypatch, variable):
    document = tomllib.loads(EXAMPLE)
    *parents, name = VARIABLES[variable]
    table = document
    for parent in parents:
        table = table[parent]
    wanted = loaded(EXAMPLE)
    value = table.pop(name)
    monkeypatch.setenv(variable, value if isinstance(value, str) else json.dumps(value))
    assert loaded("".join(_toml(document))) == wanted


def _toml(document):
    """A document as TOML."""
    for section, fields in document.items():
        is_array = isinstance(fields, list)
        for entry in fields if is_array else [fields]:
            yield f"[[{section}]]\n" if is_array else f"[{section}]\n"
            yield from (f"{name} = {_inline(value)}\n" for name, value in entry.items())


def _inline(value):
    match value:
        case dict():
            return "{" + ", ".join(f"{n} = {_inline(v)}" for n, v in value.items()) + "}"
        case list():
            return "[" + ", ".join(map(_inline, value)) + "]"
    return json.dumps(value)
