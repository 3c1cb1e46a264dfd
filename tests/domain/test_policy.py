from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest

from stepup.domain.actor import TenantId
from stepup.domain.elevation import LIFETIME
from stepup.domain.errors import InvalidValueError
from stepup.domain.operations import OperationId
from stepup.domain.policy import EVERY_TIME, LONGEST_GRACE, Policy, checked_max_age
from stepup.domain.totp import Label

OSQUERY = OperationId("response.run_osquery")
ACCESS = OperationId("iam.configure_access")
FIVE_MINUTES = timedelta(minutes=5)
SECOND = timedelta(seconds=1)
NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
DAY = timedelta(days=1)
MICROSECOND = timedelta(microseconds=1)
POLICY = Policy(TenantId("acme"), enabled=True, max_ages={OSQUERY: FIVE_MINUTES}, version=7)


@pytest.mark.parametrize("value", [SECOND, FIVE_MINUTES, timedelta(minutes=15)])
def test_a_max_age_has_1_second_to_15_minutes(value):
    assert checked_max_age(value) == value


@pytest.mark.parametrize(
    "value",
    [
        timedelta(),
        -SECOND,
        timedelta(minutes=15) + SECOND,
        SECOND + timedelta(microseconds=1),
        timedelta(milliseconds=1500),
        timedelta(days=1),
    ],
)
def test_another_max_age_is_refused(value):
    with pytest.raises(InvalidValueError, match=r"^must be whole seconds"):
        checked_max_age(value)


def test_a_tenant_that_never_set_a_policy_has_one_that_is_off_and_selects_nothing():
    assert Policy(TenantId("acme")) == Policy(
        TenantId("acme"), enabled=False, max_ages={}, version=0, updated_at=None
    )


@pytest.mark.parametrize(
    "other",
    [
        {"enabled": not POLICY.enabled},
        {"max_ages": {}},
        {"issuer": Label("Acme")},
        {"enroll_by": NOW},
    ],
)
def test_s28_a_version_that_was_given_to_another_policy_has_another_etag(other):
    """A fail-over lost it, and it was given again, at the same instant."""
    assert replace(POLICY, **other).etag != POLICY.etag


def test_an_etag_stays_what_it_is_in_every_time_zone():
    at = datetime(2026, 1, 1, tzinfo=UTC)
    changed = replace(POLICY, updated_at=at)
    elsewhere = replace(POLICY, updated_at=at.astimezone(timezone(timedelta(hours=2))))
    assert changed.etag == elsewhere.etag == "3417de24e35f4aef"


@pytest.mark.parametrize(
    "other",
    [
        {"version": 8},
        {"version": 70},
        {"tenant_id": TenantId("umbrella")},
        {"tenant_id": TenantId("acme1")},
        {"updated_at": datetime(2026, 1, 1, tzinfo=UTC)},
    ],
)
def test_every_version_of_every_tenant_has_its_own_etag(other):
    assert replace(POLICY, **other).etag != POLICY.etag


def test_all_weakenings_are_told_at_once():
    before = replace(POLICY, max_ages={OSQUERY: FIVE_MINUTES, ACCESS: FIVE_MINUTES})
    after = Policy(TenantId("acme"), enabled=False, max_ages={ACCESS: timedelta(minutes=6)})

    assert before.weakenings(after) == [
        "MFA is disabled",
        "response.run_osquery is deselected",
        "the max_age of iam.configure_access is lengthened",
    ]


@pytest.mark.parametrize("after", [SECOND, FIVE_MINUTES, LIFETIME])
def test_a_code_no_longer_asked_for_every_time_is_a_weakening(after):
    before = replace(POLICY, max_ages={OSQUERY: EVERY_TIME})

    assert before.weakenings(replace(POLICY, max_ages={OSQUERY: after})) == [
        "response.run_osquery no longer needs a code every time"
    ]


