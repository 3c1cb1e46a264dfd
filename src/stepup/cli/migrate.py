"""`stepup migrate`: the schema of the database."""

from typing import Annotated

import typer

from stepup.cli.options import ConfigFile, DataDir, run, settings_of
from stepup.wiring.database import migrate_database


def migrate(
    config_file: ConfigFile = None,
    data_dir: DataDir = None,
    grant_to: Annotated[
        str | None,
        typer.Option(
            envvar="STEPUP_GRANT_TO",
            help="Grant this PostgreSQL role, which serves, the rights that a server needs.",
        ),
    ] = None,
) -> None:
    """Bring the database's schema up to date, before a new version serves."""
    settings = settings_of(config_file, storage={"data_dir": data_dir})
    run(migrate_database(settings, grant_to or None))
    typer.echo("the schema is up to date")
