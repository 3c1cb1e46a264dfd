"""A running server, put together from settings."""

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass

import grpc
import structlog
from prometheus_client import REGISTRY, CollectorRegistry, Gauge

from stepup.rpc.engine.choice import engine_of
from stepup.rpc.handlers.audit import AuditHandlers
from stepup.rpc.handlers.challenge import ChallengeHandlers
from stepup.rpc.handlers.enrollment import EnrollmentHandlers
from stepup.rpc.handlers.people import PeopleHandlers
from stepup.rpc.handlers.policy import PolicyHandlers
from stepup.rpc.handlers.portal import PortalHandlers
from stepup.rpc.handlers.step_up import StepUpHandlers
from stepup.rpc.pipeline.finish_lines import SUMMARY_SECONDS
from stepup.rpc.pipeline.pipeline import Pipeline
from stepup.rpc.pipeline.portal_calls import PortalCalls
from stepup.rpc.server.connections import ConnectionLimits
from stepup.rpc.server.server import HEALTH_NAMES, Handlers, Server
from stepup.rpc.wire.qr import Pictures
from stepup.service.audit.events import AuditEvents
from stepup.service.calls.limits import CallerLimits, TenantShare, share_of_pages
from stepup.service.calls.page_tokens import PageTokens
from stepup.service.calls.refused_claims import RefusedClaims
from stepup.service.challenges.answer import AnswerChallenge
from stepup.service.challenges.create import CreateChallenge
from stepup.service.challenges.end import EndChallenge
from stepup.service.challenges.read import ReadChallenges
from stepup.service.challenges.waits import Waits
from stepup.service.enrollment.account_mfa import SetAccountMfa
from stepup.service.enrollment.begin import BeginEnrollment
from stepup.service.enrollment.complete import CompleteEnrollment
from stepup.service.enrollment.confirm import ConfirmEnrollment
from stepup.service.enrollment.end import EndEnrollment
from stepup.service.enrollment.issue_reset_code import IssueResetCode
from stepup.service.enrollment.wizard import CancelEnrollment, GetEnrollment
from stepup.service.people.asked import FLUSH_SECONDS, AskedRecorder
from stepup.service.people.forget import ForgetUser
from stepup.service.people.import_authenticators import ImportAuthenticators
from stepup.service.people.read import GetPerson, ListPeople, ListTenants
from stepup.service.people.unlock import UnlockUser
from stepup.service.policy.known_tenants import KnownTenants
from stepup.service.policy.snapshots import POLL_SECONDS, Snapshots
from stepup.service.policy.update import GetPolicy, UpdatePolicy
from stepup.service.portal.create import CreatePortalSession
from stepup.service.portal.end import EndPortalSession
from stepup.service.portal.redeem import RedeemPortalSession
from stepup.service.portal.resolve import ResolvePortalSession
from stepup.service.portal.tenant_name import TenantName
from stepup.service.portal.wizard_of_challenge import DemandNoAuthenticator
from stepup.service.ports import Clock
from stepup.service.step_up.check import CheckStepUp
from stepup.service.step_up.codes import OneTimeCodes
from stepup.service.step_up.elevated import Elevated
from stepup.service.step_up.explain import ExplainStepUp
from stepup.service.step_up.revocation import RevokeElevations, Revoker
from stepup.service.step_up.verify_otp import VerifyOtp
from stepup.service.upkeep.background import repeat
from stepup.service.upkeep.housekeeping import INTERVAL_SECONDS, Housekeeping
from stepup.settings import ConfigurationError, ServerSettings, Settings
from stepup.settings.store_addresses import in_plain_text
from stepup.stores.memory_caller_rates import MemoryCallerRates
from stepup.system.clock import SystemClock
from stepup.telemetry.logs import metrics_served
from stepup.telemetry.probes import Serving, probes_answered
from stepup.wiring.credentials import anyone_may_call, credentials_of, demand_credentials
from stepup.wiring.database import make_data_dir
from stepup.wiring.running_server import RunningServer
from stepup.wiring.stores import Stores, open_decision_log, open_stores
from stepup.wiring.traces import begin_span_of
from stepup.wiring.watched import Watched

# Calls of BeginEnrollment, for each tenant in each worker. They are few, so that drawing and
# database have time for other tenants; the last one waits about a second.
_BEGINNING_AT_ONCE = 4
_BEGINNING_WAITING = 60

_log = structlog.get_logger(__name__)
_unauthenticated = Gauge(
    "stepup_callers_unauthenticated",
    "1 while the server serves callers without credentials, who may do everything; else 0.",
    multiprocess_mode="livemax",
)

