"""The decision as data: every case of the YAML files beside this one is one test of `decide`.

A case gives the facts that could be looked up and expects the whole verdict, with the facts that
the rules asked for, in order. A fact that a case does not give must not be asked for; `null` gives
the fact that there is none.
"""

import re
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from uuid import UUID

import pytest
import yaml
from stepup_tests.challenges import challenge_of
from stepup_tests.people import person

from stepup.domain.actor import (
    AccountType,
    Actor,
    OpaqueId,
    PlaybookRun,
    PlaybookTrigger,
    RetryReceipt,
    Role,
    SessionId,
    Team,
    TenantId,
    UserId,
)
from stepup.domain.decision import (
    Decision,
    Effect,
    Fact,
    Reason,
    Verdict,
    decide,
)
from stepup.domain.elevation import LIFETIME, Elevation
from stepup.domain.explained_rules import Explained
from stepup.domain.item_use import ChallengeRejection, RefusedChallenge, UsedItem
from stepup.domain.operations import SHIPPED, Category, Operation, OperationId
from stepup.domain.policy import EVERY_TIME, Policy
from stepup.domain.receipts import (
    Origin,
    Receipt,
    ReceiptRejection,
    Redeemed,
    Redemption,
    RefusedReceipt,
)
from stepup.domain.text import Title

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
CHALLENGE_ID = UUID(int=3)
REDEEMED = Redeemed(Receipt(UUID(int=1), Origin(NOW, NOW, bytes(16))), Redemption(UUID(int=2), NOW))
USED_ITEM = UsedItem(challenge_of(person()), Redemption(UUID(int=2), NOW))

CASE = {"description", "given", "expect"}
GIVEN = {"operation", "policy"}
GIVEN_OPTIONAL = {
    "operator_adds",
    "actor",
    "elevation",
    "enrolled",
    "account_mfa",
    "ever_enrolled",
    "receipt",
    "challenge",
}
FLAGS = ("enrolled", "account_mfa", "ever_enrolled")
ANSWER = {"decision", "reason", "asks"}
ANSWER_OPTIONAL = {
    "elevation",
    "max_age",
    "receipt_rejection",
    "challenge_rejection",
    "needs_challenge",
    "earns_receipt",
    "enroll_by",
    "explains",
}
CONTEXT = {
    "account_type": AccountType,
    "role": Role,
    "team": Team,
    "playbook_run": PlaybookTrigger,
}


class StrictLoader(yaml.SafeLoader):
    """YAML in which a key that stands twice is an error."""

    def construct_mapping(self, node, deep=False):
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        if len(keys) != len(set(keys)):
            raise ValueError(f"a key stands twice in {keys}")
        return super().construct_mapping(node, deep)


def duration(text):
    """`14m59.999999s`, `5m`, `-5s`: as an operator would write it."""
    form = r"(?P<sign>-?)(?:(?P<minutes>\d+)m)?(?:(?P<seconds>\d+)(?:\.(?P<micro>\d{6}))?s)?"
    found = re.fullmatch(form, text)
    if not found or not (found["minutes"] or found["seconds"]):
        raise ValueError(f"{text!r} is no duration")
    value = timedelta(
        minutes=int(found["minutes"] or 0),
        seconds=int(found["seconds"] or 0),
        microseconds=int(found["micro"] or 0),
    )
    return -value if found["sign"] else value


def keys(mapping, required, optional=frozenset()):
    if not isinstance(mapping, dict):
        raise TypeError(f"{mapping!r} is no mapping")
    if missing := required - mapping.keys():
        raise ValueError(f"missing {sorted(missing)}")
    if unknown := mapping.keys() - required - optional:
        raise ValueError(f"unknown {sorted(unknown)}")
    return mapping


def flag(value):
    if not isinstance(value, bool):
        raise TypeError(f"{value!r} is neither true nor false")
    return value


def check_form(case):
    """Refuse a case with a key or a kind of value that the driver would not look at."""
    keys(case, CASE)
    given = keys(case["given"], GIVEN, GIVEN_OPTIONAL)
    keys(given["policy"], {"enabled"}, {"selected", "enroll_in"})
    flag(given["policy"]["enabled"])
    keys(given.get("actor", {}), set(), CONTEXT.keys())
    keys(given.get("elevation") or {"age": None}, {"age"}, {"expires_in"})
    for fact in FLAGS:
        flag(given.get(fact, False))
    expect = case["expect"]
    if "error" in expect:
        keys(expect, {"error"})
        return case
    keys(expect, ANSWER, ANSWER_OPTIONAL)
    flag(expect.get("earns_receipt", False))
    flag(expect.get("needs_challenge", False))
    for field in ("elevation", "enroll_by"):
        if expect.get(field, "given") != "given":
            raise ValueError(f"an answer carries the {field} given, or none")
    return case


