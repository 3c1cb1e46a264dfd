"""Run alembic's revisions. Only this module imports alembic, and only a migration imports it.

Alembic and its template engine take 9 MB, which a server that serves does not need.
"""

from typing import Any, Literal

from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from stepup.stores.sql.migrations import DIRECTORY


def run(connection: Connection, revision: str, direction: Literal["up", "down"]) -> None:
    """Bring the schema up or down to a revision, in the transaction of the connection.

    Raises:
        alembic.util.CommandError: a revision is not known.
    """
    scripts = ScriptDirectory(str(DIRECTORY))

    def steps(current: Any, _context: Any) -> Any:
        # As alembic.command does.
        if direction == "up":
            return scripts._upgrade_revs(revision, current)  # noqa: SLF001
        return scripts._downgrade_revs(revision, current)  # noqa: SLF001

    with EnvironmentContext(Config(), scripts, fn=steps) as environment:
        environment.configure(connection=connection, transactional_ddl=True)
        environment.run_migrations()
