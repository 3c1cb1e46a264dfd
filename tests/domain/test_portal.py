"""Portal sessions: how long they live, what they reach, and how their pages look (S20)."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from stepup_tests.people import administrator, person
from stepup_tests.portal import portal_session

from stepup.domain.elevation import CLOCK_TOLERANCE
from stepup.domain.errors import InvalidValueError
from stepup.domain.portal import (
    IDLE_LIFETIME,
    INDISPENSABLE,
    LIFETIME,
    LIFETIME_WITH_ROLE,
    OF_ALL_PAGES,
    REACHES,
    Locale,
    PortalPage,
    TimeZone,
)

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
INSTANT = timedelta(microseconds=1)


@pytest.mark.parametrize("page", PortalPage)
def test_s20_a_page_reaches_what_it_cannot_do_without(page):
    session = portal_session(NOW, page=page)
    assert all(map(session.reaches, {*INDISPENSABLE[page], *REACHES[page], *OF_ALL_PAGES}))
    assert not session.reaches("StepUpService/CheckStepUp")


@pytest.mark.parametrize(
    ("actor", "lifetime"), [(person(), LIFETIME), (administrator(), LIFETIME_WITH_ROLE)]
)
def test_s20_a_session_ends_though_it_is_used(actor, lifetime):
    session = portal_session(NOW, actor=actor)
    used = replace(session, idle_until=NOW + 2 * LIFETIME)
    assert used.expires_at == NOW + lifetime
    assert used.is_live(NOW + lifetime - INSTANT)
    assert not used.is_live(NOW + lifetime)


def test_s20_a_session_that_is_not_used_ends():
    session = portal_session(NOW)
    assert session.is_live(NOW + IDLE_LIFETIME - INSTANT)
    assert not session.is_live(NOW + IDLE_LIFETIME)


def test_s20_a_session_of_the_future_is_not_live():
    session = portal_session(NOW)
    assert session.is_live(NOW - CLOCK_TOLERANCE)
    assert not session.is_live(NOW - CLOCK_TOLERANCE - INSTANT)


@pytest.mark.parametrize("tag", ["de", "de-CH", "zh-Hant-TW", "sr-Latn-RS"])
def test_a_locale_is_a_language_tag(tag):
    assert Locale(tag) == tag


@pytest.mark.parametrize("text", ["", "d", "de_CH", "de-", "-de", "de CH", "de\n", "x" * 36, "dé"])
def test_a_locale_is_nothing_else(text):
    with pytest.raises(InvalidValueError, match="BCP 47"):
        Locale(text)


@pytest.mark.parametrize("name", ["UTC", "Europe/Berlin", "America/Argentina/Buenos_Aires"])
def test_a_time_zone_is_a_name(name):
    assert TimeZone(name) == name


@pytest.mark.parametrize("text", ["", "/etc/passwd", "../UTC", "Europe/", "a b", "UTC\n", "x" * 65])
def test_a_time_zone_is_nothing_else(text):
    with pytest.raises(InvalidValueError, match="IANA"):
        TimeZone(text)
