"""Every command that needs the database says the same of the same fault, and what to do."""

import asyncio
import re
import socketserver
import struct
import threading
from contextlib import contextmanager
from datetime import UTC, datetime

import pytest
from sqlalchemy import make_url
from stepup_tests.e2e.sql import execute
from stepup_tests.postgres import run_alone
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


@contextmanager
def another_encoding(_, postgres):
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
    "another encoding": (
        another_encoding,
        r"storage.database_url: the database .* of PostgreSQL at /.* is in the encoding LATIN1, ",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_command_says_the_same_of_a_fault_and_what_to_do(
    fault, tmp_path, monkeypatch, request
):
    monkeypatch.setattr("os.umask", lambda _: 0)  # the tests' own stays as it is
    for command in ("main", "keys.commands", "break_glass.commands"):
        monkeypatch.setattr(f"stepup.cli.{command}.configure_logging", lambda *_: None)
    KeySource(tmp_path / "keys.json").create(KeyFile.generated(datetime.now(UTC)))
    make, sentence = FAULTS[fault]
    postgres = request.getfixturevalue("postgres") if make is another_encoding else None
    said = {}
    with make(tmp_path, postgres) as url:
        settings = {
            "STEPUP_STORAGE__DATABASE_URL": url,
            "STEPUP_STORAGE__DATA_DIR": str(tmp_path),
            "STEPUP_STORAGE__REDIS_URL": "redis://127.0.0.1:1",
            "LOGNAME": "eve",
            "PGUSER": None,
            "PGDATABASE": None,
        }
        for name, command in COMMANDS.items():
            # It mends these.
            if name == "migrate" and fault in ("an older schema", "no file"):
                continue
            result = CliRunner().invoke(app, command, env=settings)
            said[name] = result.stderr
            assert result.exit_code == 2, (name, result.output, result.exception)
    [one] = set(said.values())
    assert re.match(f"stepup: {sentence}", one), one
    assert "s3cret" not in one
