"""The methods that accept an actor who does not belong to the tenant (S16)."""

from collections.abc import Mapping
from typing import Final

from stepup.domain.callers import Caller, Claim, Rule
from stepup.domain.challenge_rights import ANSWER_CHALLENGE

VERIFY_OTP: Final = "StepUpService/VerifyOtp"

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


_REPLACING: Final = (
    "EnrollmentService/AdminResetEnrollment",
    "PeopleService/ForgetUser",
    "PeopleService/ImportAuthenticators",
)
"""The methods after which a caller may give a person an authenticator whose secret it knows."""


def replaces_and_gives_codes(caller: Caller) -> tuple[Rule, Rule] | None:
    """Two rules by which a caller may replace people's authenticators and give codes for them.

    Such a caller can pose as everybody of a tenant: nobody else sees the secret and the code.

    Returns:
        The rule with the claim of an outsider and the rule for `VerifyOtp` or `AnswerChallenge`, of
        the same tenant; None without such a pair.
    """
    for replacing in caller.rules:
        if _lets_outsiders_replace(replacing):
            for giving in caller.rules:
                gives = VERIFY_OTP in giving.methods or ANSWER_CHALLENGE in giving.methods
                if gives and replacing.tenants.overlaps(giving.tenants):
                    return replacing, giving
    return None


def _lets_outsiders_replace(rule: Rule) -> bool:
    return any(
        method in rule.methods and claim in rule.claims
        for method in _REPLACING
        for claim in outsiders_of(method)
    )
