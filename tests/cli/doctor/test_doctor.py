"""`stepup doctor` with the settings of a server: what it finds, and that it changes nothing."""

import asyncio
import json
import os
import socket
from contextlib import closing
from datetime import timedelta

import asyncpg
import pytest
from sqlalchemy import make_url
from stepup_tests.certificates import DAY, authority
from stepup_tests.clock import ManualClock
from stepup_tests.postgres import new_database, postgres, postgres_template
from stepup_tests.valkey_server import HOST, Server, free_port, wait_until
from typer.testing import CliRunner

from stepup.cli.ctl.profiles import Profile
from stepup.cli.doctor.connection import OperatorConnection
from stepup.cli.doctor.findings import State, of_clock
from stepup.cli.main import app
from stepup.stores.clock_offsets import clock_offset
from stepup.stores.redis import close, connect
from stepup.stores.redis.examination import redis_clock_offset
from stepup.stores.sql import Limits
from stepup.stores.sql.clock import database_clock_offset
from stepup.system.clock import SystemClock

__all__ = ["postgres", "postgres_template"]

PASSWORD = "s3cret-w0rd"
# The rights of docs/operating.md.
ACL = (
    "resetkeys ~e{* ~r{* ~o{* ~c* ~l* ~p* resetchannels"
    " -@all +ping +get +getdel +set +mget +del +eval +time +select"
)
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


@pytest.fixture
def doctor(tmp_path):
    """Runs the command with a configuration; returns the exit code and the findings."""

    def run(toml="", command=("doctor", "--json"), port=0):
        file = tmp_path / "stepup.toml"
        server = f'[server]\ninsecure = true\nlisten = "127.0.0.1:{port}"\n'
        file.write_text((server if "[server]" not in toml else "") + toml)
        arguments = (*command, "--config", str(file), "--data-dir", str(tmp_path / "data"))
        result = CliRunner().invoke(app, arguments)
        assert PASSWORD not in result.output
        return result.exit_code, [json.loads(line) for line in result.stdout.splitlines()]

    return run


@pytest.fixture(scope="module")
def redis(tmp_path_factory):
    """A server with the user of a stepup server, and with a user that lacks rights."""
    directory = tmp_path_factory.mktemp("redis")
    directory.joinpath("users.acl").write_text(
        f"user default on nopass ~* &* +@all\nuser stepup on >{PASSWORD} {ACL}\n"
        f"user reader on >{PASSWORD} ~* -@all +ping +get +time\n"
        f"user forgotten on >{PASSWORD} {ACL.replace(' ~p*', '')}\n"
    )
    options = ("--aclfile", str(directory / "users.acl"), "--appendonly", "no")
    with closing(Server(directory / "server", *options)) as server:
        wait_until(server.answers, "Valkey answers")
        yield server


def url(redis, user):
    return f'[storage]\nredis_url = "redis://{user}:{PASSWORD}@{HOST}:{redis.port}"\n'


def worst(findings, check):
    order = list(State)
    return max((each["state"] for each in findings if each["check"] == check), key=order.index)


def explanations(findings, check):
    return " | ".join(each["explanation"] for each in findings if each["check"] == check)


def test_a_new_installation_is_well_and_nothing_is_made(doctor, tmp_path):
    code, findings = doctor()
    assert code == 0
    assert {each["state"] for each in findings} == {"ok"}
    assert [each["check"] for each in findings] == [
        "configuration",
        "certificate",
        "key ring",
        "database",
        "redis",
        "decision log",
        "server.listen",
    ]
    assert not (tmp_path / "data").exists()


def test_a_person_reads_a_line_for_each_thing(tmp_path):
    (tmp_path / "stepup.toml").write_text("[server]\ninsecure = true\n")
    result = CliRunner().invoke(
        app,
        ["doctor", "--config", str(tmp_path / "stepup.toml"), "--data-dir", str(tmp_path / "data")],
    )
    assert "ok       redis: embedded: a server starts its own\n" in result.stdout


def test_check_config_tries_the_same(tmp_path):
    (tmp_path / "stepup.toml").write_text(
        f'[server]\ninsecure = true\n[storage]\nredis_url = "redis://127.0.0.1:{free_port()}"\n'
    )
    command = ["check-config", "--connect", "--config", str(tmp_path / "stepup.toml")]
    result = CliRunner().invoke(app, [*command, "--data-dir", str(tmp_path / "data")])
    assert result.exit_code == 1
    assert "error    redis: storage.redis_url: Redis at 127.0.0.1" in result.stdout
    assert CliRunner().invoke(app, [*command, "--caller", "local"]).exit_code == 2


def test_a_configuration_that_cannot_be_read_fails(tmp_path):
    result = CliRunner().invoke(app, ["doctor", "--config", str(tmp_path / "none.toml")])
    assert result.exit_code == 2