def load():
    for path in sorted(Path(__file__).parent.glob("*.yaml")):
        for case in yaml.load(path.read_text("utf-8"), StrictLoader):  # noqa: S506 - a SafeLoader
            check_form(case)
            yield pytest.param(case, id=f"{path.stem}: {case['description']}")


CASES = list(load())


def catalogue_of(given):
    added = [OperationId(text) for text in given.get("operator_adds", [])]
    shipped = {category.id for category, _ in SHIPPED}
    categories = [Category(id_, Title(id_)) for id_ in {each.category for each in added} - shipped]
    return SHIPPED.extended(categories, [Operation(each, Title(each)) for each in added])


def actor_of(given):
    context = {
        name: CONTEXT[name][value]
        for name, value in given.get("actor", {}).items()
        if name != "playbook_run"
    }
    if trigger := given.get("actor", {}).get("playbook_run"):
        run = PlaybookRun(OpaqueId("playbook"), OpaqueId("run"), PlaybookTrigger[trigger])
        context["playbook_run"] = run
    if "receipt" in given:
        context["retry_receipt"] = RetryReceipt("presented")
    if "challenge" in given:
        context["challenge_id"] = CHALLENGE_ID
    return Actor(TenantId("acme"), UserId("ada"), SessionId("session"), **context)


def policy_of(given):
    selected = given["policy"].get("selected", {})
    max_ages = {
        OperationId(name): EVERY_TIME if max_age == "every_time" else duration(max_age)
        for name, max_age in selected.items()
    }
    enroll_in = given["policy"].get("enroll_in")
    enroll_by = None if enroll_in is None else NOW + duration(enroll_in)
    return Policy(TenantId("acme"), given["policy"]["enabled"], max_ages, enroll_by=enroll_by)


def elevation_of(given, actor):
    if given["elevation"] is None:
        return None
    verified_at = NOW - duration(given["elevation"]["age"])
    expires_at = verified_at + LIFETIME
    if "expires_in" in given["elevation"]:
        expires_at = NOW + duration(given["elevation"]["expires_in"])
    return Elevation(
        actor.tenant_id, actor.user_id, actor.session_hash, "enrollment", verified_at, expires_at
    )


def stored(given, actor):
    """What the stores would say, by name of the fact or the effect."""
    found = {name: given[name] for name in FLAGS if name in given}
    if "elevation" in given:
        found["elevation"] = elevation_of(given, actor)
    if "receipt" in given:
        found["redemption"] = (
            REDEEMED
            if given["receipt"] == "VALID"
            else RefusedReceipt(ReceiptRejection[given["receipt"]])
        )
    if "challenge" in given:
        found["use_of_item"] = (
            USED_ITEM
            if given["challenge"] == "APPROVED"
            else RefusedChallenge(ChallengeRejection[given["challenge"]])
        )
    return found


def drive(decide_with, stores):
    """Answer what a decision asks for, until it is made; returns the verdict and what was asked."""
    asked, facts, effects = [], {}, {}
    while not isinstance(step := decide_with(facts, **effects), Verdict):
        asked.append(step.name)
        assert step.value in stores, f"the rules asked for {step}, which the case does not give"
        if isinstance(step, Effect):
            effects[step.value] = stores[step.value]
        else:
            facts[step.value] = stores[step.value]
    return step, asked


