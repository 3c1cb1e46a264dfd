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


class Refusing(socketserver.BaseRequestHandler):
    """A server of PostgreSQL that refuses whoever connects (protocol 3.0, ErrorResponse)."""

    def handle(self):
        self.request.recv(1024)
        fields = b"SFATAL\0C" + self.server.sqlstate + b"\0Mno, ann with s3cret\0\0"
        self.request.sendall(b"E" + struct.pack("!I", len(fields) + 4) + fields)


def refusing(sqlstate):
    @contextmanager
    def running(*_):
        with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Refusing) as server:
            server.sqlstate = sqlstate
            threading.Thread(target=server.serve_forever, args=(0.01,)).start()
            yield f"postgresql://ann:s3cret@127.0.0.1:{server.server_address[1]}/stepup?ssl=disable"
            server.shutdown()

    return running


@contextmanager
def another_encoding(_, postgres):
    name = "stepup_test_of_another_encoding"
    options = "TEMPLATE template0 ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'"
    asyncio.run(run_alone(postgres, f"CREATE DATABASE {name} {options}"))
    yield make_url(postgres).set(database=name).render_as_string(hide_password=False)
    asyncio.run(run_alone(postgres, f"DROP DATABASE {name} WITH (FORCE)"))


FAULTS = {
    "an older schema": (an_older_schema, r"the database schema is of revision 0008, .*: run `ste"),
    "a newer schema": (a_newer_schema, r"the database schema is of revision 9999, .* version: use"),
    "no file": (no_file, r"the database file /.*/stepup.db does not exist: run `stepup migrate`"),
    "another file": (another_file, r"the database file /.*/stepup.db cannot be .*SQLITE_NOTADB"),
    "nobody listens": (
        nobody_listening,
        r"PostgreSQL at 127.0.0.1:1 cannot be reached \(Connection refused\): check",
    ),
    "a wrong password": (
        refusing(b"28P01"),
        r"PostgreSQL at 127.0.0.1:\d+ refuses the user ann: check the user and the password",
    ),
    "no database": (
        refusing(b"3D000"),
        r"PostgreSQL at 127.0.0.1:\d+ has no database stepup: create it, or check the name",
    ),
    "no more connections": (
        refusing(b"53300"),
        r"PostgreSQL at 127.0.0.1:\d+ answers with an error \(53300\): see the log of PostgreSQL",
    ),
    "another encoding": (another_encoding, r"the database is in the encoding LATIN1, .* UTF-8: "),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_command_says_the_same_of_a_fault_and_what_to_do(
    fault, tmp_path, monkeypatch, request
):
    monkeypatch.setattr("os.umask", lambda _: 0)  # the tests' own stays as it is
    for command in ("main", "keys.commands"):
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
