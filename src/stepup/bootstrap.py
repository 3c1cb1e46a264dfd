"""The only place that wires: settings in, a running server out."""

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import structlog
from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge

from stepup.clock import SystemClock
from stepup.config import ConfigurationError, Settings
from stepup.credentials import credentials_of, demand_credentials
from stepup.domain.errors import StoreUnavailableError
from stepup.key_source import KeySource
from stepup.keys import KeyRing, KeyRingError
from stepup.probes import probes_answered
from stepup.reloading_keys import ReloadingKeys
from stepup.rpc.audit import AuditHandlers
from stepup.rpc.connections import ConnectionLimits
from stepup.rpc.engine.choice import engine_of
from stepup.rpc.enrollment import EnrollmentHandlers
from stepup.rpc.pipeline import Pipeline
from stepup.rpc.policy import PolicyHandlers
from stepup.rpc.server import Handlers, Server
from stepup.rpc.step_up import StepUpHandlers
from stepup.running_server import RunningServer
from stepup.service.audit_events import AuditEvents
from stepup.service.begin_enrollment import BeginEnrollment
from stepup.service.caller_limits import CallerLimits
from stepup.service.cancel_enrollment import CancelEnrollment
from stepup.service.check_step_up import CheckStepUp
from stepup.service.complete_enrollment import CompleteEnrollment
from stepup.service.confirm_enrollment import ConfirmEnrollment
from stepup.service.elevated import Elevated
from stepup.service.end_enrollment import EndEnrollment
from stepup.service.get_enrollment import GetEnrollment
from stepup.service.housekeeping import INTERVAL_SECONDS, Housekeeping
from stepup.service.ports import (
    CallerRates,
    Clock,
    Database,
    DecisionLog,
    Elevations,
    Keys,
    RecordedOutcomes,
)
from stepup.service.refused_claims import RefusedClaims
from stepup.service.revoke_elevations import RevokeElevations
from stepup.service.revoker import Revoker
from stepup.service.set_account_mfa import SetAccountMfa
from stepup.service.snapshots import POLL_SECONDS, Snapshots
from stepup.service.update_policy import GetPolicy, UpdatePolicy
from stepup.service.verify_otp import VerifyOtp
from stepup.stores.decision_log import JsonLinesDecisionLog
from stepup.stores.embedded_valkey import EmbeddedValkey, EmbeddedValkeyError
from stepup.stores.memory_caller_rates import MemoryCallerRates
from stepup.stores.redis import (
    RedisCallerRates,
    RedisElevations,
    RedisRecordedOutcomes,
    connect,
)
from stepup.stores.sql import SqlDatabase, check_schema, upgrade
from stepup.telemetry import metrics_served

_log = structlog.get_logger(__name__)
_key_failures = Counter(
    "stepup_key_ring_reload_failures", "Changes of the key file that could not be taken over."
)
_unauthenticated = Gauge(
    "stepup_callers_unauthenticated",
    "1 while callers without credentials are served and may do everything, else 0.",
    multiprocess_mode="livemax",
)
REVIVE_SECONDS = 1.0
"""How often is looked whether the embedded store has ended."""


@dataclass(frozen=True, slots=True)
class Stores:
    """Everything behind the ports."""

    database: Database
    elevations: Elevations
    outcomes: RecordedOutcomes
    rates: CallerRates
    keys: Keys
    decision_log: DecisionLog


@dataclass(frozen=True, slots=True)
class Application:
    """The handlers, and what has to run beside them."""

    handlers: Handlers
    snapshots: Snapshots
    verify: VerifyOtp
    housekeeping: Housekeeping
    refused_claims: RefusedClaims
    limits: CallerLimits


def assemble(stores: Stores, settings: Settings, clock: Clock) -> Application:
    """Wire use cases and handlers over stores."""
    database, keys, catalogue = stores.database, stores.keys, settings.operations
    options = settings.verification
    snapshots = Snapshots(database, clock)
    elevated = Elevated(stores.elevations, snapshots)
    revoker = Revoker(stores.elevations, snapshots)
    verify = VerifyOtp(
        database, stores.elevations, stores.outcomes, keys, back_steps=options.back_steps
    )
    step_up = StepUpHandlers(
        catalogue,
        CheckStepUp(snapshots, elevated, database, keys, stores.decision_log, options.retry_window),
        verify,
        RevokeElevations(database, revoker, options.back_steps),
    )
    enrollment = EnrollmentHandlers(
        BeginEnrollment(database, elevated, keys, options.issuer),
        ConfirmEnrollment(database, keys, options.back_steps),
        CompleteEnrollment(database, stores.elevations, revoker),
        CancelEnrollment(database),
        GetEnrollment(database),
        EndEnrollment(database, elevated, revoker, keys),
        SetAccountMfa(database, elevated),
    )
    policy = PolicyHandlers(
        catalogue, GetPolicy(database), UpdatePolicy(database, elevated, snapshots)
    )
    audit = AuditHandlers(AuditEvents(database, keys))
    return Application(
        Handlers(step_up, enrollment, policy, audit),
        snapshots,
        verify,
        Housekeeping(database),
        RefusedClaims(database),
        CallerLimits(stores.rates, MemoryCallerRates(clock), clock),
    )


@asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[RunningServer]:
    """Run a server for as long as the block lasts.

    One of several workers shares its port, and leaves metrics and probes to whoever started it.

    Raises:
        ConfigurationError: the settings cannot be put into effect; the message says which.
        StoreUnavailableError: a configured store cannot be reached.
    """
    demand_credentials(settings)
    clock = SystemClock()
    async with AsyncExitStack() as stack:
        is_one_of_many = settings.server.workers > 1
        if not is_one_of_many:
            serve_metrics(settings, stack)
        make_data_dir(settings)
        decision_log = _open_decision_log(settings, stack)
        stores = await _open_stores(settings, clock, decision_log, stack)
        application = assemble(stores, settings, clock)
        await application.snapshots.poll()
        stack.push_async_callback(application.verify.drain)
        credentials = credentials_of(settings, clock)
        for poll in credentials.polls:
            await poll()
        server = Server(
            Pipeline(credentials.admit, application.refused_claims, application.limits, clock),
            application.handlers,
            engine_of(settings.server.engine),
            ConnectionLimits(max_age=settings.server.max_connection_age),
            shares_port=is_one_of_many,
        )
        if not is_one_of_many:
            await answer_probes(settings, lambda: server.is_serving, stack)
        # Stopped last, so that what is known stays fresh while calls in flight finish.
        for work in (
            _poll(application, server),
            _keep_house(application.housekeeping, clock),
            *(_repeat(poll, POLL_SECONDS) for poll in credentials.polls),
        ):
            stack.push_async_callback(_cancelled, asyncio.create_task(work))
        try:
            port = await server.start(
                settings.server.host, settings.server.port, credentials.server
            )
        except (ValueError, OSError) as error:
            raise ConfigurationError(f"server.listen: {error}") from error
        stack.push_async_callback(server.stop, settings.server.drain_seconds)
        if not settings.authenticates_callers:
            _unauthenticated.set(1)
            stack.callback(_unauthenticated.set, 0)
            _log.warning(
                "callers_are_not_authenticated",
                explanation="any program on this machine may call and claim anything",
            )
        if settings.verification.back_steps:
            _log.warning(
                "codes_of_the_step_before_are_accepted",
                explanation="verification.back_steps weakens S1",
            )
        await server.set_serving(True)
        yield RunningServer(
            settings.server.address(port),
            settings,
            credentials.replace_callers,
            decision_log,
            lambda: server.is_serving,
        )


def serve_metrics(
    settings: Settings, stack: AsyncExitStack, registry: CollectorRegistry = REGISTRY
) -> None:
    """Serve a registry's metrics, if that is configured, until the stack is left.

    Raises:
        ConfigurationError: the address cannot be listened on.
    """
    metrics = settings.metrics
    if metrics is None:
        return
    with _listening("metrics", metrics.listen):
        port = stack.enter_context(metrics_served(metrics.host, metrics.port, registry))
    _log.info("metrics_are_served", address=metrics.address(port))


async def answer_probes(
    settings: Settings, is_serving: Callable[[], bool], stack: AsyncExitStack
) -> None:
    """Answer them, if that is configured, until the stack is left.

    That should be from before a server serves until it has ended: then, too, it is alive.

    Raises:
        ConfigurationError: the address cannot be listened on.
    """
    probes = settings.probes
    if probes is None:
        return
    answering = probes_answered(probes.host, probes.port, is_serving)
    with _listening("probes", probes.listen):
        port = await stack.enter_async_context(answering)
    _log.info("probes_are_answered", address=probes.address(port))


@contextmanager
def _listening(section: str, address: str) -> Iterator[None]:
    """Have the error say which setting has the address that cannot be listened on."""
    try:
        yield
    except (ValueError, OSError) as error:
        raise ConfigurationError(
            f"{section}.listen: cannot listen on {address}: {error}"
        ) from error


async def _open_stores(
    settings: Settings, clock: Clock, decision_log: DecisionLog, stack: AsyncExitStack
) -> Stores:
    storage = settings.storage
    redis_url = await url_of_redis(settings, stack)
    try:
        client = connect(redis_url)
    except ValueError:
        # Without the cause, whose message may have a part of the URL (S11).
        raise ConfigurationError("storage.redis_url: is no URL of a Redis server") from None
    stack.push_async_callback(client.aclose)
    elevations = RedisElevations(client)
    database_url = database_url_of(settings)
    if storage.database_url is None:
        await upgrade(database_url)
    else:
        await check_schema(database_url, storage.database.limits)
    database = SqlDatabase(database_url, storage.database.limits)
    stack.push_async_callback(database.close)
    return Stores(
        database,
        elevations,
        RedisRecordedOutcomes(client),
        RedisCallerRates(client),
        _follow_keys(settings, clock),
        decision_log,
    )


