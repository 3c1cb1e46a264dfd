"""Every state of every page, and how a person comes there, in whatever language."""

from collections.abc import Callable

from playwright.sync_api import Page
from stepup_tests.browser.portal import Portal, administrator, person
from stepup_tests.browser.visitor import Visitor
from stepup_tests.e2e.authenticator_app import AuthenticatorApp

from stepup.client import ActorContext, NewChallengeItem
from stepup.client.messages import actor as people

Reach = Callable[[Portal, Visitor, str], Page]
"""Comes to a state, in a business that nobody has seen before; returns the tab."""
STATES: dict[str, Reach] = {}
"""By name; those of a page begin with its name."""


def _state(reach: Reach) -> Reach:
    STATES[reach.__name__] = reach
    return reach


def heading(page: Page) -> str:
    """What a page is about."""
    return page.locator("h1").inner_text()


def spaced(code: str) -> str:
    """A code as apps show it, and as people type it."""
    return f"{code[:3]} {code[3:]}"


def submit(page: Page, path: str, **fields: str) -> None:
    """Fill the form that leads to a path, and send it."""
    form = page.locator(f'form[action$="/{path}"]')
    for name, value in fields.items():
        form.locator(f"[name={name}]").fill(value)
    with page.expect_navigation():
        form.locator("button[type=submit]").first.click()


def key_of(page: Page) -> AuthenticatorApp:
    """The app of a person who has typed the key of the wizard."""
    shown = page.locator("details code").text_content()
    assert shown is not None
    return AuthenticatorApp(shown.replace(" ", ""))


@_state
def opening(portal: Portal, visitor: Visitor, tenant: str) -> Page:
    page = visitor.new_tab()
    page.goto(portal.link("account", person(tenant)))
    return page


@_state
def ended(portal: Portal, visitor: Visitor, tenant: str) -> Page:
    bob = person(tenant)
    page = visitor.open(portal.link("account", bob))
    portal.stepup.sign_out(bob)
    page.reload()
    return page


@_state
def enroll(portal: Portal, visitor: Visitor, tenant: str) -> Page:
    return visitor.open(portal.link("enroll", person(tenant)))


@_state
def enroll_as_administrator(portal: Portal, visitor: Visitor, tenant: str) -> Page:
    return visitor.open(portal.link("enroll", administrator(tenant)))


@_state
def enroll_with_saml(portal: Portal, visitor: Visitor, tenant: str) -> Page:
    saml = person(tenant, account_type=people.ACCOUNT_TYPE_SAML)
    return visitor.open(portal.link("enroll", saml))


@_state
def enroll_when_enrolled(portal: Portal, visitor: Visitor, tenant: str) -> Page:
    portal.enrolled(person(tenant))
    return enroll(portal, visitor, tenant)


@_state
def wizard_install(portal: Portal, visitor: Visitor, tenant: str) -> Page:
    page = enroll(portal, visitor, tenant)
    page.locator('a.button[href$="/wizard"]').click()
    return page


@_state
def wizard_scan(portal: Portal, visitor: Visitor, tenant: str) -> Page:
    page = wizard_install(portal, visitor, tenant)
    submit(page, "wizard")
    page.locator("summary").click()
    return page


@_state
def wizard_wrong_code(portal: Portal, visitor: Visitor, tenant: str) -> Page:
    page = wizard_scan(portal, visitor, tenant)
    submit(page, "wizard/scan", code=key_of(page).wrong_code())
    return page


@_state
def wizard_reset_code(portal: Portal, visitor: Visitor, tenant: str) -> Page:
    page = wizard_scan(portal, visitor, tenant)
    submit(page, "wizard/scan", code=key_of(page).code(lasting=4))
    return page


@_state
def wizard_confirmed(portal: Portal, visitor: Visitor, tenant: str) -> Page:
    page = wizard_reset_code(portal, visitor, tenant)
    page.goto(page.url.replace("wizard/scan", "wizard/reset-code"))
    return page


@_state
def wizard_done(portal: Portal, visitor: Visitor, tenant: str) -> Page:
    page = wizard_reset_code(portal, visitor, tenant)
    page.locator("input[name=stored]").check()
    submit(page, "wizard/done")
    return page


@_state
def wizard_replace(portal: Portal, visitor: Visitor, tenant: str) -> Page:
    page = enroll_when_enrolled(portal, visitor, tenant)
    page.locator('a.button[href$="/wizard"]').click()
    return page


@_state
def wizard_replace_by_reset_code(portal: Portal, visitor: Visitor, tenant: str) -> Page:
    page = wizard_replace(portal, visitor, tenant)
    page.goto(f"{page.url}?by=reset-code")
    submit(page, "wizard", reset_code="wrong")
    return page


