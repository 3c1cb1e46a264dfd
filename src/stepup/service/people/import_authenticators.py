"""`ImportAuthenticators`: an operator registers existing authenticators by their key URIs."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum, unique
from uuid import uuid4

from stepup.domain.actor import Operator, UserId
from stepup.domain.audit import EventKind
from stepup.domain.authenticator import Authenticator
from stepup.domain.errors import InvalidValueError, RoleRequiredError
from stepup.domain.key_uri import KeyUri, UnsupportedKeyError, WeakSecretError
from stepup.domain.person import PastAuthenticator
from stepup.domain.totp import TotpSecret, time_step
from stepup.domain.values import secret_value, value
from stepup.service.calls.context import AnyContext, Context, OutsiderContext
from stepup.service.enrollment.account_mfa import append_and_turn_account_mfa
from stepup.service.people.operator_reads import record_operator_read
from stepup.service.people.tallies import count_act
from stepup.service.ports import Database, Keys

MAX_IMPORTS = 100


@unique
class ImportOutcome(Enum):
    """The result of an import."""

    IMPORTED = "imported"
    INVALID = "invalid"
    WEAK = "weak"
    UNSUPPORTED = "unsupported"
    HAS_AUTHENTICATOR = "has_authenticator"
    ENDED_RECENTLY = "ended_recently"
    REPEATED = "repeated"


@value
class ImportResult:
    """The outcome of one entry, and why it was refused, in one sentence without the secret."""

    outcome: ImportOutcome
    problem: str = ""


@secret_value
class ImportEntry:
    """A user, and the key URI of their authenticator, not yet read. It shows in no repr (S11)."""

    user_id: UserId
    otpauth_uri: str


@dataclass(frozen=True, slots=True)
class ImportAuthenticators:
    """Registers authenticators, each in a transaction of its own."""

    database: Database
    keys: Keys

    async def __call__(
        self,
        context: AnyContext,
        entries: Sequence[ImportEntry | ImportResult],
        *,
        dry_run: bool,
    ) -> Sequence[ImportResult]:
        """Register or refuse each authenticator.

        The call is recorded as a read, too: its results say who has an authenticator.

        Args:
            context: the call of an operator.
            entries: the authenticators; a result instead of an entry is returned in its place.
            dry_run: check everything, and register nothing.

        Raises:
            RoleRequiredError: the actor is not an operator.
            StoreUnavailableError: a store failed. The entries before are registered; a repeated
                call refuses these as `HAS_AUTHENTICATOR`.
        """
        if isinstance(context, Context) or not isinstance(context.actor, Operator):
            raise RoleRequiredError("authenticators are imported by operators only")
        await record_operator_read(self.database, context, "PeopleService/ImportAuthenticators")
        results, seen = [], set[UserId]()
        for entry in entries:
            if isinstance(entry, ImportResult):
                results.append(entry)
            elif entry.user_id in seen:
                problem = "an earlier entry has the same user"
                results.append(ImportResult(ImportOutcome.REPEATED, problem))
            else:
                seen.add(entry.user_id)
                results.append(await self._register(context, entry, dry_run=dry_run))
        return results

    async def _register(
        self, context: OutsiderContext, entry: ImportEntry, *, dry_run: bool
    ) -> ImportResult:
        try:
            secret = KeyUri.parse(entry.otpauth_uri).secret
        except InvalidValueError as error:
            return refusal_of_key(error)
        if dry_run:
            refusal = await self._preview(context, entry.user_id)
        else:
            refusal = await self._add(context, entry.user_id, secret)
        return refusal or ImportResult(ImportOutcome.IMPORTED)

    async def _preview(self, context: OutsiderContext, user_id: UserId) -> ImportResult | None:
        async with self.database.snapshot(context.tenant_id) as records:
            active = await records.authenticators.find(context.tenant_id, user_id)
            past = await records.past.find(context.tenant_id, user_id)
        return _refusal(active, past, context.now)

    async def _add(
        self, context: OutsiderContext, user_id: UserId, secret: TotpSecret
    ) -> ImportResult | None:
        tenant_id, now, enrollment_id = context.tenant_id, context.now, str(uuid4())
        async with self.database.transaction(tenant_id) as records:
            active = await records.authenticators.find_for_update(tenant_id, user_id)
            past = await records.past.find(tenant_id, user_id)
            refusal = _refusal(active, past, now)
            if refusal is not None:
                return refusal
            await records.authenticators.add(
                Authenticator(
                    tenant_id=tenant_id,
                    user_id=user_id,
                    enrollment_id=enrollment_id,
                    sealed_secret=self.keys.seal(secret, tenant_id, user_id, enrollment_id),
                    activated_at=now,
                    # The operator may have seen the code of this step (S2).
                    last_step=time_step(now),
                )
            )
            # An open wizard would replace the authenticator without an elevation.
            await records.pending.remove(tenant_id, user_id)
            await records.asked.remove(tenant_id, user_id)
            imported = context.event(
                EventKind.AUTHENTICATOR_IMPORTED, user_id, enrollment_id=enrollment_id
            )
            await append_and_turn_account_mfa(records, context, imported, user_id, enabled=True)
        count_act(imported.kind)
        return None


def refusal_of_key(error: InvalidValueError) -> ImportResult:
    """The result of an authenticator whose key URI is refused."""
    match error:
        case WeakSecretError():
            outcome = ImportOutcome.WEAK
        case UnsupportedKeyError():
            outcome = ImportOutcome.UNSUPPORTED
        case _:
            outcome = ImportOutcome.INVALID
    return ImportResult(outcome, f"the key URI {error}")


def _refusal(
    active: Authenticator | None, past: PastAuthenticator | None, now: datetime
) -> ImportResult | None:
    if active is not None:
        return ImportResult(ImportOutcome.HAS_AUTHENTICATOR, "the user has an authenticator")
    if past is not None and past.forbids_import(now):
        return ImportResult(
            ImportOutcome.ENDED_RECENTLY,
            "an operator, break-glass or a deprovisioning caller ended the user's authenticator, or"
            " forgot the user, within the last 30 days: the user must enrol",
        )
    return None
