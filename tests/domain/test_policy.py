from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest

from stepup.domain.actor import TenantId
from stepup.domain.elevation import LIFETIME
from stepup.domain.errors import InvalidValueError
from stepup.domain.operations import OperationId
from stepup.domain.policy import EVERY_TIME, Policy, checked_max_age
from stepup.domain.totp import Label

OSQUERY = OperationId("response.run_osquery")
ACCESS = OperationId("iam.configure_access")
FIVE_MINUTES = timedelta(minutes=5)
SECOND = timedelta(seconds=1)
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
    "other", [{"enabled": not POLICY.enabled}, {"max_ages": {}}, {"issuer": Label("Acme")}]
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
