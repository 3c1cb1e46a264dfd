"""When the page of a challenge leads through the wizard: while its person has no authenticator."""

from dataclasses import dataclass

from stepup.domain.actor import Actor
from stepup.domain.errors import CallerNotPermittedError
from stepup.service.ports import Database


@dataclass(frozen=True, slots=True)
class DemandNoAuthenticator:
    """Refuses the wizard to people who can answer with the authenticator that they have (S20)."""

    database: Database

    async def __call__(self, actor: Actor) -> None:
        """Demand that the person has no authenticator.

        Raises:
            CallerNotPermittedError: the person has one.
            StoreUnavailableError: the database cannot be read.
        """
        async with self.database.snapshot(actor.tenant_id) as records:
            active = await records.authenticators.find(actor.tenant_id, actor.user_id)
        if active is not None:
            raise CallerNotPermittedError(
                "the page challenge reaches the wizard only for people without an authenticator"
            )
