"""The methods that accept an actor who does not belong to the tenant (S16)."""

from collections.abc import Mapping
from typing import Final

from stepup.domain.callers import Caller, Claim, Rule
from stepup.domain.challenge_rights import ANSWER_CHALLENGE

VERIFY_OTP: Final = "StepUpService/VerifyOtp"
COMPLETE_ENROLLMENT: Final = "EnrollmentService/CompleteEnrollment"

METHODS_OF_OUTSIDERS: Final[Mapping[Claim, frozenset[str]]] = {
    Claim.OPERATOR: frozenset(
        {
            "StepUpService/ExplainStepUp",
            "StepUpService/RevokeElevations",
            "ChallengeService/GetChallenge",
            "ChallengeService/ListChallenges",
            "ChallengeService/CancelChallenge",
            "EnrollmentService/AdminResetEnrollment",
            "PeopleService/ListPeople",
            "PeopleService/GetPerson",
            "PeopleService/UnlockUser",
            "PeopleService/ForgetUser",
            "PeopleService/ImportAuthenticators",
            "PolicyService/UpdatePolicy",
        }
    ),
    Claim.DEPROVISIONING: frozenset({"PeopleService/ForgetUser"}),
}
"""The methods, as rules of callers name them, by the claim of the outsider. Handlers of all other
methods refuse such an actor."""


def outsiders_of(method: str) -> frozenset[Claim]:
    """The claims of the outsiders that a method accepts."""
    return frozenset(claim for claim, methods in METHODS_OF_OUTSIDERS.items() if method in methods)


_CODE_METHODS: Final = (VERIFY_OTP, ANSWER_CHALLENGE)
_REPLACING_METHODS: Final[Mapping[str, tuple[str, ...]]] = {
    # A person without an authenticator enrols without a code, and is elevated at the end.
    "EnrollmentService/AdminResetEnrollment": (*_CODE_METHODS, COMPLETE_ENROLLMENT),
    "PeopleService/ForgetUser": (*_CODE_METHODS, COMPLETE_ENROLLMENT),
    "PeopleService/ImportAuthenticators": _CODE_METHODS,
}
"""The methods after which a caller may give a person an authenticator whose secret it knows, each
with the methods by which the caller then poses as the person."""


def replaces_and_gives_codes(caller: Caller) -> tuple[Rule, Rule] | None:
    """Two rules by which a caller may replace people's authenticators and give codes for them.

    Such a caller can pose as everybody of a tenant: nobody else sees the secret and the code.

    Returns:
        The rule with the claim of an outsider and the rule for `VerifyOtp`, `AnswerChallenge` or
        `CompleteEnrollment`, of the same tenant; None without such a pair.
    """
    for replacing in caller.rules:
        giving_methods = _giving_methods_after(replacing)
        for giving in caller.rules:
            gives = any(method in giving.methods for method in giving_methods)
            if gives and replacing.tenants.overlaps(giving.tenants):
                return replacing, giving
    return None


def _giving_methods_after(rule: Rule) -> frozenset[str]:
    """The methods that give codes for authenticators that the rule lets an outsider replace."""
    return frozenset(
        giving
        for method, after in _REPLACING_METHODS.items()
        if method in rule.methods and rule.claims & outsiders_of(method)
        for giving in after
    )
