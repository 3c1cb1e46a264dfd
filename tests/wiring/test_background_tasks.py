"""S17: every task beside the calls does its work again, whatever its dependency did (issue 11).

The tasks are found in the source: one that has no row here fails `test_every_task_has_a_row`.
"""

import ast
import asyncio
import os
import queue
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, suppress
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace
from urllib.error import URLError
from urllib.request import urlopen

import pytest
from opentelemetry.sdk.trace.export import SpanExportResult
from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily
from stepup_tests.challenges import challenge_of
from stepup_tests.clock import ManualClock
from stepup_tests.people import person
from structlog.testing import capture_logs

import stepup
from stepup.domain.challenge import ChallengeState
from stepup.domain.decision import Decision, Reason, Verdict
from stepup.domain.errors import StoreUnavailableError
from stepup.process import supervisor, worker_main, workers
from stepup.process.serving import reload_on_hangup
from stepup.rpc.engine import CallLimits, core
from stepup.rpc.identity import server_credentials
from stepup.rpc.identity.trusted_keys import TrustedKeys
from stepup.rpc.pipeline import finish_lines
from stepup.rpc.pipeline.finish_lines import FinishLines
from stepup.service.challenges.waits import Waits
from stepup.service.people.asked import AskedRecorder
from stepup.service.ports import Records
from stepup.service.upkeep import background
from stepup.service.upkeep.dependencies import Condition, Dependency
from stepup.service.upkeep.housekeeping import Housekeeping
from stepup.system.service_manager import ServiceManager
from stepup.telemetry.logs import metrics_served
from stepup.telemetry.traces import Exporting, Traces
from stepup.web import serving as web_serving
from stepup.wiring.stores import KeepEmbeddedStore
from stepup.wiring.watched import Watched

SOURCE = Path(stepup.__file__).parent
FAILURES = 3
"""How often a dependency fails before it works again."""
PATIENCE_SECONDS = 10

ERRORS = [
    StoreUnavailableError("gone"),
    BrokenPipeError(32, "Broken pipe"),
    OSError(28, "No space left on device"),
    TimeoutError(),
    KeyError("a bug"),
    RuntimeError("a bug"),
    ExceptionGroup("several", [RuntimeError("a bug"), OSError(5, "an error")]),
    asyncio.CancelledError(),
]


class Failing:
    """A dependency that raises FAILURES times; `works` is set when it was asked again after."""

    def __init__(self, error):
        self.left = FAILURES
        self.works = asyncio.Event()
        self._error = error
        self._loop = asyncio.get_running_loop()

    def __call__(self, *_args, **_kwargs):
        if self.left:
            self.left -= 1
            raise self._error
        self._loop.call_soon_threadsafe(self.works.set)

    async def awaited(self, *_args, **_kwargs):
        self()


@asynccontextmanager
async def finish_lines_are_summed_up(failing, monkeypatch):
    lines = FinishLines(ManualClock())
    line = {"caller": None, "code": "CANCELLED", "reason": None}
    monkeypatch.setattr(finish_lines, "_log", SimpleNamespace(info=lambda *_a, **_f: None))
    for _ in range(finish_lines.REFUSED.burst + 1):
        lines.write(line, has_concluded=False)
    monkeypatch.setattr(finish_lines, "_log", SimpleNamespace(info=failing))
    async with repeated(lines.sum_up):
        yield


@asynccontextmanager
async def house_is_kept(failing, _monkeypatch):
    @asynccontextmanager
    async def transaction():
        failing()
        purging = SimpleNamespace(purge=nothing_left)
        yield SimpleNamespace(**{each.name: purging for each in fields(Records)})

    @asynccontextmanager
    async def snapshot():
        yield SimpleNamespace(challenges=SimpleNamespace(expired=none_has_expired))

    housekeeping = Housekeeping(SimpleNamespace(transaction=transaction, snapshot=snapshot))
    async with repeated(lambda: housekeeping(ManualClock().now())):
        yield


async def none_has_expired(*_args):
    return []


@asynccontextmanager
async def asked_people_are_recorded(failing, _monkeypatch):
    async def note(_tenant_id, asked, _most):
        failing()
        assert asked
        return 0

    @asynccontextmanager
    async def transaction(_tenant_id):
        yield SimpleNamespace(asked=SimpleNamespace(note=note))

    recorder = AskedRecorder(SimpleNamespace(transaction=transaction), ManualClock())
    call = SimpleNamespace(actor=person(), now=ManualClock().now())
    recorder.note(call, [Verdict(Decision.ENROLLMENT_REQUIRED, Reason.NOT_ENROLLED)])
    async with repeated(recorder.flush):
        yield