def test_each_fault_is_an_error_and_the_others_are_tried(doctor, tmp_path):
    (tmp_path / "keys.json").write_text("{}")
    (tmp_path / "keys.json").chmod(0o600)
    (tmp_path / "pipe").mkdir()
    with closing(socket.create_server((HOST, 0))) as taken:
        code, findings = doctor(
            f'[storage]\nredis_url = "redis://127.0.0.1:{free_port()}"\n'
            f'database_url = "postgresql://stepup:{PASSWORD}@127.0.0.1:{free_port()}/stepup"\n'
            f'keys_file = "{tmp_path}/keys.json"\n'
            f'[log]\ndecisions = "{tmp_path}/none/decisions.jsonl"\n'
            f'[metrics]\nlisten = "127.0.0.1:{free_port()}"\n',
            port=taken.getsockname()[1],
        )
    assert code == 1
    assert {check: worst(findings, check) for check in {each["check"] for each in findings}} == {
        "configuration": "ok",
        "certificate": "ok",
        "key ring": "error",
        "database": "error",
        "redis": "error",
        "decision log": "warning",
        "server.listen": "warning",
        "metrics.listen": "ok",
    }
    assert "PostgreSQL at 127.0.0.1" in explanations(findings, "database")


def test_every_reason_not_to_start_is_said(doctor, tmp_path):
    _, findings = doctor(
        f'[server]\nlisten = "127.0.0.1:0"\n[tls]\ncertificate = "{tmp_path}/none.crt"\n'
        f'key = "{tmp_path}/none.key"\nclient_ca = "{tmp_path}/none.pem"\n'
        f'[storage]\nredis_url = "rediss://{HOST}:{free_port()}?ssl_ca_certs={tmp_path}/ca.pem"\n'
    )
    found = [each["explanation"] for each in findings if each["check"] == "configuration"]
    assert len(found) == 2
    assert "tls.certificate" in found[0]
    assert "storage.redis_url" in found[1]