@pytest.mark.parametrize("case", CASES)
def test_golden(case):
    given, expect = case["given"], case["expect"]
    operation = catalogue_of(given).find(given["operation"])
    if operation is None:
        assert expect == {"error": "UNKNOWN_OPERATION"}
        return
    actor = actor_of(given)
    stores, policy = stored(given, actor), policy_of(given)

    verdict, asked = drive(partial(decide, operation, actor, policy, NOW), stores)

    rejection = expect.get("receipt_rejection")
    refusal = expect.get("challenge_rejection")
    assert verdict == Verdict(
        Decision[expect["decision"]],
        Reason[expect["reason"]],
        elevation=stores["elevation"] if expect.get("elevation") else None,
        max_age=duration(expect["max_age"]) if "max_age" in expect else None,
        receipt_rejection=ReceiptRejection[rejection] if rejection else None,
        earns_receipt=expect.get("earns_receipt", False),
        challenge_rejection=ChallengeRejection[refusal] if refusal else None,
        needs_challenge=expect.get("needs_challenge", False),
        enroll_by=policy.enroll_by if expect.get("enroll_by") else None,
    )
    assert asked == expect["asks"]


def explained(case):
    """The explanation of a case, from the facts that the rules asked for."""
    given = case["given"]
    operation, actor = catalogue_of(given).find(given["operation"]), actor_of(given)
    policy, stores = policy_of(given), stored(given, actor)
    verdict, asked = drive(partial(decide, operation, actor, policy, NOW), stores)
    facts = {
        Fact[name].value: stores[Fact[name].value] for name in asked if name in Fact.__members__
    }
    return Explained(operation, actor, policy, NOW, facts, verdict).rules()


EXPLAINABLE = [
    param
    for param in CASES
    if "receipt" not in param.values[0]["given"] and "error" not in param.values[0]["expect"]
]
"""An explanation takes no receipt."""


@pytest.mark.parametrize("case", EXPLAINABLE)
def test_the_explanation_of_a_case_ends_with_its_reason(case):
    *passed, decisive = explained(case)
    assert (decisive.reason.name, decisive.matched) == (case["expect"]["reason"], True)
    assert not any(rule.matched for rule in passed)


@pytest.mark.parametrize(
    "case", [param for param in EXPLAINABLE if "explains" in param.values[0]["expect"]]
)
def test_an_explanation_in_words(case):
    rules = explained(case)
    assert {rule.reason.name: rule.explanation for rule in rules} == case["expect"]["explains"]
    assert [rule.reason.name for rule in rules] == list(case["expect"]["explains"])


def test_every_reason_but_that_of_a_receipt_is_explained_in_words():
    explanations = [param.values[0]["expect"].get("explains", {}) for param in CASES]
    decisive = {list(explanation)[-1] for explanation in explanations if explanation}
    assert decisive == {reason.name for reason in Reason} - {"EXEMPT_TIMED_OUT_RETRY"}


def expected(key):
    return {param.values[0]["expect"].get(key) for param in CASES} - {None}


def test_every_reason_has_a_case():
    assert expected("reason") == {reason.name for reason in Reason}


def test_every_receipt_rejection_has_a_case():
    assert expected("receipt_rejection") == {rejection.name for rejection in ReceiptRejection}


def test_every_challenge_rejection_has_a_case():
    assert expected("challenge_rejection") == {rejection.name for rejection in ChallengeRejection}


def test_no_two_cases_have_the_same_description():
    descriptions = [param.values[0]["description"] for param in CASES]

    assert len(descriptions) == len(set(descriptions))


WELL_FORMED = """
description: as it should be
given:
  operation: response.run_osquery
  policy: {enabled: true}
expect: {decision: ALLOWED, reason: OPERATION_NOT_SELECTED, asks: []}
"""


def refused(text):
    with pytest.raises((ValueError, TypeError, KeyError)) as refusal:
        check_form(yaml.load(text, StrictLoader))  # noqa: S506 - a SafeLoader
    return str(refusal.value)


@pytest.mark.parametrize(
    "unknown",
    [
        WELL_FORMED + "note: x",
        WELL_FORMED.replace("given:", "given:\n  elevated: true"),
        WELL_FORMED.replace("enabled: true", "enabled: true, note: x"),
        WELL_FORMED.replace("given:", "given:\n  actor: {note: x}"),
        WELL_FORMED.replace("given:", "given:\n  elevation: {age: 1m, note: x}"),
        WELL_FORMED.replace("asks: []", "asks: [], note: x"),
        WELL_FORMED.replace("asks: []", "asks: [], error: UNKNOWN_OPERATION"),
    ],
)
def test_a_key_that_nobody_reads_is_refused(unknown):
    assert "unknown" in refused(unknown)


def test_a_key_that_stands_twice_is_refused():
    assert "twice" in refused(WELL_FORMED.replace("given:", "given: {}\ngiven:"))
