"""A server whose callers have tokens, and receipts to present to it."""

from dataclasses import dataclass, field, replace

from stepup.domain.actor import TenantId
from stepup.domain.audit import EventKind
from stepup.domain.callers import Callers
from stepup.keys.file import KeyFile
from stepup.keys.ring import KeyRing
from stepup.rpc.identity.jwt import Issuer, TokenIdentification
from stepup.rpc.identity.trusted_keys import TrustedKeys
from stepup.rpc.pipeline.call import Admission
from stepup.v1 import step_up_service_pb2 as step_up
from stepup_tests.callers import all_powerful
from stepup_tests.identity.tokens import AUDIENCE, ISSUER, Published, claims_at, key, public, signed
from stepup_tests.people import ACME, person
from stepup_tests.wire import Client, on_wire, served
from stepup_tests.worker import OSQUERY, REMOTE_SHELL

ALICE, GLOBEX = person(), TenantId("globex")
SIGNING_KEY = key("k1")


def identity_of(name):
    return f"jwt:{ISSUER}#{name}"


@dataclass(frozen=True)
class Retry:
    """What a caller presents for which check; `of` is the decision that the receipt is of."""

    token: str = field(repr=False)
    of: str
    asked: dict = field(default_factory=dict)

    def altered(self, token):
        return replace(self, token=token)

    def asking(self, **asked):
        return replace(self, asked=asked)


class Desk:
    """A server whose two callers have tokens, and an action that it once allowed to one of them.

    The session in which it was allowed is not elevated any more: what is allowed from now on is
    allowed by the receipt.
    """

    def __init__(self, world, stack):
        self.world = world
        self.clock = world.clock
        self.ring = KeyFile.generated(world.clock.now())
        self._stack = stack
        self._tokens = {}
        keys = TrustedKeys(Published(public(SIGNING_KEY)), world.clock)
        self._identification = TokenIdentification(
            [Issuer(ISSUER, frozenset({AUDIENCE}), keys)], world.clock
        )
        callers = Callers(
            replace(all_powerful(name), identities=frozenset({identity_of(name)}))
            for name in ("soar", "console")
        )
        self._admission = Admission(self._identification, callers)

    async def serve(self):
        """Answer calls from a worker that has just started, with the key ring as it is now."""
        self.world.keys = KeyRing.of(self.ring)
        self.worker = await self.world.worker()
        await self._identification.poll()
        server = await self._stack.enter_async_context(served(self.worker, self._admission))
        self.client = Client(server.target)
        self._stack.push_async_callback(self.client.close)

    async def rotate(self):
        """Make another key the primary one; the old one stays in the ring."""
        staged = self.ring.staging(self.clock.now())
        self.ring = staged.promoting(staged.staged, self.clock.now())
        await self.serve()

    async def retire(self):
        """Rotate, and take the old key out of the ring."""
        old = self.ring.primary
        await self.rotate()
        self.ring = self.ring.without(old)
        await self.serve()

    async def allow(self):
        """Let Alice act in an elevated session, which ends then."""
        await self.worker.select(OSQUERY, REMOTE_SHELL)
        await self.worker.select(OSQUERY, REMOTE_SHELL, tenant=GLOBEX)
        self.app = await self.worker.enrol(ALICE)
        await self.worker.elevate(ALICE, self.app)
        self.authorised_at = self.clock.now()
        self.receipt = issued(await self.ask())
        await self.worker.revoke(ALICE)

    async def advance(self, **time):
        await self.worker.advance(**time)
        await self._identification.poll()

    def metadata(self, caller="soar"):
        """The caller's token, one for each instant of the clock."""
        found = self._tokens.get((caller, self.clock.now()))
        if found is None:
            found = signed(claims_at(self.clock, sub=caller), SIGNING_KEY)
            self._tokens[caller, self.clock.now()] = found
        return (("authorization", f"Bearer {found}"),)

    def request(self, token="", *, actor=ALICE, operation=OSQUERY, target="host-1"):
        request = step_up.CheckStepUpRequest(
            actor=on_wire(actor), operation=operation, target=target
        )
        request.actor.retry_receipt = token
        return request

    async def ask(self, token="", *, caller="soar", **asked):
        return await self.client.step_up.CheckStepUp(
            self.request(token, **asked), metadata=self.metadata(caller)
        )

    async def present(self, retry):
        return await self.ask(retry.token, **retry.asked)

    async def exempted(self, retry):
        """Present a receipt that is good; returns that of the retry."""
        answer = await self.present(retry)
        assert told(answer)[1] == "EXEMPT_TIMED_OUT_RETRY"
        return issued(answer)

    def line(self, answer):
        """What stands in the decision log about a decision."""
        [line] = [
            line for line in self.world.decisions() if line["decision_id"] == answer.decision_id
        ]
        return line

    async def redemptions(self):
        """What the audit trail says was redeemed, in either tenant."""
        return [
            event
            for tenant in (ACME, GLOBEX)
            for event in await self.worker.events(EventKind.RECEIPT_REDEEMED, tenant=tenant)
        ]


def issued(answer):
    """The receipt of an answer, to be presented for the same check."""
    assert answer.receipt
    return Retry(answer.receipt, answer.decision_id)


def told(answer):
    """Decision, reason and rejection of an answer, without their prefixes."""
    return (
        step_up.Decision.Name(answer.decision).removeprefix("DECISION_"),
        step_up.DecisionReason.Name(answer.reason).removeprefix("DECISION_REASON_"),
        step_up.ReceiptRejection.Name(answer.receipt_rejection).removeprefix("RECEIPT_REJECTION_"),
    )