def test_every_time_is_no_max_age_that_is_too_short():
    assert POLICY.too_short(replace(POLICY, max_ages={OSQUERY: EVERY_TIME})) == []


def test_deselecting_is_a_weakening_while_the_policy_is_off_too():
    off = replace(POLICY, enabled=False)

    assert off.weakenings(replace(off, max_ages={})) == ["response.run_osquery is deselected"]


def test_enabling_does_not_make_up_for_a_weakening():
    off = replace(POLICY, enabled=False)

    assert off.weakenings(replace(POLICY, max_ages={})) == ["response.run_osquery is deselected"]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param(POLICY, POLICY, id="no change"),
        pytest.param(replace(POLICY, enabled=False), POLICY, id="enabling"),
        pytest.param(
            replace(POLICY, enabled=False), replace(POLICY, enabled=False), id="staying off"
        ),
        pytest.param(
            POLICY,
            replace(POLICY, max_ages={OSQUERY: FIVE_MINUTES, ACCESS: FIVE_MINUTES}),
            id="selecting one more",
        ),
        pytest.param(
            POLICY, replace(POLICY, max_ages={OSQUERY: FIVE_MINUTES - SECOND}), id="shortening"
        ),
        pytest.param(POLICY, replace(POLICY, issuer=Label("Acme")), id="an issuer"),
        pytest.param(
            POLICY, replace(POLICY, max_ages={OSQUERY: EVERY_TIME}), id="a code every time"
        ),
        pytest.param(
            replace(POLICY, max_ages={OSQUERY: EVERY_TIME}),
            replace(POLICY, max_ages={OSQUERY: EVERY_TIME}),
            id="still a code every time",
        ),
    ],
)
def test_what_strengthens_is_no_weakening(before, after):
    assert before.weakenings(after) == []


OFF = replace(POLICY, enabled=False)


def until(policy, enroll_by):
    return replace(policy, enroll_by=enroll_by)


@pytest.mark.parametrize(
    ("before", "after", "weakening"),
    [
        pytest.param(POLICY, until(POLICY, NOW), "enroll_by is set", id="set"),
        pytest.param(
            until(POLICY, NOW),
            until(POLICY, NOW + MICROSECOND),
            "enroll_by is moved to a later time",
            id="later",
        ),
    ],
)
def test_time_to_enrol_is_a_weakening_of_an_enabled_policy(before, after, weakening):
    assert before.weakenings(after) == [weakening]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param(OFF, until(POLICY, NOW), id="enabling with it"),
        pytest.param(until(OFF, NOW), until(POLICY, NOW + DAY), id="enabling with a later one"),
        pytest.param(OFF, until(OFF, NOW), id="set while disabled"),
        pytest.param(until(POLICY, NOW), POLICY, id="removed"),
        pytest.param(until(POLICY, NOW), until(POLICY, NOW - MICROSECOND), id="earlier"),
        pytest.param(until(POLICY, NOW), until(POLICY, NOW), id="unchanged"),
    ],
)
def test_less_time_to_enrol_is_no_weakening(before, after):
    assert before.weakenings(after) == []


def test_disabling_is_the_only_weakening_of_a_change_that_disables_and_gives_time_to_enrol():
    assert POLICY.weakenings(until(OFF, NOW + DAY)) == ["MFA is disabled"]


@pytest.mark.parametrize(
    ("enroll_by", "now", "expected"),
    [
        (None, NOW, False),
        (NOW, NOW - MICROSECOND, True),
        (NOW, NOW, False),
        (NOW, NOW + MICROSECOND, False),
    ],
)
def test_the_time_to_enrol_ends_at_enroll_by(enroll_by, now, expected):
    assert until(POLICY, enroll_by).in_grace(now) is expected
    assert not until(OFF, enroll_by).in_grace(now)


ENABLED = replace(POLICY, enabled_at=NOW - 10 * DAY, updated_at=NOW - 2 * DAY)
OF_OLDER_SERVER = replace(ENABLED, enabled_at=None)