@_state
def people_list(portal: Portal, visitor: Visitor, tenant: str) -> Page:
    for number in range(3):
        portal.enrolled(person(tenant, f"user-{number}.with.a.long.name@acme.example"))
    return visitor.open(portal.link("people", administrator(tenant)))


@_state
def people_person(portal: Portal, visitor: Visitor, tenant: str) -> Page:
    page = people_list(portal, visitor, tenant)
    page.locator("table a", has_text="user-0").click()
    return page


@_state
def people_reset(portal: Portal, visitor: Visitor, tenant: str) -> Page:
    portal.enrolled(administrator(tenant))
    page = people_person(portal, visitor, tenant)
    page.locator(".buttons a").first.click()
    submit(page, page.url.rpartition("/")[2].partition("?")[0])
    return page


@_state
def people_unknown(portal: Portal, visitor: Visitor, tenant: str) -> Page:
    page = visitor.open(portal.link("people", administrator(tenant)))
    submit(page, "person", user="nobody")
    return page


@_state
def step_up(portal: Portal, visitor: Visitor, tenant: str) -> Page:
    portal.enrolled(person(tenant))
    return visitor.open(portal.link("step_up", person(tenant)))


@_state
def step_up_refused(portal: Portal, visitor: Visitor, tenant: str) -> Page:
    wrong = portal.enrolled(person(tenant)).wrong_code()
    page = visitor.open(portal.link("step_up", person(tenant)))
    submit(page, "code", code=wrong)
    return page


@_state
def step_up_locked(portal: Portal, visitor: Visitor, tenant: str) -> Page:
    wrong = portal.enrolled(person(tenant)).wrong_code()
    page = visitor.open(portal.link("step_up", person(tenant)))
    while page.locator("input[name=code]").count():
        submit(page, "code", code=wrong)
    return page


@_state
def step_up_not_enrolled(portal: Portal, visitor: Visitor, tenant: str) -> Page:
    return visitor.open(portal.link("step_up", person(tenant)))


@_state
def challenge(portal: Portal, visitor: Visitor, tenant: str) -> Page:
    portal.enrolled(person(tenant))
    return opened_challenge(portal, visitor, tenant)


@_state
def challenge_refused(portal: Portal, visitor: Visitor, tenant: str) -> Page:
    wrong = portal.enrolled(person(tenant)).wrong_code()
    page = opened_challenge(portal, visitor, tenant)
    submit(page, "approve", code=wrong)
    return page


@_state
def challenge_not_enrolled(portal: Portal, visitor: Visitor, tenant: str) -> Page:
    return opened_challenge(portal, visitor, tenant)


@_state
def challenge_cancelled(portal: Portal, visitor: Visitor, tenant: str) -> Page:
    page = challenge_not_enrolled(portal, visitor, tenant)
    portal.stepup.sign_out(person(tenant, session="agent"))
    page.reload()
    return page


@_state
def challenge_approved(portal: Portal, visitor: Visitor, tenant: str) -> Page:
    app = portal.enrolled(person(tenant))
    challenge_id = created_challenge(portal, person(tenant))
    page, other = (
        visitor.open(portal.link("challenge", person(tenant), challenge_id=challenge_id))
        for _ in range(2)
    )
    submit(other, "approve", code=app.code(lasting=4))
    page.reload()
    return page


@_state
def challenge_of_somebody_else(portal: Portal, visitor: Visitor, tenant: str) -> Page:
    challenge_id = created_challenge(portal, person(tenant))
    carol = person(tenant, "carol")
    return visitor.open(portal.link("challenge", carol, challenge_id=challenge_id))


@_state
def challenge_pointer(portal: Portal, visitor: Visitor, tenant: str) -> Page:
    page = visitor.new_tab()
    page.goto(f"{portal.origin}/challenges/{created_challenge(portal, person(tenant))}")
    return page


@_state
def events(portal: Portal, visitor: Visitor, tenant: str) -> Page:
    created_challenge(portal, person(tenant))
    portal.stepup.revoke_elevations(person(tenant))
    return visitor.open(portal.link("events", administrator(tenant)))


@_state
def events_of_nobody(portal: Portal, visitor: Visitor, tenant: str) -> Page:
    page = visitor.open(portal.link("events", administrator(tenant)))
    page.goto(f"{page.url}?since=2020-01-01T00:00&user=nobody")
    return page


@_state
def events_download_refused(portal: Portal, visitor: Visitor, tenant: str) -> Page:
    page = visitor.open(portal.link("events", administrator(tenant)))
    page.goto(f"{page.url}export?after=everything")
    return page