@asynccontextmanager
async def waits_are_polled(failing, _monkeypatch):
    clock, alice = ManualClock(), person()
    challenge = challenge_of(alice, ChallengeState.PENDING, at=clock.now())

    async def find(*_key):
        return challenge

    @asynccontextmanager
    async def snapshot(_tenant_id):
        yield SimpleNamespace(challenges=SimpleNamespace(find=find))

    @asynccontextmanager
    async def reserved_snapshot():
        failing()
        yield SimpleNamespace(challenges=SimpleNamespace(no_longer_pending=none_has_expired))

    database = SimpleNamespace(snapshot=snapshot, reserved_snapshot=reserved_snapshot)
    waits = Waits(database, clock)
    call = SimpleNamespace(actor=alice, tenant_id=alice.tenant_id, caller=challenge.caller)
    async with aclosing(waits.views(call, challenge.challenge_id, may_answer=False)) as views:
        await anext(views)
        async with repeated(waits.poll):
            yield


async def nothing_left(*_args):
    return 0


@asynccontextmanager
async def a_certificate_is_looked_at(failing, _monkeypatch):
    clock = ManualClock()
    files = SimpleNamespace(
        watch=lambda: SimpleNamespace(look=failing),
        load=lambda now: SimpleNamespace(not_after=now),
    )
    certificate = server_credentials.ServerCertificate(files, clock)

    async def look():
        clock.advance(seconds=server_credentials.CHECK_SECONDS)
        await asyncio.to_thread(certificate.poll)

    async with repeated(look):
        yield


@asynccontextmanager
async def the_certificate_for_browsers_is_looked_at(failing, monkeypatch):
    monkeypatch.setattr(web_serving, "FileWatch", lambda *_: SimpleNamespace(look=failing))
    monkeypatch.setattr(web_serving, "_RENEWAL_SECONDS", 0)
    settings = SimpleNamespace(tls=SimpleNamespace(certificate="tls.crt", key="tls.key"))
    config = SimpleNamespace(ssl=SimpleNamespace(load_cert_chain=lambda *_: None))
    renewing = web_serving._renew_certificate(settings, config)  # noqa: SLF001  # the task itself
    async with until_cancelled(renewing):
        yield


@asynccontextmanager
async def issuers_keys_are_fetched(failing, _monkeypatch):
    clock = ManualClock()

    async def fetch():
        failing()
        return b'{"keys": []}'

    keys = TrustedKeys(SimpleNamespace(fetch=fetch, refresh_seconds=0), clock)

    async def poll():
        clock.advance(seconds=3600)
        await keys.poll()

    async with repeated(poll):
        yield


@asynccontextmanager
async def the_embedded_store_is_looked_at(failing, _monkeypatch):
    class Valkey:
        is_running = True

        @property
        def answers(self):
            failing()
            return True

    async with repeated(KeepEmbeddedStore(Valkey())):
        yield


@asynccontextmanager
async def the_embedded_store_is_started_again(failing, _monkeypatch):
    valkey = SimpleNamespace(is_running=False, start=failing)
    async with repeated(KeepEmbeddedStore(valkey)):
        yield


def reloadable(**methods):
    """A server that a hangup reloads."""
    return SimpleNamespace(address="127.0.0.1:1", reload=lambda _settings: None, **methods)


@asynccontextmanager
async def the_configuration_is_reloaded(failing, _monkeypatch):
    hangup = asyncio.Event()
    server = reloadable(reopen_decision_log=lambda: None)
    reloads = reload_on_hangup(hangup, server, failing, ServiceManager())
    async with until_cancelled(reloads), again(hangup.set):
        yield


@asynccontextmanager
async def the_decision_log_is_opened_again_at_a_hangup(failing, _monkeypatch):
    hangup = asyncio.Event()
    server = reloadable(reopen_decision_log=failing)
    reloads = reload_on_hangup(hangup, server, nothing, ServiceManager())
    async with until_cancelled(reloads), again(hangup.set):
        yield


@asynccontextmanager
async def a_worker_reports(failing, _monkeypatch):
    reading, writing = os.pipe()
    working = iter([frozenset({""})])  # the first report, which the loop follows

    def serving():
        first = next(working, None)
        return first if first is not None else failing() or frozenset()

    try:
        async with until_cancelled(
            worker_main.report_to_supervisor(writing, SimpleNamespace(serving=serving))
        ):
            yield
    finally:
        os.close(reading)
        os.close(writing)


