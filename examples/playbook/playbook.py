"""A playbook engine: an automatic run, a run that a person approves, retries after a time-out."""

import asyncio
import os
import uuid
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from stepup.client import ActorContext, AsyncStepUpClient, NewChallengeItem, PlaybookRun
from stepup.client.messages import actor as messages
from stepup.client.messages import challenge

PLAYBOOK = "inventory-after-incident"
OPERATION = "response.run_osquery"
TENANT = os.environ.get("TENANT", "acme")
Agent = Callable[[str], Awaitable[Any]]
Show = Callable[[challenge.Challenge], Any]


def new_run(*, automatic: bool) -> PlaybookRun:
    trigger = messages.PLAYBOOK_TRIGGER_AUTOMATIC if automatic else messages.PLAYBOOK_TRIGGER_MANUAL
    return PlaybookRun(playbook_id=PLAYBOOK, run_id=str(uuid.uuid4()), trigger=trigger)


def automatic_run() -> ActorContext:
    """Return the actor of a run that an event started. Its response actions are exempt.

    The run has no person: its user is the playbook, by an id that no person has. The run has no
    sign-in either: its session is the run.
    """
    run = new_run(automatic=True)
    return ActorContext(
        tenant_id=TENANT,
        user_id=f"playbook.{PLAYBOOK}",
        session_id=run.run_id,
        playbook_run=run,
    )


def manual_run(user_id: str, session_id: str) -> ActorContext:
    """Return the actor of a run that a person started: the person, in the sign-in session."""
    return ActorContext(
        tenant_id=TENANT,
        user_id=user_id,
        session_id=session_id,
        playbook_run=new_run(automatic=False),
    )


class Engine:
    """Runs one action on many hosts. The agent has some seconds for each of them."""

    def __init__(self, stepup: AsyncStepUpClient, agent: Agent, *, seconds: float = 60) -> None:
        self._stepup, self._agent, self._seconds = stepup, agent, seconds

    async def run(self, actor: ActorContext, host: str, challenge_id: str = "") -> Any:
        """Run the action on a host, three times at most while it times out.

        A try after a time-out presents the receipt of the try before it.
        """
        action = self._stepup.action(actor, OPERATION, target=host, challenge_id=challenge_id)
        tries_left = 3
        while True:
            try:
                async with action, asyncio.timeout(self._seconds):
                    return await self._agent(host)
            except TimeoutError:
                tries_left -= 1
                if not tries_left:
                    raise

    async def run_on_all(self, actor: ActorContext, hosts: Iterable[str], show: Show) -> list[Any]:
        """Let the person approve all hosts by one code; then run the action on each of them.

        Each host is checked when its action begins, and its approval counts once.
        """
        items = [NewChallengeItem(operation=OPERATION, target=h, label=h) for h in hosts]
        approved = await self._stepup.approve(actor, items, f"Run {PLAYBOOK}", show=show)
        runs = (self.run(actor, item.target, approved.challenge_id) for item in items)
        return await asyncio.gather(*runs, return_exceptions=True)


async def run_osquery(host: str) -> None:
    print(f"osquery runs on {host}")


async def main() -> None:
    async with AsyncStepUpClient.from_env() as stepup:
        engine = Engine(stepup, run_osquery)
        await engine.run(automatic_run(), "host-0")
        hosts = [f"host-{number}" for number in range(1, 51)]
        bob = manual_run("bob", session_id="bob-monday")
        await engine.run_on_all(bob, hosts, lambda c: print("Approve challenge", c.challenge_id))


if __name__ == "__main__":
    asyncio.run(main())
