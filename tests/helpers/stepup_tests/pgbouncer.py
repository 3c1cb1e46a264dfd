"""A real PgBouncer on a unix socket, before a server of PostgreSQL: `make .pgbouncer/stamp`."""

import os
import pwd
import shutil
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import make_url

from stepup_tests.e2e.processes import eventually
from stepup_tests.places import ROOT, SHORT
from stepup_tests.postgres import UNPRIVILEGED

PROGRAM = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:{ROOT / '.pgbouncer'}")


@contextmanager
def pooled(url, mode, **settings):
    """The URL by which PgBouncer leads to a database on a unix socket.

    Args:
        url: of the database.
        mode: session, transaction or statement.
        settings: others of PgBouncer.
    """
    behind = make_url(url)
    with tempfile.TemporaryDirectory(prefix="pgb-", dir=SHORT) as name:  # short, for the socket
        directory = Path(name)
        command = [PROGRAM, directory / "ini"]
        if os.getuid() == 0:  # it does not run as root
            os.chown(directory, pwd.getpwnam(UNPRIVILEGED).pw_uid, -1)
            command += ["-u", UNPRIVILEGED]
        lines = {
            "listen_addr": "",
            "listen_port": 5432,
            "unix_socket_dir": directory,
            "auth_type": "any",
            "pool_mode": mode,
            "logfile": directory / "log",
            **settings,
        }
        target = f"{behind.database} = host={behind.query['host']} user={behind.username}"
        (directory / "ini").write_text(
            f"[databases]\n{target}\n[pgbouncer]\n"
            + "".join(f"{name} = {value}\n" for name, value in lines.items())
        )
        (directory / "ini").chmod(0o644)
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
            try:
                eventually((directory / ".s.PGSQL.5432").exists, "PgBouncer listens")
                yield behind.set(query={"host": name}).render_as_string(hide_password=False)
            finally:
                process.terminate()