@asynccontextmanager
async def workers_are_restarted(failing, _monkeypatch):
    restart = asyncio.Event()

    async def started():
        return None

    supervised = SimpleNamespace(start=started, replace_all=failing.awaited)
    work = workers.start_and_restart(supervised, "unix:/dev/null", restart, lambda: None)
    async with until_cancelled(work), again(restart.set):
        yield


class Worker:
    """One that serves, and ends at once or never."""

    pid = 1

    def __init__(self, *, lasts):
        self._lasts = lasts

    async def serves_in_time(self):
        return True

    async def kill_when_silent(self):
        pass

    async def wait(self):
        if self._lasts:
            await asyncio.Event().wait()
        return 1


@asynccontextmanager
async def a_slot_is_filled(failing, monkeypatch):
    started = []

    async def start_one(_supervisor):
        if started:
            failing()
        started.append(Worker(lasts=bool(started)))
        return started[-1]

    monkeypatch.setattr("stepup.process.supervisor.Supervisor._start_worker", start_one)
    monkeypatch.setattr(supervisor, "backoff_seconds", lambda _: 0)
    supervised = supervisor.Supervisor(lambda _: [], 1, 0)
    await supervised.start()
    try:
        yield
    finally:
        await supervised.terminate()


@asynccontextmanager
async def slow_calls_are_watched(failing, monkeypatch):
    monkeypatch.setattr("stepup.rpc.engine.core.Calls.end_overdue", failing)
    engine = core.CoreEngine({}, (), CallLimits())
    engine.listen("127.0.0.1:0", None)
    await engine.start()
    try:
        yield
    finally:
        await engine.stop(0)


@asynccontextmanager
async def events_of_the_core_are_handled(failing, monkeypatch):
    """The queue has a thread: an event that fails must not end the ones after it."""
    events = queue.SimpleQueue()
    kinds = core.cygrpc.CompletionType
    at_end = SimpleNamespace(completion_type=kinds.queue_shutdown)

    class Events:
        def poll(self, deadline=None):
            try:
                event = events.get(block=deadline is None)
            except queue.Empty:
                return SimpleNamespace(completion_type=kinds.queue_timeout)
            if event is at_end:
                events.put(at_end)  # whoever asks later gets it as well
            return event

        def shutdown(self):
            events.put(at_end)

    completing = core.CompletionQueue()
    monkeypatch.setattr(completing, "cygrpc", Events())
    completing.start()
    event = SimpleNamespace(completion_type=kinds.operation_complete, tag=lambda _event: failing())
    async with again(lambda: events.put(event)):
        yield
    await completing.close()


@asynccontextmanager
async def metrics_are_scraped(failing, _monkeypatch):
    class Collector:
        def describe(self):
            return []

        def collect(self):
            failing()
            yield GaugeMetricFamily("a", "b", 1)

    registry = CollectorRegistry(auto_describe=False)
    registry.register(Collector())
    with metrics_served("127.0.0.1", 0, registry) as port:

        async def scrape():
            with suppress(URLError, OSError):
                await asyncio.to_thread(urlopen, f"http://127.0.0.1:{port}/", timeout=5)

        async with repeated(scrape):
            yield


@asynccontextmanager
async def spans_are_exported(failing, monkeypatch):
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "1")

    def export(_spans):
        failing()
        return SpanExportResult.SUCCESS

    exporting = Exporting(SimpleNamespace(export=export, shutdown=nothing))
    traces = Traces(exporting.processor, 1.0)
    async with again(lambda: traces.begin("a", None, 1).end({}, failed=False)):
        yield
    await exporting.close()


@asynccontextmanager
async def repeated(work):
    async with AsyncExitStack() as stack:
        background.repeat(work, 0, stack)
        yield


@asynccontextmanager
async def until_cancelled(work):
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


@asynccontextmanager
async def again(cause):
    """Cause something again and again, as whoever sends signals does."""

    async def causing():
        while True:
            cause()
            await asyncio.sleep(0.001)

    async with until_cancelled(causing()):
        yield


def nothing():
    pass


