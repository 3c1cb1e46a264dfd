"""A worker of the service: the application as it is wired, and short words for its use cases."""

from dataclasses import dataclass, replace
from datetime import datetime

from stepup.domain.actor import Actor, CallerId, Operator, RetryReceipt, SessionId, UserId
from stepup.domain.callers import Grant, claims_of
from stepup.domain.elevation import LIFETIME, Outcome
from stepup.domain.operations import OperationId
from stepup.domain.policy import PolicyChange
from stepup.domain.reset_code import ResetCode
from stepup.domain.text import StatedReason
from stepup.domain.totp import Label, OtpCode
from stepup.service.audit.prune import PRUNE, PruneAudit
from stepup.service.calls.context import Context, HostContext, OutsiderContext
from stepup.service.people.break_glass import BREAK_GLASS, BreakGlass
from stepup.service.people.import_authenticators import ImportEntry
from stepup.service.portal.resolve import ResolvePortalSession
from stepup.service.ports import EventQuery
from stepup.service.step_up.check import Check
from stepup.service.step_up.revocation import Scope
from stepup.wiring.credentials import LOCAL_CALLER
from stepup.wiring.server import assemble
from stepup_tests.challenges import new_challenge
from stepup_tests.otp import code_at, wrong_code_at
from stepup_tests.people import ACME, CALLER, WEB, administrator, person
from stepup_tests.portal import new_session

OSQUERY = "response.run_osquery"
REMOTE_SHELL = "response.start_remote_shell"
API_KEYS = "iam.configure_api_keys"
SIGN_IN = "account.sign_in"
REQUEST_ID = "request-1"


def details_of(actor, **further):
    """The details of an event of a worker's call: those that every event has, and further ones."""
    if isinstance(actor, Actor):
        further["session"] = actor.session_hash
    if isinstance(actor, Operator):
        further["operator"] = {"name": actor.name, "reason": actor.reason}
    return {"request_id": REQUEST_ID, **further}


@dataclass(frozen=True)
class App:
    """What a person has after the wizard: the authenticator app, and the reset code on paper."""

    enrollment_id: str
    secret: bytes
    reset_code: ResetCode

    def code(self, now: datetime, *, steps: int = 0) -> str:
        """What the app shows."""
        return code_at(self.secret, now, steps=steps)

    def wrong_code(self, now: datetime) -> str:
        """What the app does not show, just now or around now."""
        return wrong_code_at(self.secret, now)


