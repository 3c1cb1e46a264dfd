"""A visit: an opened portal session, as the handlers of its page see it."""

import base64
import hashlib
import hmac
from dataclasses import dataclass, field
from urllib.parse import quote, urlencode

from stepup.client import AsyncStepUpClient
from stepup.v1 import portal_service_pb2 as pb
from stepup.web.site import Site
from stepup.web.texts import Texts

_ID_LENGTH = 22
VISIT_ID = f"[A-Za-z0-9_-]{{{_ID_LENGTH}}}"
"""What the id of a visit looks like: a regular expression."""


@dataclass(frozen=True, slots=True)
class Visit:
    """One request of a visit.

    Attributes:
        id: the segment of its paths: a hash of the token that opened it, not a secret.
        session_id: as good as a credential.
        stepup: the client of the core. Pass `metadata` with each call, and no actor:
            `await visit.stepup.enrollment.get(metadata=visit.metadata)`.
        texts: the language and the zone of the person.
        done: the name of what the last POST did, as `to(visit, ..., done="saved")` said; or empty.
    """

    id: str
    session_id: str = field(repr=False)
    session: pb.PortalSession
    stepup: AsyncStepUpClient
    texts: Texts
    site: Site
    done: str = ""

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What names the session to the core."""
        return metadata_of(self.session_id)

    @property
    def csrf_token(self) -> str:
        """The value of the hidden field `csrf` of each form (S20)."""
        return csrf_token_of(self.session_id, self.id)

    def url(self, path: str = "", **query: str) -> str:
        """The address of a route of this visit, without the host."""
        return f"/v/{self.id}/{quote(path)}{'?' if query else ''}{urlencode(query)}"


def metadata_of(session_id: str) -> tuple[tuple[str, str], ...]:
    """The metadata of a call that names the session to the core."""
    return (("stepup-portal-session", session_id),)


def visit_id_of(token: str) -> str:
    """Return the id of the visit that a token opens."""
    return _base64url(hashlib.sha256(b"visit\0" + token.encode()).digest())[:_ID_LENGTH]


def csrf_token_of(session_id: str, visit_id: str) -> str:
    """Return the token of the forms of a visit: of no use in another one (S20)."""
    message = b"csrf\0" + visit_id.encode()
    return _base64url(hmac.digest(session_id.encode(), message, hashlib.sha256))


def _base64url(octets: bytes) -> str:
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode()
