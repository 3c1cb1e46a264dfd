"""The settings of the portal, as far as the core needs them."""

from typing import Annotated

from stepup.domain.origins import WebOrigin
from stepup.settings.section import Section, checked


class PortalSettings(Section):
    """The portal: hosted pages, which a web process of its own serves."""

    public_url: Annotated[WebOrigin, checked(WebOrigin)]
    """The origin of the pages, as browsers reach them: `https://mfa.example.com`. `http` is for
    loopback hosts."""
