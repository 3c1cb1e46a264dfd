"""What the service knows for pages: names, counts, elevations, and who is on record."""

from dataclasses import replace

import pytest
from stepup_tests.people import ACME, CALLER, administrator, operator, person
from stepup_tests.portal import portal_session

from stepup.domain.audit import EventKind
from stepup.domain.errors import CallerNotPermittedError
from stepup.domain.portal import PortalPage
from stepup.domain.totp import Label
from stepup.service.portal.tenant_name import TenantName
from stepup.service.portal.wizard_of_challenge import DemandNoAuthenticator


async def test_s20_a_challenge_leads_through_the_wizard_only_without_an_authenticator(worker):
    demand = DemandNoAuthenticator(worker.database)
    await demand(person())
    await worker.enrol(person())
    with pytest.raises(CallerNotPermittedError):
        await demand(person())


async def test_a_tenant_has_the_name_of_its_policy_or_of_the_deployment(worker):
    name = TenantName(worker.snapshots, Label("stepup"))
    assert await name(ACME) == "stepup"
    await worker.update_policy(administrator(), issuer=Label("Acme Security"))
    assert await name(ACME) == "Acme Security"


async def test_the_counts_of_people_are_those_of_the_first_page(worker):
    await worker.enrol(person())
    page = await worker.list_people(administrator())
    people = worker.application.handlers.people.list
    assert await people.count(worker.context(administrator())) == page.counts
    assert await people.count(worker.context(operator())) == page.counts
    assert len(await worker.events(EventKind.OPERATOR_READ)) == 1


async def test_a_screen_shows_an_elevation_only_where_it_is_known(worker, world):
    elevated = worker.application.handlers.enrollment.elevated
    context = worker.context(person())
    assert await elevated.find_live_if_known(context) is None
    app = await worker.enrol(person())
    await worker.elevate(person(), app)
    elevation = await elevated.find_live_if_known(worker.context(person()))
    assert elevation == await elevated.find_live(worker.context(person()))
    assert elevation is not None
    world.elevations.finds = False
    assert await elevated.find_live_if_known(worker.context(person())) is None


async def test_s20_an_event_of_a_page_names_the_caller_that_opened_it(worker):
    context = worker.context(person())
    session = portal_session(worker.clock.now(), page=PortalPage.ACCOUNT)
    through = replace(context, portal=session).event(EventKind.ENROLLMENT_BEGUN)
    assert through.details["portal"] == {"opened_by": CALLER, "page": "account"}
    assert "portal" not in context.event(EventKind.ENROLLMENT_BEGUN).details