class Worker:
    """Calls the use cases of one application, at the time of the clock."""

    def __init__(self, stores, settings, clock):
        self.clock = clock
        self.catalogue = settings.operations
        self.application = assemble(stores, settings, clock)
        self.snapshots = self.application.snapshots
        self.database = stores.database
        self.portal_sessions = stores.portal_sessions
        self._keys = stores.keys
        self._step_up = self.application.handlers.step_up
        self._challenge = self.application.handlers.challenge
        self.waits = self._challenge.waits
        self._enrollment = self.application.handlers.enrollment
        self._people = self.application.handlers.people
        self._policy = self.application.handlers.policy
        self._portal = self.application.handlers.portal
        self._resolve_portal = ResolvePortalSession(stores.portal_sessions, stores.database)
        self._audit = self.application.handlers.audit.events

    async def advance(self, *, seconds=0, minutes=0):
        """Let time pass for everybody; this worker has polled when it is over."""
        self.clock.advance(seconds=seconds, minutes=minutes)
        await self.poll()

    async def poll(self):
        await self.snapshots.poll()

    def context(self, actor, caller=CALLER, operations=(None,)):
        """The call of a caller that has been let in, and may assert what the actor has."""
        rule = LOCAL_CALLER.rules[0]
        grants = {
            operation: Grant(rule, dict.fromkeys(claims_of(actor, operation), rule))
            for operation in operations
        }
        identities = (f"spiffe://acme/{caller}",)
        kind = Context if isinstance(actor, Actor) else OutsiderContext
        return kind(caller, actor, self.clock.now(), REQUEST_ID, identities, grants)

    async def check(self, actor, operation=OSQUERY, target="host-1", **options):
        [answer] = await self.check_all(actor, [(operation, target)], **options)
        return answer

    async def check_all(self, actor, checks, *, caller=CALLER, request_id=None, context=None):
        """Check operations and targets, each with a receipt of its own if one is given."""
        wanted = [
            Check(self.catalogue.find(operation), target, *map(RetryReceipt, receipt))
            for operation, target, *receipt in checks
        ]
        if context is None:
            context = self.context(actor, caller, [check.operation.id for check in wanted])
        return await self._step_up.check(context, wanted, request_id)

    async def retry(self, actor, receipt, operation=OSQUERY, target="host-1", **options):
        """Check the retry of an action that timed out."""
        claimed = replace(actor, retry_receipt=RetryReceipt(receipt))
        return await self.check(claimed, operation, target, **options)

    async def explain(self, asking, subject, operation=OSQUERY, target="host-1", *, caller=CALLER):
        """Explain a check of a subject to a person or an operator."""
        check = Check(self.catalogue.find(operation), target)
        return await self._step_up.explain(self.context(asking, caller), subject, check)

    async def verify(self, actor, code, request_id=None, *, caller=CALLER):
        return await self._step_up.verify(self.context(actor, caller), OtpCode(code), request_id)

    async def drain(self):
        await self.application.codes.drain()

    async def revoke(self, actor, scope=Scope.SESSION):
        await self._step_up.revoke(self.context(actor), scope)

    async def challenge(self, actor, *items, caller=CALLER, title="Response actions", **fields):
        """Create a challenge for operations and targets; returns its id."""
        return (await self.create(actor, *items, caller=caller, title=title, **fields)).challenge_id

    async def create(self, actor, *items, caller=CALLER, title="Response actions", **fields):
        """Create a challenge, of which the answer is returned."""
        new = new_challenge(self.catalogue, *items, **fields)
        view = await self._challenge.create(self.context(actor, caller), new, title)
        return view.challenge

    async def read(self, actor, challenge_id, *, caller=CALLER, may_answer=False):
        context = self.context(actor, caller)
        return await self._challenge.read.get(context, challenge_id, may_answer=may_answer)

    def wait(self, actor, challenge_id, *, caller=CALLER, may_answer=False):
        """What AwaitChallenge sends."""
        context = self.context(actor, caller)
        return self.waits.views(context, challenge_id, may_answer=may_answer)

    async def list_challenges(self, actor, user=None, limit=100):
        context = self.context(actor, CallerId("console"))
        return await self._challenge.read.list(context, UserId(user or actor.user_id), limit)

    async def answer(self, actor, challenge_id, code, request_id=None, *, caller=CALLER):
        context = self.context(actor, caller)
        return await self._challenge.answer(context, challenge_id, OtpCode(code), request_id)

    async def decline(self, actor, challenge_id, *, caller=CALLER):
        return await self._challenge.end.decline(self.context(actor, caller), challenge_id)

    async def cancel_challenge(self, actor, challenge_id, *, caller=CALLER):
        return await self._challenge.end.cancel(self.context(actor, caller), challenge_id)

    async def begin(self, actor, reset_code=None, account_name="alice@acme.example"):
        return await self._enrollment.begin(self.context(actor), Label(account_name), reset_code)

    async def confirm(self, actor, code):
        return await self._enrollment.confirm(self.context(actor), OtpCode(code))

    async def complete(self, actor):
        return await self._enrollment.complete(self.context(actor))

    async def cancel(self, actor):
        await self._enrollment.cancel(self.context(actor))

    async def standing(self, actor):
        return await self._enrollment.get(self.context(actor))

    async def remove(self, actor):
        await self._enrollment.end.remove(self.context(actor))

    async def reset(self, actor, reset_code):
        return await self._enrollment.end.reset(self.context(actor), reset_code)

    async def admin_reset(self, actor, user, reason="lost phone"):
        end = self._enrollment.end
        await end.admin_reset(self.context(actor), UserId(user), _stated(actor, reason))

    async def unlock(self, actor, user, reason="guessed by a colleague"):
        context = self.context(actor)
        return await self._people.unlock(context, UserId(user), _stated(actor, reason))

    async def forget(self, actor, user, reason="left"):
        await self._people.forget(self.context(actor), UserId(user), _stated(actor, reason))

    async def revoke_for(self, operator, user):
        """End all elevations of a user, for an operator."""
        await self._step_up.revoke.by_operator(self.context(operator), UserId(user))

    async def open_portal(self, actor, new=None, *, title="Console"):
        """Create a link to a page; returns it."""
        return await self._portal.create(self.context(actor), new or new_session(), title)

    def token_of(self, link):
        """The token of a link, the last segment of its path."""
        return link.url.rpartition("/")[2]

    async def redeem(self, link, device=None):
        """Open a link in a browser; returns the id of the session, and the session."""
        return await self.redeem_token(self.token_of(link), device)

    async def redeem_token(self, token, device=None):
        """As `redeem`, by a token."""
        now = self.clock.now()
        taken = await self._portal.redeem.take(token, now)
        return await self._portal.redeem.open(
            taken, device, caller=WEB, request_id=REQUEST_ID, now=now
        )

    async def resolve_portal(self, session_id):
        """The portal session of a call of the web process."""
        return await self._resolve_portal(session_id, self.clock.now())

    async def leave_portal(self, session_id, session):
        """End a portal session, as its person asks."""
        await self._portal.end(self.context(session.actor, WEB), session_id, session)

    async def break_glass(self, user, *, keys=None):
        """What `stepup break-glass reset-enrollment` does on a server's host."""
        context = HostContext(BREAK_GLASS, ACME, self.clock.now(), "sam", "host-1")
        command = BreakGlass(self.database, keys or self._keys)
        return await command.reset_enrollment(context, UserId(user), StatedReason("lost phone"))

    async def prune(self):
        """What `stepup audit prune` does on a server's host, with all events before now."""
        now = self.clock.now()
        context = HostContext(PRUNE, ACME, now, "sam", "host-1")
        return await PruneAudit(self.database, self._keys)(context, now)

    async def issue_reset_code(self, actor):
        return await self._enrollment.issue(self.context(actor))

    async def import_(self, actor, *entries, dry_run=False):
        """Import authenticators: users and key URIs."""
        wanted = [ImportEntry(UserId(user), uri) for user, uri in entries]
        return await self.imports(actor, *wanted, dry_run=dry_run)

    async def imports(self, actor, *entries, dry_run=False):
        """Import entries, some of which the wire may have refused."""
        return await self._people.imports(self.context(actor), list(entries), dry_run=dry_run)

    async def set_account_mfa(self, actor, *, enabled):
        await self._enrollment.account_mfa(self.context(actor), enabled)

    async def list_people(self, actor, state=None, size=100, token=""):
        return await self._people.list(self.context(actor), state, size, token)

    async def person(self, actor, user):
        return await self._people.get(self.context(actor), UserId(user))

    async def keep_house(self):
        await self.application.housekeeping(self.clock.now())

    async def policy(self, tenant=ACME):
        return await self._policy.get(tenant)

    async def update_policy(
        self, actor, *, enabled=None, selected=None, issuer=None, enroll_by=None, etag=None
    ):
        """Change the policy; `selected` is a list of operations, or maps them to a max_age."""
        if etag is None:
            etag = (await self.policy(actor.tenant_id)).etag
        if selected is not None:
            max_ages = selected if isinstance(selected, dict) else dict.fromkeys(selected, LIFETIME)
            selected = {OperationId(operation): age for operation, age in max_ages.items()}
        change = PolicyChange(etag, enabled, selected, issuer and Label(issuer), enroll_by)
        return await self._policy.update(self.context(actor), change)

    async def select(self, *operations, tenant=ACME, **max_ages):
        """Enable the tenant's policy, and select operations in place of those selected before."""
        selected = dict.fromkeys(operations, LIFETIME) | max_ages
        return await self.update_policy(
            administrator(tenant=tenant), enabled=True, selected=selected
        )

    async def events(self, *kinds, tenant=ACME):
        """The tenant's audit events, of these kinds if any are given."""
        query = EventQuery(tenant, kinds=frozenset(kinds))
        async with self.database.snapshot() as records:
            return [chained.event for chained in await records.audit.list(query, 10_000)]

    async def page(self, query, size, token=""):
        return await self._audit.list(query, size, token)

    async def export(self, tenant=ACME, after=0):
        return [event async for event in self._audit.export(tenant, after)]

    async def wizard(self, actor, reset_code=None):
        """Go through the wizard's three screens in the actor's session, which is elevated then."""
        screen = await self.begin(actor, reset_code)
        octets = screen.secret.octets
        confirmation = await self.confirm(actor, code_at(octets, self.clock.now()))
        await self.complete(actor)
        return App(screen.enrollment_id, octets, confirmation.reset_code)

    async def enrol(self, actor):
        """Enrol a user in another session, until the first unused code."""
        app = await self.wizard(replace(actor, session_id=SessionId("wizard")))
        await self.advance(seconds=30)
        return app

    async def elevate(self, actor, app):
        """Give the code of the current time step, which must not be used up."""
        verification = await self.verify(actor, app.code(self.clock.now()))
        assert verification.outcome is Outcome.VERIFIED
        return verification.elevation

    async def suspend(self, app):
        """Give a hundred wrong codes for the person of an app, over ever new sessions."""
        for number in range(100):
            verification = await self.fail(person(session=f"guess-{number // 5}"), app)
            await self.advance(seconds=verification.retry_after.total_seconds())

    async def fail(self, actor, app, times=1):
        """Give wrong codes; returns what became of the last."""
        for _ in range(times):
            verification = await self.verify(actor, app.wrong_code(self.clock.now()))
        return verification


def _stated(actor, reason):
    """The reason in a request. The reason of an operator is in the actor."""
    return None if isinstance(actor, Operator) or reason is None else StatedReason(reason)
