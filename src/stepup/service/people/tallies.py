"""Counts what operators and deprovisioning callers do in tenants, for alerts.

A label has the kind of an event, and never names a person or a tenant (S11).
"""

from typing import Final

from prometheus_client import Counter

from stepup.domain.audit import EventKind

_acts = Counter(
    "stepup_operator_acts", "Acts of operators under the claim operator, by event.", ["kind"]
)
# Each series exists from the start, so that an alert on an increase sees the first act.
_BY_KIND: Final = {
    kind: _acts.labels(kind.value)
    for kind in (
        EventKind.OPERATOR_READ,
        EventKind.AUTHENTICATOR_IMPORTED,
        EventKind.POLICY_CHANGED_BY_OPERATOR,
        EventKind.AUTHENTICATOR_RESET_BY_OPERATOR,
        EventKind.ELEVATIONS_REVOKED_BY_OPERATOR,
        EventKind.CHALLENGE_CANCELLED_BY_OPERATOR,
        EventKind.USER_UNLOCKED_BY_OPERATOR,
        EventKind.USER_FORGOTTEN_BY_OPERATOR,
    )
}
_deprovisioned = Counter(
    "stepup_users_deprovisioned", "Users forgotten under the claim deprovisioning."
)


def count_act(kind: EventKind) -> None:
    """Count a committed event of an operator or of deprovisioning. Other kinds count nowhere."""
    if kind in _BY_KIND:
        _BY_KIND[kind].inc()
    if kind is EventKind.USER_DEPROVISIONED:
        _deprovisioned.inc()
