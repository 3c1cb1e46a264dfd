"""Every command that needs the database says the same of the same fault, and what to do."""

import asyncio
import re
import socket
import socketserver
import ssl
import struct
import threading
from contextlib import contextmanager, suppress
from datetime import UTC, datetime

import pytest
from cryptography import x509
from sqlalchemy import make_url
from stepup_tests.certificates import Authority
from stepup_tests.e2e.sql import execute
from stepup_tests.postgres import SETTINGS, PostgresServer, run_alone
from stepup_tests.valkey_server import free_port
from typer.testing import CliRunner

from stepup.cli.main import app
from stepup.keys.file import KeyFile
from stepup.keys.source import KeySource
from stepup.stores.sql import downgrade, upgrade

COMMANDS = {
    "serve": ("serve", "--insecure", "--listen", "127.0.0.1:0"),
    "migrate": ("migrate",),
    "keys": ("keys", "status"),
    "audit": ("audit", "verify"),
    "prune": ("audit", "prune", "--before", "2020-01-01T00:00Z"),
    "break-glass": (
        *("break-glass", "reset-enrollment", "--tenant", "acme"),
        *("--user", "ada", "--reason", "fire"),
    ),
}


@contextmanager
def an_older_schema(path, _):
    url = f"sqlite:///{path / 'stepup.db'}"
    asyncio.run(upgrade(url))
    asyncio.run(downgrade(url, "0008"))
    yield url


@contextmanager
def a_newer_schema(path, _):
    url = f"sqlite:///{path / 'stepup.db'}"
    asyncio.run(upgrade(url))
    execute(
        url.replace("sqlite", "sqlite+aiosqlite"), "UPDATE alembic_version SET version_num = '9999'"
    )
    yield url


@contextmanager
def no_file(path, _):
    yield f"sqlite:///{path / 'stepup.db'}"


@contextmanager
def another_file(path, _):
    (path / "stepup.db").write_text("not a database " * 100)
    yield f"sqlite:///{path / 'stepup.db'}"


@contextmanager
def nobody_listening(*_):
    yield "postgresql://ann:s3cret@127.0.0.1:1/stepup"


def message(kind, content):
    """A message of a server of PostgreSQL (protocol 3.0)."""
    return kind + struct.pack("!I", len(content) + 4) + content


def error(sqlstate):
    return message(b"E", b"SFATAL\0C" + sqlstate + b"\0Mno, ann with s3cret\0\0")


STANDBY = b"".join(
    (
        message(b"R", struct.pack("!I", 0)),  # no password is necessary
        message(b"S", b"server_version\x0018.4\0"),
        message(b"S", b"in_hot_standby\0on\0"),
        message(b"Z", b"I"),  # ready for queries
    )
)


class Answering(socketserver.BaseRequestHandler):
    """A server of PostgreSQL that gives each client one answer."""

    def handle(self):
        self.request.recv(1024)
        self.request.sendall(self.server.answer)


def answering(answer, url="postgresql://ann:s3cret@{}/stepup?ssl=disable"):
    @contextmanager
    def running(*_):
        with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Answering) as server:
            server.answer = answer
            threading.Thread(target=server.serve_forever, args=(0.01,)).start()
            yield url.format(f"127.0.0.1:{server.server_address[1]}")
            server.shutdown()

    return running


class AnsweringInTls(socketserver.BaseRequestHandler):
    """A server of PostgreSQL that turns to TLS, and has nothing else to answer."""

    def handle(self):
        self.request.recv(8)
        self.request.sendall(b"S")
        with suppress(OSError):
            self.server.context.wrap_socket(self.request, server_side=True)


def with_tls(authorities, *names, mode="verify-full"):
    """A server with a certificate of its own authority, and a client that knows `authorities`."""

    @contextmanager
    def running(path, request):
        authority = Authority.create("own")
        (path / "own.crt").write_bytes(authority.chain)
        (path / "foreign.crt").write_bytes(Authority.create("foreign").chain)
        certificate, key = authority.issue(*map(x509.DNSName, names)).write(path, "server")
        with socketserver.ThreadingTCPServer(("127.0.0.1", 0), AnsweringInTls) as server:
            server.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            server.context.load_cert_chain(certificate, key)
            threading.Thread(target=server.serve_forever, args=(0.01,)).start()
            patch = request.getfixturevalue("monkeypatch")
            patch.setenv("PGSSLROOTCERT", str(path / f"{authorities}.crt"))
            yield f"postgresql://ann:s3cret@127.0.0.1:{server.server_address[1]}/x?ssl={mode}"
            server.shutdown()

    return running