def make_data_dir(settings: Settings) -> None:
    """Make the data directory, for our user only, if there is none.

    Raises:
        ConfigurationError: it cannot be made.
    """
    directory = settings.storage.data_dir
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(
            f"storage.data_dir: {directory} cannot be made: {error.strerror}"
        ) from error


def database_url_of(settings: Settings) -> str:
    """The configured database, or SQLite in the data directory."""
    url = settings.storage.database_url
    if url is not None:
        return url.get_secret_value()
    return f"sqlite+aiosqlite:///{settings.storage.data_dir.absolute() / 'stepup.db'}"


async def url_of_redis(settings: Settings, stack: AsyncExitStack) -> str:
    """The configured Redis, or an embedded store that lives until the stack is left.

    Raises:
        ConfigurationError: the embedded store cannot be started.
    """
    url = settings.storage.redis_url
    if url is not None:
        return url.get_secret_value()
    valkey = EmbeddedValkey(settings.storage.data_dir.absolute() / "valkey")
    try:
        await asyncio.to_thread(valkey.start)
    except EmbeddedValkeyError as error:
        raise ConfigurationError(f"storage.redis_url: {error}") from error
    stack.push_async_callback(asyncio.to_thread, valkey.stop)
    work = asyncio.create_task(_repeat(lambda: _revive(valkey), REVIVE_SECONDS))
    stack.push_async_callback(_cancelled, work)
    return valkey.url


def key_source_of(settings: Settings) -> KeySource:
    """Where the key ring is: the configured place, or the data directory."""
    storage = settings.storage
    return KeySource(
        storage.keys_file or storage.data_dir / "keys.json",
        storage.keys_variable,
        storage.keys_group_readable,
    )


def load_keys(settings: Settings) -> KeyRing:
    """The configured key ring as it is now, or that of the data directory, made if need be.

    Raises:
        ConfigurationError: it cannot be used.
    """
    with _key_problems_named():
        _make_keys(settings)
        return KeyRing.of(key_source_of(settings).content())


def _follow_keys(settings: Settings, clock: Clock) -> KeyRing | ReloadingKeys:
    """The same for a server: it follows the file, and so takes part in a rotation by itself."""
    with _key_problems_named():
        _make_keys(settings)
        return key_source_of(settings).keys(clock, _key_failures.inc)


def _make_keys(settings: Settings) -> None:
    storage = settings.storage
    if storage.keys_file is None and storage.keys_variable is None:
        KeyRing.load_or_create(storage.data_dir / "keys.json")


@contextmanager
def _key_problems_named() -> Iterator[None]:
    try:
        yield
    except (KeyRingError, OSError) as error:
        raise ConfigurationError(f"storage.keys_file: {error}") from error


def _open_decision_log(settings: Settings, stack: AsyncExitStack) -> JsonLinesDecisionLog:
    target = settings.log.decisions
    try:
        if target == "-":
            log = JsonLinesDecisionLog.to(sys.stdout)
        else:
            file = Path(target) if target else settings.storage.data_dir / "decisions.jsonl"
            log = JsonLinesDecisionLog.open(file)
    except OSError as error:
        raise ConfigurationError(f"log.decisions: {error}") from error
    stack.callback(log.close)
    return log


async def _poll(application: Application, server: Server) -> None:
    """Keep the snapshots fresh; health says whether decisions can be made (S17)."""

    async def poll() -> None:
        try:
            await application.snapshots.poll()
        finally:
            await server.set_serving(application.snapshots.is_fresh)

    await _repeat(poll, POLL_SECONDS)


async def _revive(valkey: EmbeddedValkey) -> None:
    """Start the embedded store again when it has ended: what it acknowledged is in its file."""
    if valkey.is_running:
        return
    try:
        await asyncio.to_thread(valkey.start)
    except EmbeddedValkeyError as error:
        _log.error("embedded_store_is_down", problem=str(error))
    else:
        _log.warning("embedded_store_started_again", explanation="it had ended by itself")


async def _keep_house(housekeeping: Housekeeping, clock: Clock) -> None:
    await _repeat(lambda: housekeeping(clock.now()), INTERVAL_SECONDS)


async def _repeat(work: Callable[[], Awaitable[None]], seconds: float) -> None:
    """Do something again and again, whatever becomes of it: what is not done in time shows."""
    while True:
        await asyncio.sleep(seconds)
        try:
            await work()
        except StoreUnavailableError as error:
            _log.warning("store_unavailable", problem=str(error))
        except Exception as error:  # noqa: BLE001  # a loop that ended would go unnoticed
            _log.error("background_work_failed", exc_info=error)


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])
