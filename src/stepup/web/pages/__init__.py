"""The routes of each page of the portal. A visit has the routes of its own page only."""

from collections.abc import Mapping
from typing import Final

from stepup.v1 import portal_service_pb2 as pb
from stepup.web.pages import account, challenge, enroll, events, people, policy, step_up, wizard
from stepup.web.routing import PageRoute

PAGES: Final[Mapping[pb.PortalPage.ValueType, tuple[PageRoute, ...]]] = {
    pb.PORTAL_PAGE_STEP_UP: step_up.ROUTES,
    pb.PORTAL_PAGE_CHALLENGE: challenge.ROUTES + wizard.ROUTES,
    pb.PORTAL_PAGE_ENROLL: enroll.ROUTES + wizard.ROUTES,
    pb.PORTAL_PAGE_ACCOUNT: account.ROUTES + wizard.ROUTES,
    pb.PORTAL_PAGE_POLICY: policy.ROUTES + wizard.ROUTES,
    pb.PORTAL_PAGE_PEOPLE: people.ROUTES + wizard.ROUTES,
    pb.PORTAL_PAGE_EVENTS: events.ROUTES,
}
