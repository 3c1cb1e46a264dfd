"""Converts people and tenants to messages, and the filter of people from one."""

from dataclasses import asdict
from datetime import datetime
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp

from stepup.domain.errors import InvalidFieldError
from stepup.domain.person import PeopleCounts, PersonState
from stepup.rpc.wire import encode
from stepup.service.people.read import PageOfPeople, PageOfTenants, PersonView
from stepup.v1 import people_service_pb2 as pb

STATES: Final = {state: pb.PersonState.Value(f"PERSON_STATE_{state.name}") for state in PersonState}
_FILTERS: Final = {value: state for state, value in STATES.items()} | {
    pb.PERSON_STATE_UNSPECIFIED: None
}


def state_filter(value: pb.PersonState.ValueType) -> PersonState | None:
    """The state in which people must be; None for all.

    Raises:
        InvalidFieldError: the state is unknown.
    """
    try:
        return _FILTERS[value]
    except KeyError as error:
        raise InvalidFieldError("state", f"has the unknown value {value}") from error


def person(view: PersonView, now: datetime) -> pb.Person:
    """Encode a person at the time of a call."""
    shown = view.person
    message = pb.Person(
        user_id=shown.user_id,
        states=[STATES[state] for state in view.states],
        account_mfa_enabled=shown.account_mfa_enabled,
        pending_until=_timestamp(shown.pending_until),
        first_asked_at=_timestamp(shown.first_asked_at),
        last_asked_at=_timestamp(shown.last_asked_at),
    )
    if shown.authenticator is not None:
        enrollment = encode.active(shown.authenticator, now, has_reset_code=shown.has_reset_code)
        message.enrollment.CopyFrom(enrollment)
        message.unlocks_remaining = shown.authenticator.unlocks_remaining(now)
    return message


def _timestamp(at: datetime | None) -> Timestamp | None:
    return None if at is None else encode.timestamp(at)


def page_of_people(page: PageOfPeople, now: datetime) -> pb.ListPeopleResponse:
    """Encode a page of people at the time of a call."""
    return pb.ListPeopleResponse(
        people=[person(view, now) for view in page.people],
        next_page_token=page.next_token,
        counts=counts(page.counts) if page.counts else None,
    )


def counts(of_tenant: PeopleCounts) -> pb.PeopleCounts:
    """Encode how many people of a tenant are in which state."""
    return pb.PeopleCounts(**asdict(of_tenant))


def demand_counts_only(request: pb.ListPeopleRequest) -> None:
    """Demand that a request for counts asks for no page.

    Raises:
        InvalidFieldError: the request has a field of a page.
    """
    for field in ("state", "page_size", "page_token"):
        if getattr(request, field):
            raise InvalidFieldError(field, "must be absent with counts_only")


def page_of_tenants(page: PageOfTenants) -> pb.ListTenantsResponse:
    """Encode a page of tenants."""
    return pb.ListTenantsResponse(
        tenants=[
            pb.Tenant(tenant_id=known.tenant_id, policy_enabled=known.policy_enabled)
            for known in page.tenants
        ],
        next_page_token=page.next_token,
    )
