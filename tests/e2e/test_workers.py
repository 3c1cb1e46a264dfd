"""Several processes that serve on one port."""

import json
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress

import grpc
import pytest
from google.protobuf.json_format import ParseDict
from stepup_tests.e2e.checkers import CALLERS, ENOUGH, TENANT, checking
from stepup_tests.e2e.clients import GrpCurl
from stepup_tests.e2e.metrics import LISTEN, exposed, metrics
from stepup_tests.e2e.people import OSQUERY, administrator, enrol, person, protect, verdict
from stepup_tests.e2e.probes import status
from stepup_tests.e2e.processes import (
    PROGRAMS,
    eventually,
    is_alive,
    run,
    temporary_directory,
)
from stepup_tests.e2e.serving import serving
from stepup_tests.e2e.topologies import DIRECT, EMBEDDED, TOPOLOGY
from stepup_tests.engines import CONNECTION_OF_ITS_OWN
from stepup_tests.service_notices import Notices

from stepup.client import SERVICE_CONFIG
from stepup.v1 import actor_pb2
from stepup.v1.step_up_service_pb2 import (
    DECISION_ALLOWED,
    DECISION_STEP_UP_REQUIRED,
    REVOCATION_SCOPE_SESSION,
    CheckStepUpRequest,
    RevokeElevationsRequest,
)
from stepup.v1.step_up_service_pb2_grpc import StepUpServiceStub

pytestmark = pytest.mark.e2e

WORKERS = 2
PROBES = '[probes]\nlisten = "127.0.0.1:0"'
RETRYING = json.loads(SERVICE_CONFIG)


def start(stack, directory):
    """A server with workers, and a policy that protects one of two operations."""
    file = directory / "stepup.toml"
    file.write_text(f"[server]\nworkers = {WORKERS}\ndrain_seconds = 2\n{LISTEN}\n{PROBES}\n")
    server = stack.enter_context(serving(directory, "--config", str(file)))
    protect(GrpCurl(server), administrator(TENANT), OSQUERY)
    return server


@pytest.fixture(scope="module")
def manager():
    """The service manager of the shared server."""
    with temporary_directory() as directory, closing(Notices(directory / "notify")) as notices:
        yield notices


@pytest.fixture(scope="module")
def shared(tmp_path_factory, manager):
    """The server of all tests that leave it running."""
    with ExitStack() as stack:
        with pytest.MonkeyPatch.context() as environment:
            environment.setenv("NOTIFY_SOCKET", manager.path)
            server = start(stack, tmp_path_factory.mktemp("workers"))
        yield server


@pytest.fixture
def server(shared):
    """The same, once all its workers serve again."""
    all_serve(shared)
    return shared


@pytest.fixture
def own_server(tmp_path):
    """One that a test may end."""
    with ExitStack() as stack:
        yield start(stack, tmp_path)


def serving_workers(server):
    return metrics(server)["stepup_workers_serving",]


def all_serve(server):
    eventually(lambda: serving_workers(server) == WORKERS, "all workers serve")


def is_replaced(server, worker):
    """Wait until another worker serves instead of one."""
    eventually(
        lambda: worker not in server.workers and len(server.workers) == WORKERS,
        "another worker is started",
    )
    all_serve(server)


def restarted(server):
    return len(server.logged("workers_restarted"))


def test_only_the_supervisor_reports_to_the_service_manager(server, manager):
    ready = ["READY=1", f"STATUS={WORKERS} workers on {server.own_address}"]
    notices = [manager.receive()]
    server.hang_up()
    while notices[-1] != ready or len(notices) < 3:
        notices.append(manager.receive())
    # Other tests may have reloaded the server as well. A worker would report its own address.
    for notice in notices:
        assert notice == ready or notice[0] == "RELOADING=1"


def test_a_killed_worker_leaves_calls_unavailable_until_another_serves(server):
    before, failures = server.workers, metrics(server)["stepup_worker_failures_total",]
    with checking(server) as callers:
        os.kill(before[0], signal.SIGKILL)
        callers.wait_for(ENOUGH, "right")
        is_replaced(server, before[0])
        assert set(callers.outcomes) <= {"right", "UNAVAILABLE"}
        # A connection may have been waiting for the worker. From now on nothing fails.
        callers.wait_for(ENOUGH, "right")
        failed = callers.outcomes["UNAVAILABLE"]
        callers.wait_for(ENOUGH, "right")
        assert callers.outcomes["UNAVAILABLE"] == failed
    assert metrics(server)["stepup_worker_failures_total",] == failures + 1