@pytest.fixture(scope="module")
def listening():
    """The address of a real PostgreSQL that listens with TCP, and demands passwords and more."""
    port = str(free_port())
    server = PostgresServer({**SETTINGS, "listen_addresses": "127.0.0.1", "port": port})
    (server.directory / "data" / "pg_hba.conf").write_text(
        "local all all trust\n"
        "host trusting all all trust\n"
        "hostssl with_tls all all scram-sha-256\n"
        "host stepup,read_only all all scram-sha-256\n"
    )
    with server:
        admin = f"{server.url()}&port={port}"
        for statement in (
            "CREATE ROLE ann LOGIN PASSWORD 's3cret'",
            *(f"CREATE DATABASE {name} OWNER ann" for name in ("stepup", "read_only")),
            "CREATE DATABASE trusting",
            "CREATE ROLE crowded LOGIN PASSWORD 's3cret' CONNECTION LIMIT 0",
            "ALTER DATABASE read_only SET default_transaction_read_only = on",
        ):
            asyncio.run(run_alone(admin, statement))
        yield f"127.0.0.1:{port}"


def real(rest, user="ann:s3cret"):
    """A URL of the real PostgreSQL."""

    @contextmanager
    def running(_, request):
        yield f"postgresql://{user}@{request.getfixturevalue('listening')}/{rest}"

    return running


@contextmanager
def unknown_host(_, request):
    def fail(*_, **__):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    request.getfixturevalue("monkeypatch").setattr(socket, "getaddrinfo", fail)
    yield "postgresql://ann:s3cret@db.example.com/stepup"


@contextmanager
def another_encoding(_, request):
    postgres = request.getfixturevalue("postgres")
    name = "stepup_test_of_another_encoding"
    options = "TEMPLATE template0 ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'"
    asyncio.run(run_alone(postgres, f"CREATE DATABASE {name} {options}"))
    yield make_url(postgres).set(database=name).render_as_string(hide_password=False)
    asyncio.run(run_alone(postgres, f"DROP DATABASE {name} WITH (FORCE)"))


AT = "storage.database_url: PostgreSQL at 127.0.0.1"
FAULTS = {
    "an older schema": (
        an_older_schema,
        r"the database file /.*/stepup.db has a schema of revision 0008, .*: run `stepup migrate`",
    ),
    "a newer schema": (
        a_newer_schema,
        r"the database file /.*/stepup.db has a schema of revision 9999, .* version: use",
    ),
    "no file": (no_file, r"the database file /.*/stepup.db does not exist: run `stepup migrate`"),
    "another file": (
        another_file,
        r"the database file /.*/stepup.db cannot be .*SQLITE_NOTADB\): it is not a database",
    ),
    "nobody listens": (
        nobody_listening,
        AT + r":1 cannot be reached \(Connection refused\): check",
    ),
    "a wrong password": (
        answering(error(b"28P01")),
        AT + r":\d+ refuses the password of the user ann \(28P01\): check the user",
    ),
    "a wrong password, and a URL without a user": (
        answering(error(b"28P01"), "postgresql://{}?ssl=disable"),
        AT + r":\d+ refuses the password of the user eve \(the database URL has no user\) ",
    ),
    "a denied right": (
        answering(error(b"42501")),
        AT + r":\d+ denies the user ann a right that this command needs \(42501\): ",
    ),
    "a standby": (
        answering(STANDBY),
        AT + r":\d+ is a standby: name the primary, or all servers of the",
    ),
    "no database": (
        answering(error(b"3D000")),
        AT + r":\d+ has no database stepup \(3D000\): create it, or check the name",
    ),
    "no database, and a URL without a name": (
        answering(error(b"3D000"), "postgresql://{}?ssl=disable"),
        AT + r":\d+ has no database eve \(3D000\): create it, or check the name",
    ),
    "no more connections": (
        answering(error(b"53300")),
        AT + r":\d+ has no free connection \(53300\): raise max_connections",
    ),
    "really a wrong password": (
        real("stepup", "ann:wr0ng"),
        AT + r":\d+ refuses the password of the user ann \(28P01\): check",
    ),
    "really no role": (
        real("trusting", "bob:s3cret"),
        AT + r":\d+ has no role that may log in for the user bob \(28000\): create it",
    ),
    "really no free connection": (
        real("stepup", "crowded:s3cret"),
        AT + r":\d+ has no free connection \(53300\): raise max_connections",
    ),
    "really no schema": (
        real("stepup"),
        r"storage.database_url: the database stepup of PostgreSQL at 127.0.0.1:\d+ has no schema",
    ),
    "TLS is demanded": (
        real("with_tls?ssl=disable"),
        AT + r":\d+ accepts no connection of the user ann .* \(28000\): see pg_hba.conf; if TLS is",
    ),
    "TLS is refused": (
        real("stepup?ssl=require"),
        AT + r":\d+ does not offer TLS, which the URL demands",
    ),
    "no authorities": (
        real("stepup?ssl=verify-full"),
        AT + r":\d+ cannot be verified, because no authorities are known: name their file in PGSSL",
    ),
    "a certificate of another authority": (
        with_tls("foreign", "localhost"),
        AT
        + r":\d+ presents a certificate that is not verified \(.*\): PGSSLROOTCERT names /.*/for",
    ),
    "a certificate of another host": (
        with_tls("own", "elsewhere"),
        AT
        + r":\d+ presents a certificate that is not verified \(IP address mismatch, .*\): PGSSLRO",
    ),
    "no authority file": (
        with_tls("missing", "localhost"),
        r"storage.database_url: PGSSLROOTCERT: /.*/missing.crt: cannot be read: No such file",
    ),
    "no authority file, and TLS without verification": (
        with_tls("missing", "localhost", mode="require"),
        r"storage.database_url: PGSSLROOTCERT: /.*/missing.crt: cannot be read: No such file",
    ),
    "an unknown host": (
        unknown_host,
        r"storage.database_url: PostgreSQL at db.example.com cannot be reached \(its host name",
    ),
    "another encoding": (
        another_encoding,
        r"storage.database_url: the database .* of PostgreSQL at /.* is in the encoding LATIN1, ",
    ),
}