@_state
def account(portal: Portal, visitor: Visitor, tenant: str) -> Page:
    portal.enrolled(person(tenant))
    return visitor.open(portal.link("account", person(tenant)))


@_state
def account_not_enrolled(portal: Portal, visitor: Visitor, tenant: str) -> Page:
    return visitor.open(portal.link("account", person(tenant)))


@_state
def account_elevated(portal: Portal, visitor: Visitor, tenant: str) -> Page:
    app = portal.enrolled(person(tenant))
    portal.stepup.verify(person(tenant), app.code(lasting=4))
    return visitor.open(portal.link("account", person(tenant)))


@_state
def account_remove_refused(portal: Portal, visitor: Visitor, tenant: str) -> Page:
    wrong = portal.enrolled(person(tenant)).wrong_code()
    page = visitor.open(portal.link("account", person(tenant)))
    page.locator('a[href$="/remove"]').click()
    submit(page, "remove", code=wrong)
    return page


@_state
def account_new_reset_code(portal: Portal, visitor: Visitor, tenant: str) -> Page:
    page = account_elevated(portal, visitor, tenant)
    page.locator('a[href$="/reset-code"]').click()
    submit(page, "reset-code")
    return page


@_state
def account_end(portal: Portal, visitor: Visitor, tenant: str) -> Page:
    page = account_not_enrolled(portal, visitor, tenant)
    page.locator('a[href$="/end"]').click()
    return page


@_state
def account_reset_refused(portal: Portal, visitor: Visitor, tenant: str) -> Page:
    page = account(portal, visitor, tenant)
    page.locator('a[href$="/reset"]').click()
    submit(page, "reset", reset_code="not a reset code")
    return page


@_state
def policy_off(portal: Portal, visitor: Visitor, tenant: str) -> Page:
    return visitor.open(portal.link("policy", administrator(tenant)))


@_state
def policy_panel(portal: Portal, visitor: Visitor, tenant: str) -> Page:
    """The panel of a business whose policy is on."""
    page = policy_off(portal, visitor, tenant)
    page.locator('a[href$="/panel"]').first.click()
    page.locator("input[name=enabled]").check()
    for operation in ("response.run_osquery", "response.start_remote_shell"):
        page.locator(f'input[value="{operation}"]').check()
    save_policy(page)
    return page


@_state
def policy_weakened(portal: Portal, visitor: Visitor, tenant: str) -> Page:
    portal.enrolled(administrator(tenant))
    page = policy_panel(portal, visitor, tenant)
    page.locator("input[name=enabled]").uncheck()
    page.locator('input[value="response.run_osquery"]').uncheck()
    save_policy(page)
    return page


@_state
def policy_weakened_by_a_wrong_code(portal: Portal, visitor: Visitor, tenant: str) -> Page:
    page = policy_weakened(portal, visitor, tenant)
    submit(page, "panel", code="12345")
    return page


@_state
def policy_saved_by_two(portal: Portal, visitor: Visitor, tenant: str) -> Page:
    page = policy_panel(portal, visitor, tenant)
    other = visitor.open(portal.link("policy", administrator(tenant, "eve")))
    other.locator("input[name=issuer]").fill("Acme Security")
    save_policy(other)
    page.locator("input[name=issuer]").fill("Acme")
    save_policy(page)
    return page


def save_policy(page: Page) -> None:
    """Press the button at the end of the policy panel."""
    with page.expect_navigation():
        page.locator('form[action$="/panel"] > .buttons button').last.click()


def opened_challenge(portal: Portal, visitor: Visitor, tenant: str) -> Page:
    """The page of a challenge for Bob."""
    bob = person(tenant)
    link = portal.link("challenge", bob, challenge_id=created_challenge(portal, bob))
    return visitor.open(link)


def created_challenge(portal: Portal, actor: ActorContext) -> str:
    """The id of a challenge that an agent has created for a person, in a session of its own."""
    agent = ActorContext()
    agent.CopyFrom(actor)
    agent.session_id = f"{actor.user_id}-agent"
    items = [
        NewChallengeItem(operation="response.start_remote_shell", target=target, label=label)
        for target, label in (
            ("i-0f3a9be2d7c1f7744", "mail.acme.example"),
            (
                "i-0b1e27c61a5d9c0aa",
                "A host with a long name, which is in the cellar of building 7",
            ),
        )
    ]
    items.append(NewChallengeItem(operation="response.run_osquery", target="h-1", label="h-1"))
    created = portal.stepup.challenges.create(agent, items=items, message="Look into incident 7")
    return created.challenge.challenge_id
