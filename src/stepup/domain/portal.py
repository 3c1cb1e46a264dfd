"""Portal sessions: one person's visit to the hosted pages, and what each page reaches (S20)."""

import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from enum import StrEnum, unique
from typing import Final, Self
from uuid import UUID

from stepup.domain.actor import Actor, CallerId
from stepup.domain.challenge_rights import ANSWER_CHALLENGE
from stepup.domain.changes import UserRevocations
from stepup.domain.elevation import CLOCK_TOLERANCE
from stepup.domain.errors import InvalidValueError
from stepup.domain.outsiders import COMPLETE_ENROLLMENT, VERIFY_OTP
from stepup.domain.totp import Label
from stepup.domain.values import value

LINK_LIFETIME: Final = timedelta(minutes=2)
"""How long the address of a session may be opened, once."""
IDLE_LIFETIME: Final = timedelta(minutes=15)
"""How long a session lives without a call."""
LIFETIME: Final = timedelta(minutes=60)
"""How long a session lives at most, from its creation."""
LIFETIME_WITH_ROLE: Final = timedelta(minutes=15)
"""How long the session of a Master Administrator lives at most."""

_MAX_LOCALE: Final = 35
_LOCALE: Final = re.compile("[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*")
_MAX_TIME_ZONE: Final = 64
_TIME_ZONE: Final = re.compile("[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+)*")

REDEEM: Final = "PortalService/RedeemPortalSession"
"""The only method that the web process may use outside a portal session."""
OF_ALL_PAGES: Final = frozenset(
    {"PortalService/GetPortalSession", "PortalService/EndPortalSession"}
)
CREATE: Final = "PortalService/CreatePortalSession"
GET_ENROLLMENT: Final = "EnrollmentService/GetEnrollment"
LIST_PEOPLE: Final = "PeopleService/ListPeople"


@unique
class PortalPage(StrEnum):
    """A page of the portal."""

    STEP_UP = "step_up"
    CHALLENGE = "challenge"
    ENROLL = "enroll"
    ACCOUNT = "account"
    POLICY = "policy"
    PEOPLE = "people"
    EVENTS = "events"

    @property
    def needs_role(self) -> bool:
        """Whether the page is for a Master Administrator."""
        return self in (PortalPage.POLICY, PortalPage.PEOPLE, PortalPage.EVENTS)


OF_CHALLENGE: Final = frozenset(
    f"ChallengeService/{name}Challenge" for name in ("Get", "Await", "Answer", "Decline")
)
"""The methods of a challenge, which its page reaches for this challenge only."""
OF_WIZARD: Final = frozenset(
    f"EnrollmentService/{name}Enrollment" for name in ("Begin", "Confirm", "Complete", "Cancel")
) | {VERIFY_OTP, "PolicyService/GetPolicy"}
"""The methods of the wizard. The page of a challenge reaches them without an authenticator only."""
OF_READERS: Final = frozenset(
    {
        *(LIST_PEOPLE, "PeopleService/GetPerson", "PolicyService/UpdatePolicy"),
        *("AuditService/ListAuditEvents", "AuditService/ExportAuditEvents"),
    }
)
"""The methods that need a Master Administrator within a portal session, beside what they demand of
every caller."""
_ENROLL: Final = OF_WIZARD | {GET_ENROLLMENT}

REACHES: Final[Mapping[PortalPage, frozenset[str]]] = {
    PortalPage.STEP_UP: frozenset({VERIFY_OTP, GET_ENROLLMENT}),
    PortalPage.CHALLENGE: _ENROLL | OF_CHALLENGE,
    PortalPage.ENROLL: _ENROLL,
    PortalPage.ACCOUNT: _ENROLL
    | {
        "EnrollmentService/RemoveEnrollment",
        "EnrollmentService/ResetEnrollment",
        "EnrollmentService/IssueResetCode",
        "EnrollmentService/SetAccountMfa",
        "StepUpService/RevokeElevations",
    },
    PortalPage.POLICY: _ENROLL
    | {"PolicyService/UpdatePolicy", "PolicyService/ListOperations", LIST_PEOPLE},
    PortalPage.PEOPLE: _ENROLL
    | {
        LIST_PEOPLE,
        "PeopleService/GetPerson",
        "EnrollmentService/AdminResetEnrollment",
        "PeopleService/UnlockUser",
        "PeopleService/ForgetUser",
    },
    PortalPage.EVENTS: frozenset(
        {"AuditService/ListAuditEvents", "AuditService/ExportAuditEvents"}
    ),
}
"""The methods that a page reaches beside `OF_ALL_PAGES`, by their names in rules of callers."""

