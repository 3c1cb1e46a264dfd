"""`stepup keys`: make a key ring, rotate it while serving, retire its old keys.

No command prints a key.
"""

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import structlog
import typer
from rich.progress import Progress

from stepup.cli.keys import status as key_status
from stepup.cli.options import ConfigFile, DataDir, problems_reported, run, settings_of
from stepup.cli.output import failure
from stepup.keys.file import KeyFile, KeyRingError
from stepup.keys.following import LOOK_SECONDS, ReloadingKeys
from stepup.keys.source import KeySource
from stepup.service.ports import SealCounts
from stepup.service.upkeep.rewrap import Rewrap, Rewrapped
from stepup.stores.sql import Limits, SqlDatabase
from stepup.system.clock import SystemClock
from stepup.telemetry.logs import configure_logging
from stepup.wiring.database import check_database, open_database
from stepup.wiring.keys import describe_missing_keys, key_setting_named, key_source_of

app = typer.Typer(help="Make, rotate and retire the keys of the key ring.", no_args_is_help=True)

Wait = Annotated[
    float,
    typer.Option(min=0, help="How many seconds to wait until every server has read the file."),
]
_WAIT = LOOK_SECONDS + 2
_PATIENCE = timedelta(seconds=30)
"""How long to wait for a lock: a rotation has more time than a call."""
_USERS_PER_LINE = 500
"""How many users a line of the log reports."""
_clock = SystemClock()
_log = structlog.get_logger(__name__)


@app.command()
def generate(
    output: Annotated[Path, typer.Option(help="The file to make; it must not exist.")],
    wrapped_by: Annotated[
        str | None, typer.Option(help="Wrap its keys: vault:<mount>/<transit key>.")
    ] = None,
) -> None:
    """Make a new key ring with one key."""
    try:
        file = KeyFile.generated(_clock.now(), wrapped_by)
        KeySource(output).create(file)
    except FileExistsError:
        raise failure(f"{output}: the file exists already, and is not replaced") from None
    except KeyRingError as error:
        raise failure(error) from error
    typer.echo(f"{output}: made, with the primary key {file.primary}")


@app.command()
def rotate(config_file: ConfigFile = None, data_dir: DataDir = None, wait: Wait = _WAIT) -> None:
    """Make a new key primary, and reseal everything with it, while servers serve.

    All servers must read the same file, or copies that are updated within the time to wait.
    """
    command = _KeyCommand(config_file, data_dir)
    run(check_database(command.settings))
    staged = command.edit(lambda file: file.staging(_clock.now()))
    typer.echo(f"added the key {staged.staged}; waiting {wait:g} s until all servers have read it")
    time.sleep(wait)
    key_id = staged.staged or staged.primary
    command.edit(lambda file: file.promoting(key_id, _clock.now()))
    typer.echo(f"{key_id} is primary; waiting {wait:g} s until all servers use it")
    time.sleep(wait)
    command.rewrap()


@app.command()
def add(config_file: ConfigFile = None, data_dir: DataDir = None) -> None:
    """Add a staged key, which opens but does not seal yet: the first step of a rotation."""
    file = _KeyCommand(config_file, data_dir).edit(lambda file: file.staging(_clock.now()))
    typer.echo(f"the key {file.staged} is staged; next: stepup keys promote {file.staged}")


@app.command()
def promote(key_id: str, config_file: ConfigFile = None, data_dir: DataDir = None) -> None:
    """Make a key primary that all servers have read: the second step of a rotation."""
    command = _KeyCommand(config_file, data_dir)
    command.edit(lambda file: file.promoting(key_id, _clock.now()))
    typer.echo(f"{key_id} is primary; when all servers have read the file: stepup keys rewrap")


@app.command()
def rewrap(config_file: ConfigFile = None, data_dir: DataDir = None) -> None:
    """Reseal with the primary key what other keys sealed: the last step of a rotation.

    It can be interrupted at any time. Run it again to continue.
    """
    _KeyCommand(config_file, data_dir).rewrap()


