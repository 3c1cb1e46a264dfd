"""The page `challenge`."""

from typing import Final

from stepup.web.routing import PageRoute

ROUTES: Final[tuple[PageRoute, ...]] = ()