INDISPENSABLE: Final[Mapping[PortalPage, tuple[str, ...]]] = {
    PortalPage.STEP_UP: (VERIFY_OTP,),
    PortalPage.CHALLENGE: ("ChallengeService/GetChallenge", ANSWER_CHALLENGE),
    PortalPage.ENROLL: (
        GET_ENROLLMENT,
        "EnrollmentService/BeginEnrollment",
        "EnrollmentService/ConfirmEnrollment",
        COMPLETE_ENROLLMENT,
    ),
    PortalPage.ACCOUNT: (GET_ENROLLMENT,),
    PortalPage.POLICY: ("PolicyService/GetPolicy", "PolicyService/UpdatePolicy"),
    PortalPage.PEOPLE: (LIST_PEOPLE,),
    PortalPage.EVENTS: ("AuditService/ListAuditEvents",),
}
"""The methods that a page cannot do without: a caller that opens the page may use all of them."""


class Locale(str):
    """A BCP 47 tag such as `de-CH`: 2 to 35 bytes (RFC 5646 §2.1 and §4.4.1)."""

    __slots__ = ()

    def __new__(cls, value: str) -> Self:
        """Check the form of the tag, and not whether its language exists.

        Raises:
            InvalidValueError: it is something else.
        """
        if len(value) > _MAX_LOCALE or not _LOCALE.fullmatch(value):
            raise InvalidValueError("must be a BCP 47 tag such as de-CH, of at most 35 bytes")
        return super().__new__(cls, value)


class TimeZone(str):
    """An IANA name such as `Europe/Berlin`: 1 to 64 bytes."""

    __slots__ = ()

    def __new__(cls, value: str) -> Self:
        """Check the form of the name, and not whether the zone exists.

        Raises:
            InvalidValueError: it is something else.
        """
        if len(value) > _MAX_TIME_ZONE or not _TIME_ZONE.fullmatch(value):
            raise InvalidValueError(
                "must be an IANA time zone such as Europe/Berlin, of at most 64 bytes"
            )
        return super().__new__(cls, value)


@value
class PortalSession:
    """A portal session, from its creation on.

    Args:
        opened_by: the caller that created it.
        opened_by_title: the name by which people know this caller.
        actor: the person, as `opened_by` vouches for them; `client` is the device of the browser
            once the session is redeemed.
        created_at: when `opened_by` created it. A later revocation of the user, or of the actor's
            session, ends it.
        locale: the language of the pages; None means that of the browser.
        time_zone: the zone of the person; None means UTC.
        account_name: the name of a new account in the authenticator app; None means the user id.
        idle_until: when it ends without a further call.
    """

    opened_by: CallerId
    opened_by_title: str
    actor: Actor
    page: PortalPage
    challenge_id: UUID | None
    return_url: str
    locale: Locale | None
    time_zone: TimeZone | None
    account_name: Label | None
    created_at: datetime
    idle_until: datetime

    @property
    def expires_at(self) -> datetime:
        """When it ends at the latest."""
        role = self.actor.is_master_administrator
        return self.created_at + (LIFETIME_WITH_ROLE if role else LIFETIME)

    def reaches(self, method: str) -> bool:
        """Whether the page reaches a method, by its name in the rules of callers."""
        return method in OF_ALL_PAGES or method in REACHES[self.page]

    def is_live(self, now: datetime) -> bool:
        """Whether it may be used at this instant, as far as time decides."""
        return self.created_at - CLOCK_TOLERANCE <= now < min(self.idle_until, self.expires_at)

    def is_revoked(self, revocations: UserRevocations) -> bool:
        """Whether its user, or the session that it was created in, was revoked since (S10).

        Args:
            revocations: those of the user, with the sign-outs of the actor's session.
        """
        return revocations.reaches(self.created_at)