_in_plain_text = Gauge(
    "stepup_store_in_plain_text",
    "1 for a store that the server reaches over a network without TLS.",
    ["store"],
    multiprocess_mode="livemax",
)


@dataclass(frozen=True, slots=True)
class Application:
    """The handlers of calls, and the use cases that run beside them."""

    handlers: Handlers
    snapshots: Snapshots
    codes: OneTimeCodes
    asked: AskedRecorder
    housekeeping: Housekeeping
    refused_claims: RefusedClaims
    limits: CallerLimits
    known_tenants: KnownTenants


def assemble(stores: Stores, settings: Settings, clock: Clock) -> Application:
    """Put use cases and handlers together over stores."""
    database, keys, catalogue = stores.database, stores.keys, settings.operations
    options = settings.verification
    asked = AskedRecorder(database, clock)
    snapshots = Snapshots(
        database, clock, folds_ids=settings.identity.fold_case, on_revocation=asked.follow
    )
    elevated = Elevated(stores.elevations, snapshots, database)
    waits = Waits(database, clock)
    revoker = Revoker(stores.elevations, snapshots, waits)
    codes = OneTimeCodes(database, stores.outcomes, keys, options.back_steps)
    step_up = StepUpHandlers(
        catalogue,
        CheckStepUp(
            snapshots, elevated, database, keys, stores.decision_log, asked, options.retry_window
        ),
        ExplainStepUp(snapshots, elevated, database),
        VerifyOtp(codes, elevated),
        RevokeElevations(database, revoker, options.back_steps),
    )
    challenge = ChallengeHandlers(
        catalogue,
        CreateChallenge(snapshots, elevated, database),
        ReadChallenges(database),
        AnswerChallenge(codes, database, waits),
        EndChallenge(database, waits),
        waits,
        settings.portal_url,
    )
    enrollment = EnrollmentHandlers(
        BeginEnrollment(database, elevated, keys, options.issuer),
        ConfirmEnrollment(database, keys, options.back_steps),
        CompleteEnrollment(database, elevated, revoker),
        CancelEnrollment(database),
        GetEnrollment(database),
        elevated,
        EndEnrollment(database, elevated, revoker, keys),
        IssueResetCode(database, elevated, keys),
        SetAccountMfa(database, elevated),
        Pictures(),
        TenantShare(_BEGINNING_AT_ONCE, _BEGINNING_WAITING),
    )
    tokens, pages = PageTokens(keys), share_of_pages()
    people = PeopleHandlers(
        ListPeople(database, tokens, pages),
        GetPerson(database),
        ListTenants(database, tokens, pages),
        UnlockUser(database, elevated),
        ForgetUser(database, elevated, revoker, options.back_steps),
        ImportAuthenticators(database, keys),
    )
    policy = PolicyHandlers(
        catalogue, GetPolicy(database, pages), UpdatePolicy(database, elevated, snapshots)
    )
    audit = AuditHandlers(AuditEvents(database, tokens, pages))
    sessions = stores.portal_sessions
    portal = PortalHandlers(
        CreatePortalSession(sessions, database, settings.portal_url),
        RedeemPortalSession(sessions, database),
        EndPortalSession(sessions, database),
        TenantName(snapshots, options.issuer),
    )
    return Application(
        Handlers(step_up, challenge, enrollment, people, policy, audit, portal),
        snapshots,
        codes,
        asked,
        Housekeeping(database, options.retry_window, settings.retention.clients),
        RefusedClaims(database),
        CallerLimits(stores.rates, MemoryCallerRates(clock), clock),
        KnownTenants(snapshots, refuse=settings.identity.unknown_tenants == "refuse"),
    )


@asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[RunningServer]:
    """Run a server for as long as the block lasts.

    One of several workers shares its port, and leaves metrics and probes to the parent process.

    Raises:
        ConfigurationError: a setting cannot be put into effect; the message names it.
        StoreUnavailableError: a configured store cannot be reached.
    """
    demand_credentials(settings)
    clock = SystemClock()
    async with AsyncExitStack() as stack:
        is_one_of_many = settings.server.workers > 1
        if not is_one_of_many:
            serve_metrics(settings, stack)
        make_data_dir(settings)
        decision_log = open_decision_log(settings, stack)
        stores = await open_stores(settings, clock, decision_log, stack)
        application = assemble(stores, settings, clock)
        credentials = credentials_of(settings, clock)
        for poll in credentials.polls:
            await poll()
        watched = Watched(
            application.snapshots, stores.database, stores.elevations, decision_log, credentials
        )
        await watched.look()
        stack.push_async_callback(application.codes.drain)
        stack.push_async_callback(application.asked.flush_at_end)
        # Opened before the server, so that the spans of its last calls are exported.
        begin_span = begin_span_of(settings.traces, stack)
        pipeline = Pipeline(
            credentials.admit,
            application.refused_claims,
            application.limits,
            application.known_tenants,
            clock,
            portal_calls=PortalCalls(
                ResolvePortalSession(stores.portal_sessions, stores.database),
                DemandNoAuthenticator(stores.database),
                credentials.find_caller,
            ),
            begin_span=begin_span,
            fold_case=settings.identity.fold_case,
        )
        stack.push_async_callback(pipeline.finish_lines.sum_up)
        repeat(pipeline.finish_lines.sum_up, SUMMARY_SECONDS, stack)
        server = Server(
            pipeline,
            application.handlers,
            engine_of(settings.server.engine),
            ConnectionLimits(max_age=settings.server.max_connection_age),
            shares_port=is_one_of_many,
            trusts_anyone=settings.server.insecure_anyone_on_the_network_is_trusted,
        )
        if not is_one_of_many:
            await answer_probes(settings, lambda: server.serving, stack)

        async def report() -> None:
            await server.report(watched.condition)

        # These stop after the server, so that policies and keys stay fresh for its last calls.
        watched.repeat_looks(report, stack)
        repeat(application.handlers.challenge.waits.poll, POLL_SECONDS, stack)
        repeat(lambda: application.housekeeping(clock.now()), INTERVAL_SECONDS, stack)
        repeat(application.asked.flush, FLUSH_SECONDS, stack)
        for poll in credentials.polls:
            repeat(poll, POLL_SECONDS, stack)
        address = await _listen(server, settings.server, credentials.server)
        stack.push_async_callback(server.stop, settings.server.drain_seconds)
        _warn_of_weaknesses(settings, stack)
        await report()
        yield RunningServer(
            address,
            settings,
            credentials.replace_callers,
            decision_log,
            lambda: server.serving,
        )


async def _listen(
    server: Server, settings: ServerSettings, credentials: grpc.ServerCredentials | None
) -> str:
    """Make a server listen; return its address."""
    try:
        if settings.socket is not None:
            to_group = settings.socket_group_may_connect
            await server.start_on_socket(settings.socket, credentials, to_group=to_group)
            return settings.listen
        return settings.address(await server.start(settings.host, settings.port, credentials))
    except (ValueError, OSError) as error:
        problem = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise ConfigurationError(f"server.listen: {problem}") from error


def _warn_of_weaknesses(settings: Settings, stack: AsyncExitStack) -> None:
    """Log what the settings weaken, and show it in the metrics until the stack closes."""
    if not settings.authenticates_callers:
        _unauthenticated.set(1)
        stack.callback(_unauthenticated.set, 0)
        _log.warning("callers_are_not_authenticated", explanation=anyone_may_call(settings))
    for store, explanation in in_plain_text(settings.storage):
        _in_plain_text.labels(store).set(1)
        stack.callback(_in_plain_text.labels(store).set, 0)
        _log.warning("store_is_reached_in_plain_text", explanation=explanation)
    if settings.verification.back_steps:
        _log.warning(
            "codes_of_the_step_before_are_accepted",
            explanation="verification.back_steps weakens S1",
        )


def serve_metrics(
    settings: Settings, stack: AsyncExitStack, registry: CollectorRegistry = REGISTRY
) -> None:
    """Serve a registry's metrics, if `metrics` is configured, until the stack closes.

    Raises:
        ConfigurationError: the address cannot be used.
    """
    metrics = settings.metrics
    if metrics is None:
        return
    with _listening("metrics", metrics.listen):
        port = stack.enter_context(metrics_served(metrics.host, metrics.port, registry))
    _log.info("metrics_are_served", address=metrics.address(port))


async def answer_probes(settings: Settings, serving: Serving, stack: AsyncExitStack) -> None:
    """Answer probes, if `probes` is configured, until the stack closes.

    Begin before the server serves, and end after it: it is alive all that time.

    Raises:
        ConfigurationError: the address cannot be used.
    """
    probes = settings.probes
    if probes is None:
        return
    answering = probes_answered(probes.host, probes.port, serving, HEALTH_NAMES)
    with _listening("probes", probes.listen):
        port = await stack.enter_async_context(answering)
    _log.info("probes_are_answered", address=probes.address(port))


@contextmanager
def _listening(section: str, address: str) -> Iterator[None]:
    """Name the setting in the error of an address that cannot be used."""
    try:
        yield
    except (ValueError, OSError) as error:
        raise ConfigurationError(
            f"{section}.listen: cannot listen on {address}: {error}"
        ) from error
