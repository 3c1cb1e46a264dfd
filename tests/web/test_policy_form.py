"""From the form of the panel to a policy, and to the message of an update."""

from datetime import UTC, datetime

import pytest

from stepup.v1 import policy_service_pb2 as pb
from stepup.web.forms import Form
from stepup.web.policy_form import ages_offered, entries_of, read_form
from stepup.web.policy_values import PolicyValues, fields_that_differ, policy_of, values_of
from stepup.web.texts import texts_of

BERLIN = texts_of(["en"], "Europe/Berlin")
NOW = datetime(2026, 10, 20, 12, 0, tzinfo=UTC)
SAVED = PolicyValues(
    True, {"r.a": 900, "r.b": 10}, "Acme", datetime(2026, 10, 22, 8, 30, 59, 5, UTC)
)
CATALOGUE = {"r.a", "r.b", "r.c"}


def read(saved=SAVED, **fields):
    pairs = {
        "enabled": "yes",
        "operation": ["r.a", "r.b"],
        "age.r.a": "900",
        "age.r.b": "10",
        "issuer": "Acme",
        "enroll_by": "2026-10-22T10:30",
        **{name.replace("__", "."): value for name, value in fields.items()},
    }
    flat = [
        (name, each)
        for name, value in pairs.items()
        for each in (value if isinstance(value, list) else [value])
    ]
    return read_form(Form(flat), saved, CATALOGUE, NOW, BERLIN)


def test_an_unchanged_form_is_the_saved_policy():
    assert read().values == SAVED
    assert entries_of(SAVED, BERLIN.zone).enroll_by == "2026-10-22T10:30"


def test_the_whole_selection_counts():
    entries = read(operation=["r.c"], age__r__c="0", enabled="", issuer="  ", enroll_by="")
    assert not entries.errors
    assert entries.values == PolicyValues(False, {"r.c": 0}, "", None)


@pytest.mark.parametrize("age", ["29", "901", "-1", "1e2", "", "10", "\u0663\u0660", "x" * 999])
def test_an_age_out_of_range_is_wrong(age):
    assert set(read(age__r__a=age).errors) == {"age.r.a"}


@pytest.mark.parametrize("age", ["30", "45", "900", "0"])
def test_an_age_within_the_range_is_right(age):
    assert read(age__r__a=age).values.ages["r.a"] == int(age)


def test_an_operation_that_is_not_in_the_catalogue_is_wrong():
    assert set(read(operation=["r.a", "account.sign_in"]).errors) == {"operations"}


@pytest.mark.parametrize("issuer", ["a:b", "\u00e4" * 65])
def test_a_name_that_apps_cannot_show_is_wrong(issuer):
    assert set(read(issuer=issuer).errors) == {"issuer"}


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("2026-10-25T01:30", datetime(2026, 10, 24, 23, 30, tzinfo=UTC)),
        ("2026-10-25T02:30", datetime(2026, 10, 25, 0, 30, tzinfo=UTC)),  # the first of two
        ("2026-10-25T03:30:15", datetime(2026, 10, 25, 2, 30, 15, tzinfo=UTC)),
        ("2026-11-19 13:00", datetime(2026, 11, 19, 12, 0, tzinfo=UTC)),  # 30 days
    ],
)
def test_a_time_is_of_the_zone_of_the_person(text, instant):
    assert read(enroll_by=text).values.enroll_by == instant


@pytest.mark.parametrize(
    "text",
    [
        *("2026-10-20T14:00", "2026-10-01T00:00", "2026-11-19T13:01", "9999-12-31T23:59"),
        *("0001-01-01T00:00", "2026-02-30T10:00", "tomorrow", "2026-10-22T10:30Z", "2026-10-22"),
    ],
)
def test_a_time_that_is_past_or_late_or_none_is_wrong(text):
    entries = read(enroll_by=text)
    assert set(entries.errors) == {"enroll_by"}
    assert entries.enroll_by == text


def test_a_time_that_the_clock_skips_is_wrong():
    now = datetime(2026, 3, 20, tzinfo=UTC)
    form = Form([("enroll_by", "2026-03-29T02:30")])
    assert set(read_form(form, PolicyValues(), (), now, BERLIN).errors) == {"enroll_by"}


def test_an_age_that_only_the_api_sets_is_offered_too():
    assert ages_offered(45) == [900, 600, 300, 180, 120, 60, 45, 30, 0]


def test_the_message_of_an_update_has_the_values():
    message = policy_of(SAVED, "e1")
    assert values_of(message) == SAVED
    assert message.etag == "e1"
    assert not message.operations[0].HasField("max_age")
    every_time = policy_of(PolicyValues(ages={"r.a": 0}), "e1").operations[0]
    assert every_time == pb.SelectedOperation(operation="r.a", every_time=True)


def test_only_fields_that_differ_are_sent():
    assert fields_that_differ(SAVED, SAVED) == []
    assert fields_that_differ(SAVED, PolicyValues()) == [
        *("enabled", "operations", "issuer", "enroll_by")
    ]
