"""The demo business: its people, and what their console knows about them."""

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from threading import Lock
from typing import Final

from stepup.client import ActorContext, NewChallengeItem, StepUpClient
from stepup.client.messages import actor as people
from stepup.client.messages import challenge, policy, portal
from stepup.domain.totp import STEP_SECONDS, TotpSecret, code_at, time_step

TENANT: Final = "acme"
ISSUER: Final = "Acme Security"
_SHELL: Final = "response.start_remote_shell"
_HOSTS: Final = {"host-1": "mail.acme.example", "host-2": "files.acme.example"}
PAGES: Final[Mapping[str, tuple[str, portal.PortalPage.ValueType]]] = {
    "policy": ("ada", portal.PORTAL_PAGE_POLICY),
    "people": ("ada", portal.PORTAL_PAGE_PEOPLE),
    "events": ("ada", portal.PORTAL_PAGE_EVENTS),
    "wizard": ("bob", portal.PORTAL_PAGE_ENROLL),
    "code": ("bob", portal.PORTAL_PAGE_STEP_UP),
    "account": ("bob", portal.PORTAL_PAGE_ACCOUNT),
    "challenge": ("carol", portal.PORTAL_PAGE_CHALLENGE),
}
"""Whom each address of the console signs in, and the page that it opens."""


class Phone:
    """An authenticator app, for people who have none at hand."""

    def __init__(self) -> None:
        self._secrets: dict[str, TotpSecret] = {}
        self._used: dict[str, int] = {}

    def add(self, name: str, key: str) -> None:
        """Add an account by the key that the wizard shows.

        Raises:
            InvalidValueError: it is not a key.
        """
        self._secrets[name] = TotpSecret.from_base32("".join(key.split()))

    def use_code(self, name: str) -> str:
        """Return the present code of an account, which is not shown again: a code counts once."""
        self._used[name] = step = time_step(datetime.now(UTC))
        return code_at(self._secrets[name], step).digits

    def codes(self) -> dict[str, str]:
        """The present codes by account, empty for a code that was used."""
        step = time_step(datetime.now(UTC))
        return {
            name: "" if self._used.get(name) == step else code_at(secret, step).digits
            for name, secret in self._secrets.items()
        }

    @staticmethod
    def seconds_left() -> int:
        """How many seconds remain until the next codes."""
        return STEP_SECONDS - int(time.time()) % STEP_SECONDS


class Business:
    """Ada administers it, Bob has no authenticator yet, Carol has hers in `phone`.

    Args:
        stepup: the client of the console's backend.
        console: the address of the console, to which the pages send people back.
    """

    def __init__(self, stepup: StepUpClient, console: str) -> None:
        self.phone = Phone()
        self._stepup = stepup
        self._console = console
        self._challenge_id = ""
        self._lock = Lock()

    def prepare(self) -> None:
        """Name the business, and let Carol go through the wizard.

        Raises:
            StepUpError: the service refuses a call.
        """
        stored = self._stepup.policy.get(tenant_id=TENANT).policy
        named = policy.Policy(issuer=ISSUER, etag=stored.etag)
        self._stepup.policy.update(_person("ada"), policy=named, update_mask=["issuer"])
        carol = _person("carol")
        self.phone.add("Carol", self._stepup.enrollment.begin(carol).secret)
        self._stepup.enrollment.confirm(carol, code=self.phone.use_code("Carol"))
        self._stepup.enrollment.complete(carol, reset_code_stored=True)

    def open(self, name: str, locale: str) -> str:
        """Open a page for its person; returns the address to which to redirect them.

        Raises:
            StepUpError: the service refuses the call.
        """
        user, page = PAGES[name]
        opened = self._stepup.portal.create(
            _person(user),
            page=page,
            challenge_id=self._pending_challenge() if name == "challenge" else "",
            return_url=f"{self._console}/?from={name}",
            locale=locale,
            account_name=f"{user}@acme.example",
        )
        return opened.url

    def challenge_state(self) -> str:
        """The state of the last challenge, empty if there is none."""
        if not self._challenge_id:
            return ""
        found = self._stepup.challenges.get(_person("carol"), challenge_id=self._challenge_id)
        return challenge.ChallengeState.Name(found.challenge.state).removeprefix("CHALLENGE_STATE_")

    def _pending_challenge(self) -> str:
        """The challenge that waits for Carol; an agent creates one if none does."""
        with self._lock:
            if self.challenge_state() != "PENDING":
                items = [
                    NewChallengeItem(operation=_SHELL, target=target, label=label)
                    for target, label in _HOSTS.items()
                ]
                created = self._stepup.challenges.create(
                    _person("carol", "agent"), items=items, message="Look into incident 7"
                )
                self._challenge_id = created.challenge.challenge_id
            return self._challenge_id


def _person(user: str, session: str = "browser") -> ActorContext:
    role = people.ROLE_MASTER_ADMINISTRATOR if user == "ada" else people.ROLE_UNSPECIFIED
    return ActorContext(
        tenant_id=TENANT,
        user_id=user,
        session_id=f"{user}-{session}",
        account_type=people.ACCOUNT_TYPE_LOCAL,
        role=role,
    )