@app.command()
def status(
    config_file: ConfigFile = None,
    data_dir: DataDir = None,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Write JSON, for programs.")] = False,
) -> None:
    """Show what each key seals, and which keys can be retired; fail if a key is missing."""
    command = _KeyCommand(config_file, data_dir)
    statuses = key_status.report(
        command.content(), command.counts(), command.retry_window, _clock.now()
    )
    key_status.show(statuses, as_json=as_json)
    if missing := [key.key_id for key in statuses if key.is_missing]:
        raise failure(describe_missing_keys(command.settings, missing))


@app.command()
def retire(key_id: str, config_file: ConfigFile = None, data_dir: DataDir = None) -> None:
    """Remove a key that is not in use.

    A key is in use while it seals secrets, or valid receipts or elevations have its MAC.
    """
    command = _KeyCommand(config_file, data_dir)
    counts = command.counts()

    def unused(file: KeyFile) -> KeyFile:
        after = file.without(key_id)
        statuses = key_status.report(file, counts, command.retry_window, _clock.now())
        reasons = next(key.in_use for key in statuses if key.key_id == key_id)
        if reasons:
            raise KeyRingError(f"{key_id} is in use: {'; '.join(reasons)}")
        return after

    command.edit(unused)
    typer.echo(f"{key_id} is retired")


@dataclass
class _Resealed:
    """How many secrets were resealed so far, by kind."""

    users: int = 0
    authenticators: int = 0
    pending_enrollments: int = 0
    reset_codes: int = 0
    unreadable: int = 0

    @property
    def secrets(self) -> int:
        return self.authenticators + self.pending_enrollments + self.reset_codes + self.unreadable

    def add(self, user: Rewrapped) -> None:
        before = self.secrets
        self.authenticators += user.sealed_anew.authenticators
        self.pending_enrollments += user.sealed_anew.pending_enrollments
        self.reset_codes += user.sealed_anew.reset_codes
        self.unreadable += user.unreadable
        # Another rewrap, at the same time, may have resealed this user before.
        self.users += self.secrets > before


class _KeyCommand:
    """The key ring and the database that a command reads and changes."""

    def __init__(self, config_file: Path | None, data_dir: str | None) -> None:
        self.settings = settings_of(config_file, storage={"data_dir": data_dir})
        configure_logging(self.settings.log.level, self.settings.log.format)
        self.retry_window = self.settings.verification.retry_window
        with problems_reported():
            self._source = key_source_of(self.settings)

    def content(self) -> KeyFile:
        with problems_reported(), key_setting_named(self.settings):
            return self._source.read()

    def edit(self, change: Callable[[KeyFile], KeyFile]) -> KeyFile:
        try:
            return self._source.edit(change)
        except KeyRingError as error:
            raise failure(error) from error

    def counts(self) -> Mapping[str, SealCounts]:
        counts: Mapping[str, SealCounts] = run(self._counts())
        return counts

    def rewrap(self) -> None:
        try:
            unreadable = run(self._rewrap())
        except KeyRingError as error:
            raise failure(error) from error
        if unreadable:
            raise failure(f"{unreadable} secrets cannot be opened: the log names them")

    async def _counts(self) -> Mapping[str, SealCounts]:
        async with (
            self._database() as database,
            database.snapshot() as records,
        ):
            return await records.key_uses.counts()

    async def _rewrap(self) -> int:
        keys = ReloadingKeys(self._source, _clock)
        total = _Resealed()
        async with self._database() as database:
            async with database.snapshot() as records:
                counts = await records.key_uses.counts()
            left = sum(
                sum(asdict(number).values())
                for key_id, number in counts.items()
                if key_id != keys.primary
            )
            with Progress() as progress:
                task = progress.add_task("Resealing", total=left)
                async for user in Rewrap(database, keys, _clock)():
                    total.add(user)
                    progress.update(task, completed=total.secrets)
                    if total.users % _USERS_PER_LINE == 0:
                        _log.info("secrets_rewrapped", primary=keys.primary, **asdict(total))
        _log.info("rewrap_finished", primary=keys.primary, **asdict(total))
        typer.echo(
            f"resealed with {keys.primary}: {total.authenticators} authenticators,"
            f" {total.pending_enrollments} pending enrollments, {total.reset_codes} reset codes"
            f" of {total.users} users; {total.unreadable} secrets cannot be opened"
        )
        return total.unreadable

    def _database(self) -> AbstractAsyncContextManager[SqlDatabase]:
        return open_database(self.settings, Limits.lasting(_PATIENCE))
