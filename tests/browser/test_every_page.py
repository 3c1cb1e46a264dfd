"""What holds for every state of every page."""

import pytest
from stepup_tests.browser.checks import (
    assert_accessible,
    assert_keys_reach_everything,
    assert_nothing_is_clipped,
    assert_well_formed,
)
from stepup_tests.browser.states import STATES
from stepup_tests.browser.visitor import NARROW, WIDE

each_state = pytest.mark.parametrize("reach", STATES.values(), ids=STATES)
each_language = pytest.mark.parametrize("language", ["en", "de", "ja"])


def unfold(page):
    page.wait_for_load_state()
    page.evaluate(
        "() => document.querySelectorAll('details').forEach((each) => { each.open = true; })"
    )


def resized(page, width):
    page.set_viewport_size({"width": width, "height": 800})


@each_state
def test_a_page_is_for_everybody(portal, visit, tenant, reach):
    """In English on a small phone; `make check-all` has the other languages and widths."""
    page = reach(portal, visit(), tenant)
    unfold(page)
    assert_accessible(page)
    assert_nothing_is_clipped(page)
    assert_well_formed(page, "en")
    assert_keys_reach_everything(page)


@pytest.mark.slow
@each_language
@each_state
def test_a_page_is_for_everybody_in_each_language(portal, visit, tenant, reach, language):
    page = reach(portal, visit(language=language), tenant)
    unfold(page)
    for width in (WIDE, NARROW):
        resized(page, width)
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            assert_accessible(page)
        assert_nothing_is_clipped(page)
        assert_well_formed(page, language)
        assert_keys_reach_everything(page)


@pytest.mark.slow
@each_language
@each_state
def test_a_page_needs_no_scripts(portal, visit, tenant, reach, language):
    page = reach(portal, visit(language=language, scripts=False), tenant)
    unfold(page)
    for width in (WIDE, NARROW):
        resized(page, width)
        assert_nothing_is_clipped(page)
        assert_well_formed(page, language)
        assert_keys_reach_everything(page)
