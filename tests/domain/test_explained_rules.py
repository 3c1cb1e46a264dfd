"""An explanation lists the rules in the order in which `decide` applies them.

The words are specified by tests/golden. Here each rule is made to match, in every situation of a
product of facts: a rule that the explanation lists as passed then decides, as every rule before it
still does not match; and a rule that it does not list changes nothing.
"""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import product
from uuid import UUID

import pytest
from stepup_tests.challenges import challenge_of
from stepup_tests.people import ACME, person, playbook_run

from stepup.domain.actor import AccountType, Actor, PlaybookTrigger, Team
from stepup.domain.decision import Fact, Reason, Verdict, decide
from stepup.domain.elevation import LIFETIME, Elevation
from stepup.domain.explained_rules import Explained
from stepup.domain.item_use import ChallengeRejection, RefusedChallenge, UsedItem
from stepup.domain.operations import SHIPPED, SIGN_IN, Operation, OperationId
from stepup.domain.policy import EVERY_TIME, Policy
from stepup.domain.receipts import Redemption

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
ALICE = person()
CHALLENGE_ID = UUID(int=3)
USED = UsedItem(challenge_of(ALICE), Redemption(UUID(int=2), NOW))
REFUSED = RefusedChallenge(ChallengeRejection.PENDING)
OPERATIONS = ("response.run_osquery", "iam.configure_access", SIGN_IN)


def elevated(age):
    verified_at = NOW - age
    place = (ALICE.tenant_id, ALICE.user_id, ALICE.session_hash, "enrollment")
    return Elevation(*place, verified_at, verified_at + LIFETIME)


@dataclass(frozen=True)
class Situation:
    """Everything that a decision depends on, but a receipt."""

    operation: Operation
    actor: Actor
    policy: Policy
    facts: dict
    use_of_item: UsedItem | RefusedChallenge | None

    def decided(self):
        """The explained decision, from the facts that it asks for."""
        facts, use_of_item = {}, None
        while not isinstance(
            step := decide(
                *(self.operation, self.actor, self.policy, NOW, facts), use_of_item=use_of_item
            ),
            Verdict,
        ):
            if isinstance(step, Fact):
                facts[step.value] = self.facts[step.value]
            else:
                use_of_item = self.use_of_item
        return Explained(self.operation, self.actor, self.policy, NOW, facts, step)

    def with_facts(self, **facts):
        return replace(self, facts=self.facts | facts)

    def made_to_match(self, reason):
        """The situation in which the condition of one rule holds; None if it never can."""
        name, policy = self.operation.id, self.policy
        needs_code_every_time = policy.max_ages.get(name) == EVERY_TIME
        match reason:
            case Reason.SIGN_IN_NOT_SUPPORTED_FOR_SAML:
                return replace(self, actor=replace(self.actor, account_type=AccountType.SAML))
            case Reason.MFA_NOT_ENABLED:
                off = replace(self, policy=replace(policy, enabled=False))
                return off.with_facts(account_mfa=False)
            case Reason.OPERATION_NOT_SELECTED:
                return replace(self, policy=replace(policy, max_ages={}))
            case Reason.EXEMPT_MANAGED_SERVICES if self.operation.is_response_action:
                managed = replace(self.actor, team=Team.MANAGED_SERVICES_OPERATIONS)
                return replace(self, actor=managed)
            case Reason.EXEMPT_AUTOMATIC_PLAYBOOK if self.operation.is_response_action:
                return replace(self, actor=replace(self.actor, playbook_run=playbook_run()))
            case Reason.CHALLENGE_APPROVED:
                presenting = replace(self.actor, challenge_id=CHALLENGE_ID)
                return replace(self, actor=presenting, use_of_item=USED)
            case Reason.ELEVATED if not needs_code_every_time:
                return self.with_facts(elevation=elevated(timedelta()))
            case Reason.ENROLLMENT_GRACE if policy.enabled:
                in_grace = replace(self, policy=replace(policy, enroll_by=NOW + MINUTE))
                return in_grace.with_facts(enrolled=False, ever_enrolled=False)
            case Reason.NOT_ENROLLED:
                late = replace(self, policy=replace(policy, enroll_by=None))
                return late.with_facts(enrolled=False)
            case _:
                return None


def situations(operation):
    found, is_sign_in = SHIPPED.find(operation), operation == SIGN_IN
    for enabled, max_age, enroll_in, account_type, run, use_of_item in product(
        (True, False),
        (None,) if is_sign_in else (None, EVERY_TIME, 5 * MINUTE),
        (None, -MINUTE, MINUTE),
        (AccountType.LOCAL, AccountType.SAML) if is_sign_in else (AccountType.LOCAL,),
        (None, *map(playbook_run, PlaybookTrigger)),
        (None, REFUSED, USED),
    ):
        max_ages = {} if max_age is None else {OperationId(operation): max_age}
        enroll_by = None if enroll_in is None else NOW + enroll_in
        policy = Policy(ACME, enabled, max_ages, enroll_by=enroll_by)
        challenge_id = None if use_of_item is None else CHALLENGE_ID
        actor = replace(
            ALICE, account_type=account_type, playbook_run=run, challenge_id=challenge_id
        )
        for elevation, enrolled, ever_enrolled, account_mfa in product(
            (None, elevated(MINUTE), elevated(6 * MINUTE), elevated(16 * MINUTE)),
            (True, False),
            (True, False),
            (True, False) if is_sign_in else (False,),
        ):
            facts = {
                "elevation": elevation,
                "enrolled": enrolled,
                "ever_enrolled": ever_enrolled,
                "account_mfa": account_mfa,
            }
            yield Situation(found, actor, policy, facts, use_of_item)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_the_rules_are_explained_in_the_order_in_which_they_decide(operation):
    for situation in situations(operation):
        explained = situation.decided()
        *passed, decisive = explained.rules()
        assert decisive.reason is explained.verdict.reason
        assert [rule.matched for rule in (*passed, decisive)] == [False] * len(passed) + [True]
        listed = {rule.reason for rule in passed}
        for reason in Reason:
            other = situation.made_to_match(reason)
            # To have no time to enrol is part of the condition of NOT_ENROLLED.
            ends_grace = {reason, decisive.reason} == {Reason.ENROLLMENT_GRACE, Reason.NOT_ENROLLED}
            if other is not None and not (ends_grace and reason not in listed):
                expected = reason if reason in listed else decisive.reason
                assert other.decided().verdict.reason is expected
