"""The facts of an actor that the rules of a decision need."""

from dataclasses import replace

from stepup.domain.authenticator import Authenticator
from stepup.domain.decision import Fact, Facts, Reason, Verdict, decide
from stepup.domain.errors import StoreUnavailableError
from stepup.domain.item_use import RefusedChallenge, UsedItem
from stepup.domain.not_elevated import NotElevatedDetail, explain_not_elevated
from stepup.domain.operations import Operation
from stepup.domain.policy import Policy
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

    async def decide_without_use(
        self,
        operation: Operation,
        policy: Policy,
        use_of_item: UsedItem | RefusedChallenge | None = None,
    ) -> Verdict:
        """Decide as for a check, without a receipt; look up what the rules need, and write nothing.

        Args:
            operation: what the actor wants to do.
            policy: of the actor's tenant.
            use_of_item: the result that the use of the challenge's item would have; None without a
                challenge.

        Raises:
            StoreUnavailableError: a fact cannot be looked up.
        """
        actor = replace(
            self._context.actor,
            retry_receipt=None,
            challenge_id=None if use_of_item is None else self._context.actor.challenge_id,
        )
        while not isinstance(
            step := decide(
                operation, actor, policy, self._context.now, self.known, use_of_item=use_of_item
            ),
            Verdict,
        ):
            assert isinstance(step, Fact)  # noqa: S101  # the actor presents nothing to use up
            await self.look_up(step)
        return step

    def detail_of(self, verdict: Verdict) -> NotElevatedDetail | None:
        """Why the session is not elevated; None if that is not the reason, or is not on record."""
        if verdict.reason is not Reason.NOT_ELEVATED or self.authenticator is None:
            return None
        try:
            return explain_not_elevated(
                self.authenticator,
                self._context.actor.session_hash,
                self._elevated.snapshots.revocations(),
                self._context.now,
            )
        except StoreUnavailableError:
            return None

    def forget(self) -> None:
        """Forget all facts: a revocation may have changed them."""
        self.known = {}
        self.authenticator = None
