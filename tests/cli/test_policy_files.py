"""Policies as files."""

import sys
from datetime import UTC, datetime, timedelta

import pytest

from stepup.cli.policy_files import PolicyFileError, read_policy
from stepup.domain.actor import TenantId
from stepup.domain.elevation import LIFETIME
from stepup.domain.policy import EVERY_TIME, Policy, PolicyChange

ACME = TenantId("acme")
YAML = """
tenant_id: acme
enabled: true
enroll_by: 2026-03-01T12:00:00+02:00
operations:
- operation: response.run_osquery
  max_age: 300s
- operation: iam.configure_api_keys
  every_time: true
- operation: response.start_remote_shell
"""


@pytest.fixture
def file(tmp_path):
    """Writes a file; returns its path as text."""

    def file(content):
        path = tmp_path / "policy"
        path.write_text(content, "utf-8")
        return str(path)

    return file


def test_yaml_has_the_names_of_the_api(file):
    read = read_policy(file(YAML))
    assert read.tenant_id == "acme"
    assert read.change == PolicyChange(
        etag="",
        enabled=True,
        max_ages={
            "response.run_osquery": timedelta(minutes=5),
            "iam.configure_api_keys": EVERY_TIME,
            "response.start_remote_shell": LIFETIME,
        },
        enroll_by=datetime(2026, 3, 1, 10, tzinfo=UTC),
    )


def test_an_absent_field_says_nothing_and_null_removes(file):
    assert read_policy(file("{}")).change == PolicyChange("")
    removed = read_policy(file('{"issuer": null, "enroll_by": null}')).change
    assert removed == PolicyChange("", issuer="", enroll_by="")


def test_standard_input(monkeypatch):
    monkeypatch.setattr(sys.stdin, "read", lambda: '{"enabled": true}')
    assert read_policy("-").change == PolicyChange("", enabled=True)


def test_a_file_that_cannot_be_read(tmp_path):
    with pytest.raises(PolicyFileError, match=r"missing\.yaml: No such file"):
        read_policy(str(tmp_path / "missing.yaml"))


def test_a_whole_policy_needs_no_stored_one(file):
    read = read_policy(file('{"enabled": true, "operations": [{"operation": "a.b"}]}'))
    assert read.whole_policy(ACME) == Policy(ACME, enabled=True, max_ages={"a.b": LIFETIME})


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ('{"operations": []}', "enabled: is required"),
        ('{"enabled": true}', "operations: is required"),
        ('{"tenant_id": "globex", "enabled": true, "operations": []}', "is globex, and not acme"),
    ],
)
def test_a_whole_policy_lacks_nothing_and_is_of_the_tenant(file, content, problem):
    with pytest.raises(PolicyFileError, match=problem):
        read_policy(file(content)).whole_policy(ACME)


def test_without_the_extra_json_is_read_and_yaml_says_what_is_missing(file, monkeypatch):
    monkeypatch.setitem(sys.modules, "yaml", None)
    assert read_policy(file('{"enabled": true}')).change.enabled is True
    with pytest.raises(PolicyFileError, match="YAML needs the extra `analysis`"):
        read_policy(file(YAML))


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("[]", "policy: must be an object"),
        ("{", "Expecting"),
        ("a: [", "neither JSON nor YAML"),
        (
            "enabled: true\nissuer: Acme: x",
            "YAML: line 2, column 13: mapping values are not allowed",
        ),
        ("issuer: \0", "YAML: unacceptable character #x0000"),
        (" \n", ": is empty"),
        ("[" * 100_000, "nested too deeply"),
        ('{"a": ' * 100_000, "nested too deeply"),
        ('{"enabled": false, "enabled": true}', "has the name 'enabled' twice in one object"),
        ("enabled: false\nenabled: true", "has the name 'enabled' twice in one object"),
        ('{"operations": [{"max_age": "1s", "max_age": "2s"}]}', "'max_age' twice"),
        ("operations: [{max_age: 1s, 'max_age': 2s}]", "'max_age' twice"),
        ("issuer: &a x\ntenant_id: *a", "has an alias of YAML"),
        ("a: &a {b: c}\n<<: *a", "has an alias of YAML"),
        ('{"issuer": [1]}', "issuer: must be a string, and is a list"),
        ('{"enabled": {"a": 1}}', "enabled: must be true or false, and is an object"),
        ('{"enroll_by": "0001-01-01T00:00:00+14:00"}', "enroll_by: is out of range"),
        ("enroll_by: 0001-01-01T00:00:00+14:00", "out of range"),
        ('{"enable": true}', "policy: has no field 'enable'"),
        ('{"enabled": "yes"}', "enabled: must be true or false"),
        ('{"issuer": "a:b"}', "issuer: must have no colon"),
        ('{"operations": {}}', "operations: must be a list"),
        ('{"operations": [{"operation": "x"}]}', "operations[0].operation: must have the form"),
        (
            '{"operations": [{"operation": "a.b", "max_age": 300}]}',
            'operations[0].max_age: must be a string with a unit, such as "300s"',
        ),
        ('{"operations": [{"operation": "a.b", "max_age": "1h"}]}', "operations[0].max_age: must"),
        ('{"operations": [{"operation": "a.b"}, {"operation": "a.b"}]}', "is selected twice"),
        (
            '{"operations": [{"operation": "a.b", "max_age": "60s", "every_time": true}]}',
            "operations[0].max_age: must be absent with every_time",
        ),
    ],
)
def test_a_file_that_is_no_policy_is_refused_by_field(file, content, problem):
    with pytest.raises(PolicyFileError) as refused:
        read_policy(file(content))
    assert problem in str(refused.value)
    assert str(refused.value).startswith(file(content))
    assert "\n" not in str(refused.value)
