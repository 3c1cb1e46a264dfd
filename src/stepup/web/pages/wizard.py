"""The wizard: a new authenticator, step by step. All pages but two lead to it."""

from typing import Final

from stepup.web.routing import PageRoute

ROUTES: Final[tuple[PageRoute, ...]] = ()
