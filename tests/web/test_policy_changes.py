"""The differences of policies in words; what weakens is what the core says weakens."""

import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from stepup.domain.actor import TenantId
from stepup.domain.operations import OperationId
from stepup.domain.policy import Policy
from stepup.web.policy_changes import changes_between, digest_of
from stepup.web.policy_values import PolicyValues
from stepup.web.texts import texts_of

ENGLISH = texts_of(["en"])
TITLES = {"r.b": "Bravo", "r.a": "Alpha <i>"}
LATER = datetime(2026, 12, 1, 12, tzinfo=UTC)
BASE = PolicyValues(True, {"r.a": 300}, "Acme", LATER)

SHORTER = "Shorter: Alpha &lt;i&gt; needs %s, instead of a code that is at most 5 minutes old."
LONGER = SHORTER.replace("Shorter", "Longer")


def texts(after, before=BASE):
    return [
        (str(each.text).replace("<bdi>", "").replace("</bdi>", ""), each.weakens)
        for each in changes_between(ENGLISH, TITLES, before, after)
    ]


@pytest.mark.parametrize(
    ("after", "text", "weakens"),
    [
        (replace(BASE, enabled=False), "MFA is turned off for your business.", True),
        (replace(BASE, ages={}), "Removed: Alpha &lt;i&gt; needs no code.", True),
        (
            replace(BASE, ages={"r.a": 300, "r.b": 90}),
            "Added: Bravo needs a code that is at most 90 seconds old.",
            False,
        ),
        (
            replace(BASE, ages={"r.a": 60}),
            SHORTER % "a code that is at most 1 minute old",
            False,
        ),
        (
            replace(BASE, ages={"r.a": 900}),
            LONGER % "a code that is at most 15 minutes old",
            True,
        ),
        (
            replace(BASE, ages={"r.a": 0}),
            SHORTER % "a code for each action",
            False,
        ),
        (
            replace(BASE, issuer=""),
            "Name in authenticator apps: the default name, instead of Acme.",
            False,
        ),
    ],
)
def test_a_change_is_a_sentence(after, text, weakens):
    assert texts(after) == [(text, weakens)]


def test_leaving_a_code_for_each_action_weakens():
    before = replace(BASE, ages={"r.a": 0})
    (change,) = texts(replace(BASE, ages={"r.a": 30}), before)
    assert change[0].startswith("Longer:")
    assert change[1]


@pytest.mark.parametrize(
    ("before", "after", "words", "weakens"),
    [
        (None, LATER, "get time", True),
        (LATER, None, "no more time", False),
        (LATER, LATER + timedelta(days=1), "more time", True),
        (LATER, LATER - timedelta(days=1), "less time", False),
    ],
)
def test_more_time_to_set_up_weakens_a_policy_that_is_on(before, after, words, weakens):
    (change,) = texts(replace(BASE, enroll_by=after), replace(BASE, enroll_by=before))
    assert words in change[0]
    assert change[1] == weakens


def test_changes_come_in_the_order_of_the_panel():
    after = PolicyValues(False, {"r.b": 30, "x.y": 30}, "Other", None)
    settings = [str(each.setting) for each in changes_between(ENGLISH, TITLES, BASE, after)]
    assert settings == [
        *("MFA", "<bdi>Bravo</bdi>", "<bdi>Alpha &lt;i&gt;</bdi>", "<bdi>x.y</bdi>"),
        *("Name in authenticator apps", "Time to set up"),
    ]


def test_equal_policies_differ_in_nothing():
    assert not changes_between(ENGLISH, TITLES, BASE, BASE)


def test_other_changes_have_another_digest():
    some = changes_between(ENGLISH, TITLES, BASE, PolicyValues())
    assert digest_of(some) != digest_of(some[1:])


def test_what_weakens_is_what_the_core_says():
    chance = random.Random(17)  # noqa: S311  # no secret

    def drawn():
        ages = {
            f"r.{name}": chance.choice([0, 30, 300, 900]) for name in "ab" if chance.random() < 0.7
        }
        enroll_by = chance.choice([None, LATER, LATER + timedelta(days=1)])
        return PolicyValues(chance.random() < 0.7, ages, "", enroll_by)

    for _ in range(500):
        before, after = drawn(), drawn()
        found = [each for each in changes_between(ENGLISH, TITLES, before, after) if each.weakens]
        assert len(found) == len(_domain(before).weakenings(_domain(after))), (before, after)


def _domain(values):
    return Policy(
        TenantId("acme"),
        values.enabled,
        {OperationId(each): timedelta(seconds=age) for each, age in values.ages.items()},
        enroll_by=values.enroll_by,
    )