@pytest.mark.parametrize(
    ("before", "after", "latest"),
    [
        pytest.param(OFF, POLICY, NOW + LONGEST_GRACE, id="enabling"),
        pytest.param(OFF, OFF, NOW + LONGEST_GRACE, id="staying off"),
        pytest.param(ENABLED, ENABLED, NOW + 20 * DAY, id="enabled ten days ago"),
        pytest.param(
            replace(ENABLED, enabled=False), ENABLED, NOW + LONGEST_GRACE, id="enabled again"
        ),
        pytest.param(ENABLED, replace(ENABLED, enabled=False), NOW + 20 * DAY, id="disabling"),
        pytest.param(OF_OLDER_SERVER, POLICY, NOW + 28 * DAY, id="enabled by an older server"),
    ],
)
def test_enroll_by_is_at_most_30_days_after_the_latest_enabling(before, after, latest):
    assert before.problem_of_enroll_by(until(after, latest), NOW) is None
    problem = before.problem_of_enroll_by(until(after, latest + MICROSECOND), NOW)
    assert problem == f"must be at most 30 days after the policy was enabled: {latest:%FT%TZ}"


def test_a_policy_that_is_enabled_without_any_instant_counts_from_now():
    assert POLICY.problem_of_enroll_by(until(POLICY, NOW + LONGEST_GRACE), NOW) is None


@pytest.mark.parametrize("past", [NOW, NOW - MICROSECOND])
def test_a_new_enroll_by_is_in_the_future(past):
    problem = POLICY.problem_of_enroll_by(until(POLICY, past), NOW)
    assert problem == "must be in the future; leave it out to end the time to enrol"
    assert POLICY.problem_of_enroll_by(until(POLICY, NOW + MICROSECOND), NOW) is None


@pytest.mark.parametrize("enroll_by", [None, NOW - 400 * DAY, NOW + 400 * DAY])
def test_an_enroll_by_that_stays_or_goes_is_no_problem(enroll_by):
    before = until(POLICY, enroll_by)
    assert before.problem_of_enroll_by(replace(before, issuer=Label("Acme")), NOW) is None
    assert before.problem_of_enroll_by(until(before, None), NOW) is None


@pytest.mark.parametrize(
    ("before", "after", "enabled_at"),
    [
        pytest.param(OFF, OFF, None, id="never enabled"),
        pytest.param(OFF, POLICY, NOW, id="enabled"),
        pytest.param(replace(ENABLED, enabled=False), POLICY, NOW, id="enabled again"),
        pytest.param(ENABLED, POLICY, ENABLED.enabled_at, id="still enabled"),
        pytest.param(ENABLED, OFF, ENABLED.enabled_at, id="disabled"),
        pytest.param(
            OF_OLDER_SERVER, POLICY, OF_OLDER_SERVER.updated_at, id="enabled by an older server"
        ),
    ],
)
def test_a_change_keeps_when_the_policy_was_last_enabled(before, after, enabled_at):
    changed = before.changed(replace(after, max_ages={ACCESS: FIVE_MINUTES}), NOW)
    assert changed == replace(
        after,
        max_ages={ACCESS: FIVE_MINUTES},
        version=before.version + 1,
        updated_at=NOW,
        enabled_at=enabled_at,
    )


def test_the_etag_is_the_same_for_the_same_enroll_by_in_every_time_zone():
    elsewhere = NOW.astimezone(timezone(timedelta(hours=2)))
    assert until(POLICY, NOW).etag == until(POLICY, elsewhere).etag
    assert until(POLICY, NOW).etag != until(POLICY, NOW + MICROSECOND).etag


def test_s28_when_a_policy_was_enabled_is_part_of_its_identity():
    """Two policies that differ in nothing else allow different times to enrol."""
    assert ENABLED != OF_OLDER_SERVER