def test_a_worker_that_hangs_is_replaced(server):
    before, hung = server.workers, len(server.logged("worker_hangs"))
    os.kill(before[0], signal.SIGSTOP)
    eventually(lambda: len(server.logged("worker_hangs")) > hung, "it is killed")
    is_replaced(server, before[0])
    assert server.workers[:-1] == before[1:]


@pytest.mark.topologies(*DIRECT, reason="Envoy may put its only server aside")
def test_workers_are_replaced_under_load_and_with_our_retry_policy_no_call_fails(server):
    before, times = server.workers, restarted(server)
    with checking(server, **RETRYING) as callers:
        server.restart_workers()
        eventually(lambda: restarted(server) == times + 1, "all workers are replaced")
        callers.wait_for(ENOUGH, "right")
    assert set(callers.outcomes) == {"right"}
    assert not set(before) & set(server.workers)
    assert len(server.workers) == WORKERS


def test_a_replacement_that_does_not_come_up_leaves_the_workers_serving(server):
    before = server.workers
    keys = server.data_dir / "keys.json"
    keys.rename(keys.with_suffix(".away"))
    keys.mkdir()
    try:
        server.restart_workers()
        eventually(lambda: server.logged("restart_given_up"), "the log says so")
        assert server.workers == before
    finally:
        keys.rmdir()
        keys.with_suffix(".away").rename(keys)


def test_hangups_reach_every_worker_and_their_metrics_are_added_up(server):
    name = ("stepup_configuration_reload_failures_total",)
    before = metrics(server).get(name, 0)
    file = server.data_dir.parent / "stepup.toml"
    whole = file.read_text()
    file.write_text("[server\n")
    try:
        server.hang_up()
        eventually(lambda: metrics(server)[name] == before + WORKERS, "every worker refuses it")
    finally:
        file.write_text(whole)


def test_s17_readiness_follows_what_the_workers_can_do(server):
    assert status(server, "/ready") == 200
    with server.site.without_database():
        eventually(lambda: serving_workers(server) == 0, "no worker can decide")
        assert status(server, "/ready") == 503
        assert status(server, "/live") == 200
        assert status(server, "/ready?service=sql") == 503
        assert status(server, "/ready?service=redis") == 200
    all_serve(server)
    assert status(server, "/ready") == 200


def test_no_series_is_of_one_worker(server):
    assert "stepup_build_info" in exposed(server)
    assert 'stepup_engine{engine="core"}' in exposed(server)
    assert "pid=" not in exposed(server)


def test_another_server_on_the_same_port_is_refused(server, tmp_path):
    command = (PROGRAMS / "stepup", "serve", "--insecure", "--workers", "2")
    refused = run((*command, "--listen", server.address, "--data-dir", tmp_path), tmp_path)
    assert refused.returncode == 2
    assert f"stepup: server.listen: cannot listen on {server.address}" in refused.stderr


def test_workers_that_cannot_start_say_why_once(tmp_path):
    (tmp_path / "keys.json").mkdir()
    command = (PROGRAMS / "stepup", "serve", "--insecure", "--workers", "2")
    refused = run((*command, "--listen", "127.0.0.1:0", "--data-dir", tmp_path), tmp_path)
    assert refused.returncode == 2
    assert refused.stderr.count("stepup: storage.data_dir: ") == 1
    assert refused.stdout == ""


@contextmanager
def a_connection_to_each(server):
    """For each worker a stub whose connection it has accepted."""
    with ExitStack() as stack:
        stubs = [
            StepUpServiceStub(
                stack.enter_context(grpc.insecure_channel(server.address, CONNECTION_OF_ITS_OWN))
            )
            for _ in range(16)
        ]
        eventually(lambda: all(decides(stub, BOB) for stub in stubs), "every connection is there")
        os.kill(server.workers[0], signal.SIGSTOP)
        try:
            calls = [stub.CheckStepUp.future(asking(BOB), timeout=5) for stub in stubs]
            awake = [call.code() is grpc.StatusCode.OK for call in calls]
        finally:
            os.kill(server.workers[0], signal.SIGCONT)
        yield stubs[awake.index(False)], stubs[awake.index(True)]


