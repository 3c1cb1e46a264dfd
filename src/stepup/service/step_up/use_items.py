"""Use up the items of the challenge that a call's actor presents (S19)."""

from uuid import UUID

from stepup.domain.audit import EventKind
from stepup.domain.challenge import Challenge, ChallengeState
from stepup.domain.item_use import ChallengeRejection, RefusedChallenge, Stranger, UsedItem, fit
from stepup.service.ports import Records
from stepup.service.step_up.proofs import Presented, Proofs


class UseItems:
    """Uses up items of one challenge, in the transaction of the call's proofs.

    One read without a transaction serves all checks, so that no other call waits for a challenge
    that allows nothing.
    """

    def __init__(self, proofs: Proofs) -> None:
        self._proofs = proofs
        self._context = proofs.context
        self._is_read = False
        self._challenge: Challenge | None = None
        self._stranger: Stranger | None = None
        self._is_honoured = False

    async def __call__(self, presented: Presented) -> UsedItem | RefusedChallenge:
        """Use up the item that names the check's action, or share its first use.

        A second call with the same item waits here until the first one has ended.

        Raises:
            StoreUnavailableError: the database does not say whether the item was used.
        """
        challenge = await self._read()
        if challenge is None:
            return RefusedChallenge(ChallengeRejection.UNKNOWN, self._stranger)
        place = self._fit(challenge, presented)
        if isinstance(place, int) and challenge.items[place].used is None:
            records = await self._proofs.begin()
            if not self._is_honoured:
                # Checks that use several items in different orders would wait for each other.
                await records.challenges.lock(challenge.tenant_id, challenge.challenge_id)
            # Only for the first item: `conclude` checks again for all items.
            if not self._is_honoured and await self._is_void(challenge):
                return RefusedChallenge(ChallengeRejection.REVOKED)
            if await self._use_up(records, challenge, place, presented):
                return UsedItem(challenge, presented.use)
            # Since the read, another call has used the item or ended the challenge.
            self._challenge = challenge = await self._find(records) or challenge
            place = self._fit(challenge, presented)
        if isinstance(place, int):
            place = RefusedChallenge(ChallengeRejection.ITEM_USED)
        elif place.rejection is not ChallengeRejection.EXPIRED:
            return place
        # This check may be a resend that came too late, of a check that came in time.
        return await self._share(challenge, presented) or place

    async def preview(self, presented: Presented) -> UsedItem | RefusedChallenge:
        """Return what a first use would return now. Uses nothing up, and waits for no lock.

        Raises:
            StoreUnavailableError: the database cannot be read.
        """
        challenge = await self._read()
        if challenge is None:
            return RefusedChallenge(ChallengeRejection.UNKNOWN, self._stranger)
        place = self._fit(challenge, presented)
        if isinstance(place, RefusedChallenge):
            return place
        if challenge.items[place].used is not None:
            return RefusedChallenge(ChallengeRejection.ITEM_USED)
        if await self._is_void(challenge):
            return RefusedChallenge(ChallengeRejection.REVOKED)
        return UsedItem(challenge, presented.use)

    async def is_any_void(self) -> bool:
        """See `Honoured`."""
        if not self._is_honoured:
            return False
        async with self._proofs.reader() as records:
            challenge = await self._find(records)
        return challenge is None or await self._is_void(challenge)

    async def _read(self) -> Challenge | None:
        if self._is_read:
            return self._challenge
        async with self._proofs.reader() as records:
            self._challenge = await self._find(records)
            is_others = self._challenge is None and await records.challenges.is_of_other_tenant(
                self._context.actor.tenant_id, self._challenge_id
            )
        if is_others:
            self._stranger = Stranger.OTHER_TENANT
        self._is_read = True
        return self._challenge

    async def _find(self, records: Records) -> Challenge | None:
        return await records.challenges.find(self._context.actor.tenant_id, self._challenge_id)

    @property
    def _challenge_id(self) -> UUID:
        challenge_id = self._context.actor.challenge_id
        assert challenge_id is not None  # noqa: S101  # `decide` asks for no use without it
        return challenge_id

    def _fit(self, challenge: Challenge, presented: Presented) -> int | RefusedChallenge:
        return fit(
            challenge,
            self._context.caller,
            presented.actor,
            self._context.now,
            operation=presented.operation,
            target=presented.target,
        )

    async def _use_up(
        self, records: Records, challenge: Challenge, place: int, presented: Presented
    ) -> bool:
        """Record the use of an item; return False if it was used, or the challenge has ended."""
        is_used = await records.challenges.use_item(
            challenge.tenant_id, challenge.challenge_id, place, presented.use
        )
        if is_used:
            self._is_honoured = True
            event = self._context.event(
                EventKind.CHALLENGE_ITEM_USED,
                decision_id=str(presented.use.decision_id),
                challenge_id=str(challenge.challenge_id),
                operation=presented.operation,
                target=presented.target,
            )
            self._proofs.note_use(event)
        return is_used

    async def _share(
        self, challenge: Challenge, presented: Presented
    ) -> UsedItem | RefusedChallenge | None:
        """The earlier use by the same check, if this check is a resend.

        Returns:
            The use; None if the item is unused or another check used it; or `REVOKED`, if a
            revocation came in between.
        """
        place = challenge.find_item(presented.operation, presented.target)
        used = None if place is None else challenge.items[place].used
        if used is None or not used.is_shared_with(presented.use):
            return None
        if await self._is_void(challenge):
            return RefusedChallenge(ChallengeRejection.REVOKED)
        self._is_honoured = True
        return UsedItem(challenge, used, is_repeated=True)

    async def _is_void(self, challenge: Challenge) -> bool:
        """Whether the challenge has ended, other than by its time (S10).

        `fit` compares its time with the instant at which the server received the call.
        """
        ends = await self._proofs.read_ends(challenge.session_hash)
        return challenge.stored_state is not ChallengeState.APPROVED or challenge.is_revoked(*ends)
