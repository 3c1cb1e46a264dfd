"""What all requests of a deployment share."""

from dataclasses import dataclass
from urllib.parse import urlsplit

import jinja2


@dataclass(frozen=True, slots=True)
class Site:
    """A deployment of the portal.

    Args:
        public_url: the origin that browsers see, such as `https://mfa.example.com`.
        title: the name of the deployment.
        templates: those of `stepup.web.templates`.
        static: the addresses of static files, by their names.
    """

    public_url: str
    title: str
    templates: jinja2.Environment
    static: dict[str, str]

    @property
    def is_secure(self) -> bool:
        """Whether browsers reach the portal by TLS. Otherwise it is a trial on this machine."""
        return urlsplit(self.public_url).scheme == "https"

    def cookie_of(self, visit_id: str) -> str:
        """The name of the cookie of a visit (S20)."""
        return f"{'__Host-' if self.is_secure else ''}stepup-{visit_id}"
