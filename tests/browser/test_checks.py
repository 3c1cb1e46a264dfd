"""The checks of pages find what they look for."""

import pytest
from stepup_tests.browser.checks import (
    assert_accessible,
    assert_keys_reach_everything,
    assert_nothing_is_clipped,
    assert_well_formed,
)
from stepup_tests.browser.chromium import chromium
from stepup_tests.browser.visitor import visiting

ORIGIN = "http://127.0.0.1:9"
PAGE = (
    "<!doctype html><html lang=en><title>A page</title><main><h1>A page</h1>"
    "<p>日本語</p><label>Code <input name=code></label> <button>Go on</button>{}</main>"
)
BAD = {
    "a field without a label": (assert_accessible, "<input name=other>"),
    "a small target": (
        assert_accessible,
        "<style>a { font-size: 5px; display: block }</style><a href=/a>a</a><a href=/b>b</a>",
    ),
    "pale text": (assert_accessible, "<p style='color: #ccc'>pale</p>"),
    "a wide page": (assert_nothing_is_clipped, "<p style='width: 400px'>wide</p>"),
    "text left of the window": (
        assert_nothing_is_clipped,
        "<p style='position: absolute; left: -9px'>far</p>",
    ),
    "text that is cut": (
        assert_nothing_is_clipped,
        "<p style='width: 9px; overflow: hidden'>Authentifizierung</p>",
    ),
    "a button that is too small": (
        assert_nothing_is_clipped,
        "<button style='width: 40px; white-space: nowrap'>Bestätigen</button>",
    ),
    "a control that the keyboard does not reach": (
        assert_keys_reach_everything,
        "<a href=/x onfocus='this.blur()'>x</a>",
    ),
    "a focus that is not seen": (
        assert_keys_reach_everything,
        "<a href=/x style='outline: none'>x</a>",
    ),
    "two headings": (lambda page: assert_well_formed(page, "en"), "<h1>Another</h1>"),
}


@pytest.fixture
def page(browser):
    with visiting(browser, ORIGIN) as visitor:
        yield visitor.new_tab()


def test_a_good_page_passes(page):
    page.set_content(PAGE.format(""))
    assert_accessible(page)
    assert_nothing_is_clipped(page)
    assert_well_formed(page, "en")
    assert_keys_reach_everything(page)


@pytest.mark.parametrize(("check", "fault"), BAD.values(), ids=BAD)
def test_a_bad_page_fails(page, check, fault):
    page.set_content(PAGE.format(fault))
    with pytest.raises(AssertionError):
        check(page)


@pytest.mark.parametrize(
    ("script", "fault"),
    [
        ("console.error('no')", "console: no"),
        ("setTimeout(() => { throw new Error('no') })", "exception: no"),
        ("fetch('http://127.0.0.1:1/x').catch(() => {})", "a request to another origin"),
    ],
    ids=["console", "exception", "origin"],
)
def test_a_fault_of_a_script_is_noted(browser, script, fault):
    with visiting(browser, ORIGIN) as visitor:
        page = visitor.new_tab()
        page.evaluate(f"() => {{ {script} }}")
        page.wait_for_timeout(50)
        assert any(noted.startswith(fault) for noted in visitor.faults), visitor.faults


@pytest.mark.slow
def test_without_a_japanese_font_the_check_of_clipped_text_fails(tmp_path):
    fonts = tmp_path / "fonts.conf"
    fonts.write_text("<fontconfig><dir>/usr/share/fonts/truetype/dejavu</dir></fontconfig>")
    with chromium(fonts) as browser, visiting(browser, ORIGIN) as visitor:
        page = visitor.new_tab()
        page.set_content(PAGE.format(""))
        with pytest.raises(AssertionError, match="Japanese"):
            assert_nothing_is_clipped(page)