BOB = person(TENANT, "bob")
EVE = person(TENANT, "eve")
DAVE = person(TENANT, "dave")
WRITES = 15


def actor(described):
    return ParseDict(described, actor_pb2.ActorContext())


def asking(described):
    return CheckStepUpRequest(actor=actor(described), operation=OSQUERY)


def decides(stub, described):
    with suppress(grpc.RpcError):
        return stub.CheckStepUp(asking(described), timeout=10)


@pytest.mark.topologies(*DIRECT, reason="connections to workers are Envoy's")
def test_s10_what_one_worker_revokes_another_knows_within_2_s_although_redis_forgets_it(server):
    enrol(GrpCurl(server), EVE)
    with server.site.redises(server) as stores, a_connection_to_each(server) as stubs:
        one, another = stubs
        assert another.CheckStepUp(asking(EVE)).decision == DECISION_ALLOWED
        remembered = [
            (store, key, max(store.pttl(key), 0), store.dump(key))
            for store in stores
            for key in store.scan_iter()
        ]
        one.RevokeElevations(
            RevokeElevationsRequest(actor=actor(EVE), scope=REVOCATION_SCOPE_SESSION)
        )
        assert remembered
        for store, *entry in remembered:
            store.restore(*entry, replace=True)
        time.sleep(2)
        assert another.CheckStepUp(asking(EVE)).decision == DECISION_STEP_UP_REQUIRED


@pytest.mark.topologies(EMBEDDED, reason="the embedded store is its subject")
def test_a_killed_store_is_started_again_for_all_workers(server):
    enrol(GrpCurl(server), DAVE)
    os.kill(server.embedded_store, signal.SIGKILL)
    with a_connection_to_each(server) as stubs:
        for stub in stubs:
            eventually(lambda stub=stub: decides(stub, DAVE), "decisions are made again")
            assert stub.CheckStepUp(asking(DAVE)).decision == DECISION_ALLOWED


@pytest.mark.topologies(*DIRECT, reason="connections to workers are Envoy's")
def test_workers_write_to_the_database_side_by_side_and_leave_one_chain(server):
    with a_connection_to_each(server) as stubs, ThreadPoolExecutor() as threads:
        writers = [
            threads.submit(write_repeatedly, stub, person("writers", f"{writer}-{number}"))
            for number in range(4)
            for writer, stub in enumerate(stubs)
        ]
        for writer in writers:
            writer.result()
    command = (PROGRAMS / "stepup", "audit", "verify", "--tenant", "writers")
    verified = run((*command, "--data-dir", server.data_dir), server.data_dir.parent)
    assert verified.stdout == f"tenants: 1, events: {len(writers) * WRITES}, intact\n"


def write_repeatedly(stub, described):
    """Make changes; each has an audit event."""
    request = RevokeElevationsRequest(actor=actor(described), scope=REVOCATION_SCOPE_SESSION)
    for _ in range(WRITES):
        stub.RevokeElevations(request, timeout=20)


def test_when_all_are_told_to_end_what_has_begun_is_answered(own_server):
    workers = own_server.workers
    with checking(own_server) as callers:
        assert own_server.terminate() == 0
        callers.wait_for(1, "UNAVAILABLE")
    assert set(callers.outcomes) - {"CANCELLED"} == {"right", "UNAVAILABLE"}
    assert callers.outcomes["CANCELLED"] <= CALLERS
    assert not any(is_alive(pid) for pid in workers)
    assert own_server.logged("worker_killed") == []
    assert not list(own_server.temporary.iterdir())


def test_when_the_supervisor_is_killed_nothing_is_left_and_it_can_be_started_anew(own_server):
    left = own_server.workers
    if TOPOLOGY == EMBEDDED:
        left.append(own_server.embedded_store)
    own_server.kill()
    eventually(lambda: not any(is_alive(pid) for pid in left), "all its processes have ended")
    own_server.start()
    assert verdict(GrpCurl(own_server), BOB, OSQUERY)[0] == "ENROLLMENT_REQUIRED"
