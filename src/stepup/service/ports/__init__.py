"""The services that the use cases need, as promises that an implementation must keep.

Every port may raise `StoreUnavailableError`, and only that, when its store cannot be reached, is
full, or does not answer in time. A driver's exception never passes a port.
"""

from stepup.service.ports.audit import (
    AuditTrail,
    ChainPosition,
    DecisionEntry,
    DecisionLog,
    EventQuery,
    StoredChains,
)
from stepup.service.ports.challenges import Challenges, Creation
from stepup.service.ports.change_feed import Announced, ChangeFeed, FeedPosition
from stepup.service.ports.clock import Clock
from stepup.service.ports.elevations import CallerRates, Elevations, RecordedOutcomes, RequestKey
from stepup.service.ports.keys import HeadKeys, HeadSignatures, Keys, SealBrokenError
from stepup.service.ports.people import (
    AskedPeople,
    EventClients,
    KnownTenant,
    PastAuthenticators,
    People,
    PeopleQuery,
)
from stepup.service.ports.portal import PortalSessions
from stepup.service.ports.records import (
    Accounts,
    Authenticators,
    Database,
    KeyUses,
    PendingEnrollments,
    Policies,
    Records,
    Redemptions,
    ResetCodes,
    SealCounts,
)

__all__ = [
    "Accounts",
    "Announced",
    "AskedPeople",
    "AuditTrail",
    "Authenticators",
    "CallerRates",
    "ChainPosition",
    "Challenges",
    "ChangeFeed",
    "Clock",
    "Creation",
    "Database",
    "DecisionEntry",
    "DecisionLog",
    "Elevations",
    "EventClients",
    "EventQuery",
    "FeedPosition",
    "HeadKeys",
    "HeadSignatures",
    "KeyUses",
    "Keys",
    "KnownTenant",
    "PastAuthenticators",
    "PendingEnrollments",
    "People",
    "PeopleQuery",
    "Policies",
    "PortalSessions",
    "RecordedOutcomes",
    "Records",
    "Redemptions",
    "RequestKey",
    "ResetCodes",
    "SealBrokenError",
    "SealCounts",
    "StoredChains",
]
