"""Converts portal sessions from and to messages."""

from typing import Final

from stepup.domain.errors import InvalidFieldError
from stepup.domain.labels import label_of_id
from stepup.domain.origins import WebOrigin, origin_of
from stepup.domain.portal import Locale, PortalPage, PortalSession, TimeZone
from stepup.domain.totp import Label
from stepup.rpc.wire import actors, decode, encode
from stepup.rpc.wire.challenges import challenge_id
from stepup.service.portal.create import NewPortalSession
from stepup.v1 import portal_service_pb2 as pb

_PAGES: Final = {page: pb.PortalPage.Value(f"PORTAL_PAGE_{page.name}") for page in PortalPage}
_BY_VALUE: Final = {value: page for page, value in _PAGES.items()}


def new_session(request: pb.CreatePortalSessionRequest) -> tuple[NewPortalSession, WebOrigin]:
    """Decode a request for a new session, without its actor; and the origin of its return_url.

    Raises:
        InvalidFieldError: a field is missing, not valid, or not for this page.
    """
    page = _BY_VALUE.get(request.page) or decode.refuse_value("page", request.page)
    if page is not PortalPage.CHALLENGE and request.challenge_id:
        raise InvalidFieldError("challenge_id", "must be absent: the page is not a challenge's")
    origin = decode.parse("return_url", origin_of, request.return_url)
    new = NewPortalSession(
        page=page,
        challenge_id=(challenge_id(request.challenge_id) if page is PortalPage.CHALLENGE else None),
        return_url=request.return_url,
        locale=decode.parse("locale", Locale, request.locale) if request.locale else None,
        time_zone=(
            decode.parse("time_zone", TimeZone, request.time_zone) if request.time_zone else None
        ),
        account_name=(
            decode.parse("account_name", Label, request.account_name)
            if request.account_name
            else None
        ),
    )
    return new, origin


def session(shown: PortalSession, tenant_name: Label) -> pb.PortalSession:
    """Encode a session for the web process."""
    actor, person = shown.actor, actors.message_of(shown.actor)
    return pb.PortalSession(
        page=_PAGES[shown.page],
        challenge_id="" if shown.challenge_id is None else str(shown.challenge_id),
        return_url=shown.return_url,
        locale=shown.locale or "",
        time_zone=shown.time_zone or "",
        account_name=shown.account_name or label_of_id(actor.user_id),
        tenant_name=tenant_name,
        user_id=actor.user_id,
        account_type=person.account_type,
        role=person.role,
        opened_by=shown.opened_by_title,
        expires_at=encode.timestamp(shown.expires_at),
    )
