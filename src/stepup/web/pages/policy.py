"""The page `policy`."""

from typing import Final

from stepup.web.routing import PageRoute

ROUTES: Final[tuple[PageRoute, ...]] = ()