ROWS = {
    "wiring.server:running:repeat(pipeline.finish_lines.sum_up)": [finish_lines_are_summed_up],
    "wiring.server:running:repeat(lambda: application.housekeeping(clock.now()))": [house_is_kept],
    "wiring.server:running:repeat(application.asked.flush)": [asked_people_are_recorded],
    "wiring.server:running:repeat(application.handlers.challenge.waits.poll)": [waits_are_polled],
    "wiring.credentials:credentials_of:append(partial(asyncio.to_thread, certificate.poll))": [
        a_certificate_is_looked_at
    ],
    "wiring.credentials:credentials_of:append(tokens.poll)": [issuers_keys_are_fetched],
    "wiring.stores:url_of_redis:repeat(KeepEmbeddedStore(valkey))": [
        the_embedded_store_is_looked_at,
        the_embedded_store_is_started_again,
    ],
    "process.serving:reload_on_hangup:run_for_ever(reload)": [
        the_configuration_is_reloaded,
        the_decision_log_is_opened_again_at_a_hangup,
    ],
    "process.worker_main:report_to_supervisor:run_for_ever(write_report)": [a_worker_reports],
    "process.workers:start_and_restart:run_for_ever(replace_all)": [workers_are_restarted],
    "process.supervisor:_Slot._keep_filled:run_for_ever(replace_when_failed)": [a_slot_is_filled],
    "rpc.engine.core:CoreEngine._watch_calls:run_for_ever(self._calls.watch_calls)": [
        slow_calls_are_watched
    ],
    "rpc.engine.core:CompletionQueue.__init__:Thread(self._wait)": [events_of_the_core_are_handled],
    "web.serving:_renew_certificate:while True": [the_certificate_for_browsers_is_looked_at],
    "telemetry.logs:metrics_served:Thread(server.serve_forever)": [metrics_are_scraped],
    "telemetry.traces:Exporting.__init__:BatchSpanProcessor(_Watched(exporter))": [
        spans_are_exported
    ],
}
"""Each task by where it is begun, and how a dependency of it fails here."""

BEGUN_BY_ANOTHER = {
    # Each poll of credentials has a row; the dependencies have a test of their own.
    "wiring.server:running:repeat(poll)",
    "wiring.watched:Watched.repeat_looks:repeat(look)",
    "wiring.watched:Watched.repeat_looks:repeat(look_at_credentials)",
    # The mechanism itself: `test_background.py`.
    "service.upkeep.background:repeat:create_task(run_for_ever(work, seconds, run_seconds))",
    "service.upkeep.background:repeat:run_for_ever(work)",
    "service.upkeep.background:run_for_ever:while True",
    # Their work has a row.
    "process.serving:serve_until_stopped:create_task(work)",
    "web.serving:serve_until_stopped:create_task(_renew_certificate(settings, server.config))",
    "process.supervisor:_Slot.__init__:create_task(self._keep_filled())",
    "process.supervisor:Supervisor._replace_failed:while True",
    "process.workers:_run_until:create_task(work)",
    "rpc.engine.core:CoreEngine.start:create_task(self._watch_calls())",
    "rpc.engine.core:CompletionQueue._wait:while True",
}

ENDS_BY_ITSELF = {
    # With a call or a command, or what it works on.
    "client.asynchronous.transport:AsyncRpcTransport.resent:while True",
    "client.synchronous.transport:RpcTransport.resent:while True",
    "process.workers:_run_until:create_task(stop.wait())",
    "cli.console.site:serving_console:Thread(server.serve_forever)",
    # Pages of one answer, and the followers of a command, which a person ends.
    "cli.ctl.audit.following:_new_events:while True",
    "cli.ctl.audit.reading:newest_events:while True",
    "cli.ctl.people.reading:_people:while True",
    "cli.decisions.following:Logs.new:while True",
    # Of a command, until its work is done.
    "cli.output:_show_progress:while True",
    "cli.output:progress_shown:Thread(_show_progress)",
    "web.workers:run_workers.keep_one:create_task(stop.wait())",
    "web.workers:run_workers.keep_one:create_task(worker.wait())",
    "system.daemon_threads:_start:Thread(run)",
    "telemetry.log_lines:LinesOfATurn._write_waiting:while True",
    "keys.following:ReloadingKeys._unwrap:Thread(unwrap)",
    "rpc.engine.core:CoreEngine.stop:create_task(self._stop(self._watching, grace_seconds))",
    "rpc.engine.core_call:_MethodCall._on_message:create_task(self._answer(payload))",
    "rpc.identity.trusted_keys:TrustedKeys._refresh:create_task(self._fetch_once())",
    "rpc.server.standard_services:Health._watch:while True",
    "service.step_up.attempts:Attempts.make:create_task(attempt)",
    "service.audit.events:export:while True",
    "service.audit.prune:PruneAudit.count:while True",
    "service.audit.verification:_Reading.pages:while True",
    "service.step_up.check:CheckStepUp.__call__:while True",
    "service.upkeep.rewrap:Rewrap._batches:while True",
    "stores.embedded_valkey:EmbeddedValkey._lock_data_dir:while True",
    "stores.embedded_valkey:EmbeddedValkey._launch:Thread(launch_and_wait)",
    "stores.redis.batched_reads:BatchedReads._begin:create_task(self._read_waiting())",
    "stores.redis.cluster:Cluster.initialize:create_task(self._look_for_servers())",
    "stores.sql.connection:uninterrupted:create_task(work)",
    "telemetry.traces:Exporting.close:create_task(asyncio.to_thread(self.processor.shutdown))",
}

