"""`BeginEnrollment`, the wizard's first screen: the secret, to scan or to type."""

from dataclasses import dataclass, replace
from datetime import datetime
from uuid import uuid4

from stepup.domain.audit import EventKind
from stepup.domain.authenticator import Authenticator
from stepup.domain.elevation import Elevation
from stepup.domain.enrollment import PENDING_LIFETIME, EnrollmentState, PendingEnrollment
from stepup.domain.errors import ElevationRequiredError
from stepup.domain.labels import issuer_of_tenant, label_of_authenticator
from stepup.domain.reset_code import ResetCode
from stepup.domain.totp import Label, TotpSecret, key_uri
from stepup.service.calls.context import Context
from stepup.service.enrollment.reset_codes import ResetAttempt, try_reset_code
from stepup.service.enrollment.wizard import is_open
from stepup.service.ports import Database, Keys, Records
from stepup.service.step_up.elevated import Elevated, is_revoked


@dataclass(frozen=True, slots=True, repr=False)
class Screen:
    """The first screen. Secret and key URI never show in a repr (S11).

    Both are None once the wizard is confirmed (S6). `by_reset_code` says that the reset code of
    this call was right, and opened the wizard.
    """

    enrollment_id: str
    state: EnrollmentState
    expires_at: datetime
    secret: TotpSecret | None = None
    otpauth_uri: str | None = None
    by_reset_code: bool = False


@dataclass(frozen=True, slots=True)
class BeginEnrollment:
    """Opens the wizard, or shows its first screen again."""

    database: Database
    elevated: Elevated
    keys: Keys
    issuer: Label

    async def __call__(
        self, context: Context, account_name: Label, reset_code: ResetCode | None = None
    ) -> Screen | ResetAttempt:
        """Return the screen of this session's wizard, open or new; or a refused reset code.

        A confirmed wizard is shown without its secret (S6). A wizard that is shown again keeps its
        label and issuer.

        Raises:
            ElevationRequiredError: an authenticator is active, and neither a live elevation nor a
                reset code permits to replace it.
            StoreUnavailableError: no wizard was opened.
        """
        actor, now = context.actor, context.now
        issuer, elevation = await self._read_ahead(context)
        async with self.database.transaction(actor.tenant_id) as records:
            active = await records.authenticators.find_for_update(actor.tenant_id, actor.user_id)
            pending = await records.pending.find_for_update(
                actor.tenant_id, actor.user_id, actor.session_hash
            )
            if pending is not None and await is_open(records, pending, now):
                return self._screen(pending)

            if not await _permits(records, elevation, active):
                elevation = None
            if active is not None and elevation is None:
                if reset_code is None:
                    raise ElevationRequiredError(
                        "replacing the authenticator in force needs an elevated session or its"
                        " reset code: give a code first, or send reset_code"
                    )
                attempt = await try_reset_code(records, self.keys, context, active, reset_code)
                if not attempt.is_accepted:
                    return attempt
            pending = await self._open(
                records, context, active, elevation, issuer=issuer, account_name=account_name
            )
        return replace(self._screen(pending), by_reset_code=pending.by_reset_code)

    async def _read_ahead(self, context: Context) -> tuple[Label, Elevation | None]:
        """Read the tenant's issuer and, if an authenticator is active, the session's elevation.

        This happens before any lock is held.
        """
        actor = context.actor
        async with self.database.snapshot(actor.tenant_id) as records:
            policy = await records.policies.find(actor.tenant_id)
            active = await records.authenticators.find(actor.tenant_id, actor.user_id)
        own_issuer = policy.issuer if policy else None
        issuer = issuer_of_tenant(own_issuer, self.issuer, actor.tenant_id)
        elevation = await self.elevated.find_live(context) if active else None
        return issuer, elevation

    async def _open(
        self,
        records: Records,
        context: Context,
        active: Authenticator | None,
        elevation: Elevation | None,
        *,
        issuer: Label,
        account_name: Label,
    ) -> PendingEnrollment:
        actor, enrollment_id = context.actor, str(uuid4())
        pending = PendingEnrollment(
            tenant_id=actor.tenant_id,
            user_id=actor.user_id,
            session_hash=actor.session_hash,
            enrollment_id=enrollment_id,
            sealed_secret=self.keys.seal(
                TotpSecret.generate(), actor.tenant_id, actor.user_id, enrollment_id
            ),
            # A new label, so that the app keeps the entry of the authenticator in force.
            account_name=label_of_authenticator(
                account_name, active.generation + 1 if active else 1
            ),
            expires_at=context.now + PENDING_LIFETIME,
            issuer=issuer,
            replaces=active.enrollment_id if active else None,
            by_reset_code=active is not None and elevation is None,
            elevated_at=elevation.verified_at if elevation else None,
        )
        await records.pending.replace(pending)
        await records.audit.append(
            context.event(
                EventKind.ENROLLMENT_BEGUN,
                enrollment_id=enrollment_id,
                replaces=pending.replaces,
                by_reset_code=pending.by_reset_code,
            )
        )
        return pending

    def _screen(self, pending: PendingEnrollment) -> Screen:
        screen = Screen(pending.enrollment_id, pending.state, pending.expires_at)
        if pending.state is EnrollmentState.CONFIRMED:
            return screen
        secret = self.keys.open(
            pending.sealed_secret, pending.tenant_id, pending.user_id, pending.enrollment_id
        )
        uri = key_uri(secret, pending.issuer or self.issuer, pending.account_name)
        return replace(screen, secret=secret, otpauth_uri=uri)


async def _permits(
    records: Records, elevation: Elevation | None, active: Authenticator | None
) -> bool:
    """Whether an elevation that was read earlier permits to replace the locked authenticator.

    A revocation takes the same lock: either it comes before, and counts here, or it comes later,
    and ends the wizard.
    """
    return (
        elevation is not None
        and active is not None
        and active.enrollment_id == elevation.enrollment_id
        and not await is_revoked(records, elevation)
    )
