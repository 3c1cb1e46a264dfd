"""Ends elevations: at sign-out (`RevokeElevations`), and ahead of the change feed."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum, unique

import structlog

from stepup.domain.actor import SessionHash, TenantId, UserId
from stepup.domain.audit import EventKind
from stepup.domain.authenticator import Authenticator
from stepup.domain.changes import Revocation, SessionRevoked, UserRevoked
from stepup.domain.errors import StoreUnavailableError
from stepup.service.calls.context import AnyContext, Context, OutsiderContext
from stepup.service.challenges.end import revoke_challenges
from stepup.service.challenges.waits import Waits
from stepup.service.people.tallies import count_act
from stepup.service.policy.snapshots import Snapshots
from stepup.service.ports import Database, Elevations

_log = structlog.get_logger(__name__)
_INSTANT = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Revoker:
    """Ends elevations in this worker and in Redis, after the change feed has the change.

    The revoker also wakes the waits for challenges that the revocation may have ended.

    If Redis does not answer, the revocation still takes effect everywhere within two seconds (S10).
    The failure is logged, and the sign-out succeeds.
    """

    elevations: Elevations
    snapshots: Snapshots
    waits: Waits

    async def put_into_effect(self, change: Revocation, now: datetime) -> None:
        """End what the change ends; `now` is when the call that made it was received."""
        self.snapshots.apply(change)
        self.waits.notify(change.tenant_id, change.user_id)
        try:
            match change:
                case SessionRevoked(tenant_id, user_id, session_hash):
                    await self.elevations.revoke_session(tenant_id, user_id, session_hash)
                case UserRevoked(tenant_id, user_id, through):
                    await self.elevations.revoke_user(tenant_id, user_id, through)
                case ended:
                    # Strictly before now: completing a replacement elevates at this very instant.
                    await self.elevations.revoke_user(
                        ended.tenant_id, ended.user_id, now - _INSTANT
                    )
        except StoreUnavailableError:
            _log.warning("revocation_left_to_the_change_feed", change=type(change).__name__)


@unique
class Scope(Enum):
    """Which of a user's elevations end."""

    SESSION = "session"
    USER = "user"


@dataclass(frozen=True, slots=True)
class RevokeElevations:
    """Ends elevations, and the wizards and challenges of the same sessions."""

    database: Database
    revoker: Revoker
    back_steps: int = 0

    async def __call__(self, context: Context, scope: Scope) -> None:
        """Revoke durably: void what was verified up to now, and end the challenges of the scope.

        Raises:
            StoreUnavailableError: the revocation could not be committed.
        """
        session = context.actor.session_hash if scope is Scope.SESSION else None
        kind = EventKind.ELEVATIONS_REVOKED
        await self._revoke(context, context.actor.user_id, session, kind)

    async def by_operator(self, context: OutsiderContext, user_id: UserId) -> None:
        """Revoke all elevations of a user, for an operator.

        Raises:
            StoreUnavailableError: the revocation could not be committed.
        """
        kind = EventKind.ELEVATIONS_REVOKED_BY_OPERATOR
        await self._revoke(context, user_id, None, kind)
        count_act(kind)

    async def _revoke(
        self,
        context: AnyContext,
        user_id: UserId,
        session: SessionHash | None,
        kind: EventKind,
    ) -> None:
        tenant_id, now = context.tenant_id, context.now
        scope = Scope.USER if session is None else Scope.SESSION
        async with self.database.transaction(tenant_id) as records:
            # The authenticator, or its absence, first: everything that ends one takes its locks in
            # this order, and what an elevation permits is compared with revocations under them.
            active = await records.authenticators.find_for_update(tenant_id, user_id)
            of_user = revocation_of_user(tenant_id, user_id, active, now, self.back_steps)
            change: Revocation = of_user
            if session is not None:
                change = SessionRevoked(tenant_id, user_id, session, of_user.through)
            challenges = await revoke_challenges(records, tenant_id, user_id, now, session)
            await records.pending.remove(tenant_id, user_id, session)
            await records.changes.announce(change, now)
            await records.audit.append(
                context.event(kind, user_id, scope=scope.value, **challenges)
            )
        await self.revoker.put_into_effect(change, now)


def revocation_of_user(
    tenant_id: TenantId,
    user_id: UserId,
    active: Authenticator | None,
    now: datetime,
    back_steps: int,
) -> UserRevoked:
    """The change that voids what the user was allowed up to now.

    Args:
        tenant_id: the tenant.
        user_id: the user.
        active: the authenticator of the user, locked in the transaction of the change; None without
            one.
        now: when the call was received.
        back_steps: for how many steps after its own a code is accepted.
    """
    # The clock that dated an elevation may be ahead of this one, which was perhaps set.
    through = max(now, active.elevated_through(back_steps)) if active else now
    return UserRevoked(tenant_id, user_id, through)
