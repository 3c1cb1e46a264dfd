"""The facts of an actor that the rules of a decision need."""

from stepup.domain.authenticator import Authenticator
from stepup.domain.decision import Fact, Facts
from stepup.service.calls.context import Context
from stepup.service.enrollment.wizard import find_active
from stepup.service.ports import Database
from stepup.service.step_up.elevated import Elevated


class ActorFacts:
    """Looks up the facts of a call's actor, and keeps them for all checks of the call.

    `known` has the facts so far. `authenticator` is the active authenticator, None if the user has
    none or no rule needed `Fact.ENROLLED`.
    """

    def __init__(self, elevated: Elevated, database: Database, context: Context) -> None:
        self._elevated = elevated
        self._database = database
        self._context = context
        self.known: Facts = {}
        self.authenticator: Authenticator | None = None

    async def look_up(self, fact: Fact) -> None:
        """Look a fact up in its store.

        Raises:
            StoreUnavailableError: the fact cannot be known.
        """
        actor = self._context.actor
        if fact is Fact.ELEVATION:
            self.known["elevation"] = await self._elevated.find(self._context)
        elif fact is Fact.ENROLLED:
            self.authenticator = await find_active(self._database, self._context)
            self.known["enrolled"] = self.authenticator is not None
        elif fact is Fact.EVER_ENROLLED:
            async with self._database.snapshot(actor.tenant_id) as records:
                ever = await records.people.ever_enrolled(actor.tenant_id, actor.user_id)
            self.known["ever_enrolled"] = ever
        else:
            async with self._database.snapshot(actor.tenant_id) as records:
                enabled = await records.accounts.mfa_enabled(actor.tenant_id, actor.user_id)
            self.known["account_mfa"] = enabled

    def forget(self) -> None:
        """Forget all facts: a revocation may have changed them."""
        self.known = {}
        self.authenticator = None
