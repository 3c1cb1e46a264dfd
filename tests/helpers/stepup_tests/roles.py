"""Databases with the two roles of `deploy/postgresql/roles.sql`."""

import os
import subprocess
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from sqlalchemy import make_url

from stepup_tests.e2e.sql import execute
from stepup_tests.places import ROOT
from stepup_tests.postgres import INSTALLATION, WHEEL

MIGRATES, SERVES = "stepup_migrate", "stepup_serve"
_ROLES = ROOT / "deploy" / "postgresql" / "roles.sql"
_INSTALLED = Path(find_spec(WHEEL).submodule_search_locations[0]).parent
POSTGRES_PROGRAMS = _INSTALLED / INSTALLATION / "bin"
_PASSWORDS = {"STEPUP_MIGRATE_PASSWORD": "m'1", "STEPUP_SERVE_PASSWORD": 's"1'}


class Urls(NamedTuple):
    """Of one database, as its superuser, as the role that migrates, and as the one that serves."""

    admin: str
    migrates: str
    serves: str


@contextmanager
def empty_database_with_roles(server):
    """The URLs of a new database on a server where nobody else has these roles."""
    execute(server.url(), "CREATE DATABASE stepup")
    url = make_url(server.url("stepup"))
    made = subprocess.run(
        [
            POSTGRES_PROGRAMS / "psql",
            "-h",
            url.query["host"],
            "-U",
            "postgres",
            "-d",
            "stepup",
            "-Xqf",
            _ROLES,
        ],
        env=os.environ | _PASSWORDS,
        capture_output=True,
        text=True,
        check=False,
    )
    assert not made.returncode, made.stderr
    roles = ("postgres", MIGRATES, SERVES)
    yield Urls(*(url.set(username=role).render_as_string(hide_password=False) for role in roles))
    execute(server.url(), "DROP DATABASE stepup WITH (FORCE)")
    execute(server.url(), f"DROP ROLE {MIGRATES}, {SERVES}")