CHANGES = {
    "no right": (
        "trusting",
        AT + r":\d+ denies the user ann a right .* \(42501\): grant the right",
    ),
    "read-only": ("read_only", AT + r":\d+ is read-only \(25006\): name the primary, or turn"),
}


@pytest.fixture
def said_by(tmp_path, monkeypatch):
    """Runs a command that fails; returns what it writes to standard error."""
    monkeypatch.setattr("os.umask", lambda _: 0)  # the tests' own stays as it is
    for command in ("serve", "keys.commands", "break_glass.commands"):
        monkeypatch.setattr(f"stepup.cli.{command}.configure_logging", lambda *_: None)
    KeySource(tmp_path / "keys.json").create(KeyFile.generated(datetime.now(UTC)))

    def run(command, url):
        settings = {
            "STEPUP_STORAGE__DATABASE_URL": url,
            "STEPUP_STORAGE__DATA_DIR": str(tmp_path),
            "STEPUP_STORAGE__REDIS_URL": "redis://127.0.0.1:1",
            "LOGNAME": "eve",
            "PGUSER": None,
            "PGDATABASE": None,
            "HOME": str(tmp_path),  # it may have authorities
        }
        result = CliRunner().invoke(app, command, env=settings)
        assert result.exit_code == 2, (command, result.output, result.exception)
        assert not re.search("s3cret|wr0ng", result.output)
        return result.stderr

    return run


@pytest.mark.parametrize("fault", FAULTS)
def test_each_command_says_the_same_of_a_fault_and_what_to_do(fault, tmp_path, request, said_by):
    make, sentence = FAULTS[fault]
    # It mends these.
    is_mended = fault in ("an older schema", "no file", "really no schema")
    with make(tmp_path, request) as url:
        said = {
            said_by(command, url)
            for name, command in COMMANDS.items()
            if not (is_mended and name == "migrate")
        }
    [one] = said
    assert re.match(f"stepup: {sentence}", one), one


@pytest.mark.parametrize("fault", CHANGES)
def test_a_migration_says_why_it_may_change_nothing(fault, listening, said_by):
    database, sentence = CHANGES[fault]
    said = said_by(COMMANDS["migrate"], f"postgresql://ann:s3cret@{listening}/{database}")
    assert re.match(f"stepup: {sentence}", said), said
