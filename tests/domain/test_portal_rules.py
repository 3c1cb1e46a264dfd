"""The advice of `check-config` on rules for the portal (S20)."""

from dataclasses import replace

import pytest

from stepup.domain.actor import CallerId
from stepup.domain.callers import Caller, Claim, Patterns, Rule
from stepup.domain.origins import WebOrigin
from stepup.domain.portal import CREATE, INDISPENSABLE, OF_ALL_PAGES, REACHES, REDEEM, PortalPage
from stepup.domain.portal_rules import advice_on_portal

PAGES = {method for methods in REACHES.values() for method in methods} | OF_ALL_PAGES


def rule(methods, claims=(Claim.MASTER_ADMINISTRATOR,)):
    return Rule("rule", Patterns(methods), Patterns(["*"]), Patterns([]), frozenset(claims))


def caller(name, *rules, **fields):
    return Caller(CallerId(name), frozenset({f"spiffe://acme/{name}"}), rules, **fields)


WEB = caller("web", rule({REDEEM, *PAGES}), is_portal=True)
CONSOLE = caller(
    "console",
    rule({CREATE, *PAGES}),
    return_origins=frozenset({WebOrigin("https://console.example")}),
)


def advice(*callers):
    return list(advice_on_portal(callers))


def test_s20_rules_that_let_all_pages_work_need_no_advice():
    assert advice(WEB, CONSOLE, caller("soar", rule({"StepUpService/CheckStepUp"}))) == []


@pytest.mark.parametrize(
    ("page", "lacking"),
    [
        (page, each)
        for page in PortalPage
        for each in sorted(REACHES[page] - {*INDISPENSABLE[page]})
    ],
)
def test_s20_a_method_that_one_of_both_callers_lacks_is_named_with_its_page(page, lacking):
    others = PAGES - {lacking}
    words = f"lacks a rule for {lacking}: these parts of the page {page} do not work"
    assert f"web {words}" in advice(replace(WEB, rules=(rule({REDEEM, *others}),)), CONSOLE)
    assert f"console {words}" in advice(WEB, replace(CONSOLE, rules=(rule({CREATE, *others}),)))


@pytest.mark.parametrize("page", PortalPage)
def test_s20_a_page_that_opens_and_that_the_web_process_may_not_use_is_named(page):
    lacking = INDISPENSABLE[page][0]
    web = replace(WEB, rules=(rule({REDEEM, *PAGES} - {lacking}),))
    assert (
        f"console may open the page {page}, and no caller with portal = true may use it"
    ) in advice(web, CONSOLE)


def test_s16_s20_pages_for_administrators_need_the_claim_of_both():
    web = replace(WEB, rules=(rule({REDEEM, *PAGES}, claims=()),))
    assert advice(web, CONSOLE) == [
        f"console may open the page {page}, and no caller with portal = true may use it"
        for page in ("policy", "people", "events")
    ]
    # Pages that a caller cannot open are none of its pages.
    assert advice(WEB, replace(CONSOLE, rules=(rule({CREATE, *PAGES}, claims=()),))) == []


def test_s20_a_web_process_that_may_open_no_link_is_named():
    assert advice(replace(WEB, rules=(rule(PAGES),))) == [
        f"web is the web process, and has no rule for {REDEEM}: no link opens"
    ]


def test_s20_a_web_process_that_may_create_sessions_is_named():
    [words] = advice(replace(WEB, rules=(rule(["*"]),)))
    assert words.startswith(f"web is the web process: its rule for {CREATE} has no effect")


def test_s21_a_caller_that_creates_sessions_needs_an_origin():
    assert advice(WEB, replace(CONSOLE, return_origins=frozenset())) == [
        f"console has a rule for {CREATE}, and no return_origins: it can open no page of the portal"
    ]