def test_a_decision_log_that_nobody_reads_is_an_error(doctor, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    code, findings = doctor(f'[log]\ndecisions = "{tmp_path}/pipe"\n')
    assert (code, worst(findings, "decision log")) == (1, "error")
    assert "nobody reads" in explanations(findings, "decision log")


def test_a_decision_log_is_not_changed(doctor, tmp_path):
    (tmp_path / "decisions.jsonl").write_text("{}\n")
    code, _ = doctor(f'[log]\ndecisions = "{tmp_path}/decisions.jsonl"\n')
    assert (code, (tmp_path / "decisions.jsonl").read_text()) == (0, "{}\n")


@pytest.mark.parametrize(
    ("lifetime", "state"), [(30 * DAY, "ok"), (3 * DAY, "warning"), (-DAY, "error")]
)
def test_s15_a_certificate_that_expires_is_found_before(doctor, tmp_path, lifetime, state):
    chain, key = authority("servers").server(lifetime=lifetime).write(tmp_path, "server")
    (tmp_path / "clients.pem").write_bytes(authority("clients").chain)
    _, findings = doctor(
        f'[server]\nlisten = "127.0.0.1:0"\n[tls]\ncertificate = "{chain}"\nkey = "{key}"\n'
        f'client_ca = "{tmp_path}/clients.pem"\n'
    )
    assert worst(findings, "certificate") == state


def test_s15_an_issuer_whose_keys_cannot_be_fetched_is_an_error(doctor):
    code, findings = doctor(
        '[server]\nlisten = "127.0.0.1:0"\n[[token_issuers]]\nissuer = "https://issuer.example"\n'
        f'audiences = ["stepup"]\njwks_url = "http://127.0.0.1:{free_port()}/keys"\n'
    )
    assert (code, worst(findings, "token_issuers[0]")) == (1, "error")
    assert "does not answer" in explanations(findings, "token_issuers[0]")


def test_the_user_of_the_docs_has_the_rights_of_a_server(doctor, redis):
    code, findings = doctor(url(redis, "stepup"))
    assert code == 0, findings
    assert "permits the commands" in explanations(findings, "redis")
    assert worst(findings, "redis") == "unknown"  # INFO is for operators


@pytest.mark.parametrize("user", ["reader", "forgotten"])
def test_a_user_without_a_right_is_an_error(doctor, redis, user):
    code, findings = doctor(url(redis, user))
    assert (code, worst(findings, "redis")) == (1, "error")
    assert "(NOPERM)" in explanations(findings, "redis")


def test_a_redis_that_forgets_is_a_warning(doctor, redis):
    code, findings = doctor(f'[storage]\nredis_url = "redis://{HOST}:{redis.port}"\n')
    assert (code, worst(findings, "redis")) == (0, "warning")
    assert "append-only" in explanations(findings, "redis")


def test_a_redis_whose_replicas_may_lack_writes_is_a_warning(doctor, redis, tmp_path):
    options = ("--replicaof", f"{HOST} {redis.port}", "--repl-diskless-sync-delay", "0")
    with closing(Server(tmp_path / "replica", *options)) as replica:
        wait_until(
            lambda: (
                replica.answers()
                and replica.client.info("replication")["master_link_status"] == "up"
            ),
            "the replica follows",
        )
        _, findings = doctor(f'[storage]\nredis_url = "redis://{HOST}:{redis.port}"\n')
        redis.client.config_set("min-replicas-to-write", 1)
        try:
            _, safe = doctor(f'[storage]\nredis_url = "redis://{HOST}:{redis.port}"\n')
        finally:
            redis.client.config_set("min-replicas-to-write", 0)
    assert "storage.redis_url: Redis has replicas, and takes" in explanations(findings, "redis")
    assert worst(findings, "redis") == "warning"
    assert worst(safe, "redis") == "ok"


async def test_no_key_of_a_trial_remains(doctor, redis):
    await asyncio.to_thread(doctor, url(redis, "stepup"))
    client = connect(f"redis://{HOST}:{redis.port}")
    assert await client.keys("*probe*") in ([], [b"c-probe-0"])  # a trial write of servers, 5 s
    await close(client)


class Shifted(SystemClock):
    """A clock that is behind by seven seconds."""

    def now(self):
        return super().now() - timedelta(seconds=7)


async def test_the_clock_of_redis_is_compared(redis):
    client = connect(f"redis://{HOST}:{redis.port}")
    assert abs(await redis_clock_offset(client, SystemClock())) < timedelta(seconds=0.5)
    seven = await redis_clock_offset(client, Shifted())
    assert abs(seven - timedelta(seconds=7)) < timedelta(seconds=0.5)
    await close(client)


async def test_postgresql_is_tried_and_its_clock_is_compared(
    doctor, postgres, postgres_template, tmp_path
):
    async with new_database(postgres, postgres_template) as database:
        seven = await database_clock_offset(database, Limits(), Shifted())
        assert abs(seven - timedelta(seconds=7)) < timedelta(seconds=0.5)
        code, findings = await asyncio.to_thread(
            doctor, f'[storage]\ndatabase_url = "{database}"\nkeys_file = "{tmp_path}/keys.json"\n'
        )
    assert code == 1  # its key ring is missing
    assert worst(findings, "key ring") == "error"
    found = explanations(findings, "database")
    assert worst(findings, "database") == "warning"
    assert "takes writes" in found
    assert "could rewrite the audit trail" in found
    assert "its clock differs by" in found


async def test_s28_a_standby_that_may_lack_commits_is_a_warning(
    doctor, postgres, postgres_template
):
    async with new_database(postgres, postgres_template) as database:
        settings = f'[storage]\ndatabase_url = "{database}"\n'
        # PostgreSQL takes every program that may read its log for a standby.
        dsn = make_url(database).set(drivername="postgresql").render_as_string(hide_password=False)
        standby = await asyncpg.connect(dsn, server_settings={"replication": "database"})
        try:
            _, findings = await asyncio.to_thread(doctor, settings)
        finally:
            await standby.close()
    [sentence] = [each["explanation"] for each in findings if "standbys" in each["explanation"]]
    assert sentence.startswith("storage.database_url: PostgreSQL has standbys")
    assert "set synchronous_standby_names" in sentence
    assert worst(findings, "database") == "warning"


async def test_a_round_trip_is_taken_out_of_an_offset():
    """The store reads its clock in the middle of a round trip of two seconds."""
    clock = ManualClock()

    async def read():
        clock.advance(seconds=1)
        theirs = clock.now() + timedelta(seconds=3)
        clock.advance(seconds=1)
        return theirs

    assert await clock_offset(read, clock) == timedelta(seconds=3)


async def test_s15_a_connection_that_trusts_the_network_is_a_warning():
    profile = Profile(address="10.1.2.3:1", insecure=True, insecure_network_is_trusted=True)
    examinations = {each.check: each for each in OperatorConnection.of(profile).examinations()}
    [(state, sentence)] = [each async for each in examinations["tls"].remarks()]
    assert (state, "everybody on the network" in sentence) == (State.WARNING, True)


@pytest.mark.parametrize(
    ("seconds", "state"),
    [(0.9, "ok"), (-0.9, "ok"), (1, "warning"), (-4.9, "warning"), (5, "error"), (-5, "error")],
)
def test_a_clock_that_is_off_is_a_warning_and_then_an_error(seconds, state):
    assert of_clock(timedelta(seconds=seconds))[0] == state