BEGINNERS = {"repeat", "run_for_ever", "Thread", "create_task", "BatchSpanProcessor"}


def tasks_in(file):
    """Where a source file begins something that could last."""
    module = ".".join(file.relative_to(SOURCE).with_suffix("").parts)

    def visit(node, within):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            within = [*within, node.name]
        place = f"{module}:{'.'.join(within)}"
        if isinstance(node, ast.While) and isinstance(node.test, ast.Constant):
            yield f"{place}:while True"
        if isinstance(node, ast.Call):
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            if name in BEGINNERS or (name == "append" and ast.unparse(node.func) == "polls.append"):
                targets = [each.value for each in node.keywords if each.arg == "target"]
                yield f"{place}:{name}({ast.unparse([*node.args, *targets][0])})"
        for child in ast.iter_child_nodes(node):
            yield from visit(child, within)

    yield from visit(ast.parse(file.read_text()), [])


def test_every_task_has_a_row():
    files = [file for file in SOURCE.rglob("*.py") if not file.is_relative_to(SOURCE / "v1")]
    found = {task for file in files for task in tasks_in(file)}
    assert found == ROWS.keys() | BEGUN_BY_ANOTHER | ENDS_BY_ITSELF


@pytest.fixture(autouse=True)
def without_pauses(monkeypatch):
    """The pauses between two runs are the owner's; here they only cost time."""
    real = asyncio.sleep

    async def sleep(_seconds):
        await real(0)

    clockless = SimpleNamespace(**{**vars(asyncio), "sleep": sleep})
    monkeypatch.setattr(background, "asyncio", clockless)


@pytest.fixture(autouse=True)
def logged():
    with capture_logs() as lines:
        yield lines


ERROR = pytest.mark.parametrize("error", ERRORS, ids=lambda error: repr(error)[:40])


@ERROR
@pytest.mark.parametrize("row", [each for rows in ROWS.values() for each in rows])
async def test_s17_a_task_works_again_after_its_dependency_failed(row, error, monkeypatch):
    failing = Failing(error)
    async with asyncio.timeout(PATIENCE_SECONDS), row(failing, monkeypatch):
        await failing.works.wait()


def dependencies_on(fails):
    """What `Watched` looks at, all of which fail alike."""
    return Watched(
        SimpleNamespace(poll=fails, is_fresh=True),
        SimpleNamespace(check_writes=fails),
        SimpleNamespace(ping=fails, check_writes=fails),
        SimpleNamespace(look=fails),
        SimpleNamespace(check_certificate=fails, check_token_issuers=fails),
    )


@ERROR
@pytest.mark.parametrize("report_fails", [False, True], ids=["looking fails", "reporting fails"])
async def test_s17_every_dependency_is_looked_at_again(error, report_fails):
    """Those that there are, whatever they are called: each is up in the end."""
    left = 5 * FAILURES

    async def fails():
        nonlocal left
        if left:
            left -= 1
            raise error

    async def works():
        await asyncio.sleep(0)

    watched_ = dependencies_on(works if report_fails else fails)
    all_ = [each for each in vars(watched_).values() if isinstance(each, Dependency)]
    reported = asyncio.Event()

    async def report():
        if report_fails:
            await fails()
        if all(each.is_up for each in all_):
            reported.set()

    async with AsyncExitStack() as stack:
        watched_.repeat_looks(report, stack)
        await asyncio.wait_for(reported.wait(), PATIENCE_SECONDS)
    assert not left
    assert len(all_) == len(fields(Condition)) - 2  # `admits` and `decides` follow from others
