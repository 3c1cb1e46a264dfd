"""The commands."""

from contextlib import ExitStack
from functools import partial
from typing import Annotated, Any

import typer

from stepup.cli.audit import commands as audit
from stepup.cli.break_glass import commands as break_glass
from stepup.cli.check_config.command import check_config
from stepup.cli.completion import completion, is_completing
from stepup.cli.coverage.command import coverage
from stepup.cli.ctl import commands as ctl
from stepup.cli.decisions import commands as decisions
from stepup.cli.doctor.command import doctor
from stepup.cli.keys import commands as keys
from stepup.cli.options import ConfigFile, DataDir, load, run, settings_of
from stepup.cli.policy import commands as policy
from stepup.cli.web.command import web
from stepup.cli.web.trial import flags_of_trial, trial_web_process
from stepup.process.serving import announce_address, serve_until_stopped
from stepup.process.workers import run_workers
from stepup.system.distribution import NAME, version
from stepup.system.service_manager import ServiceManager
from stepup.telemetry.logs import configure_logging
from stepup.wiring.database import migrate_database
from stepup.wiring.running_server import RunningServer

app = typer.Typer(
    help="Step-up authorization: must this person give a one-time code first?",
    no_args_is_help=True,
    add_completion=is_completing(),  # `stepup completion` prints the scripts, and installs nothing
    rich_markup_mode="markdown",  # paragraphs flow, instead of breaking where the source does
    pretty_exceptions_enable=False,  # its stacks show local variables, and so secrets (S11)
)

app.add_typer(audit.app, name="audit")
app.add_typer(break_glass.app, name="break-glass")
app.add_typer(decisions.app, name="decisions")
app.add_typer(keys.app, name="keys")
app.add_typer(ctl.app, name="ctl")
app.add_typer(policy.app, name="policy")


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"{NAME} {version()}")
        raise typer.Exit


@app.callback()
def _accept_version(
    *,
    _: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    pass


@app.command()
def serve(
    *,
    config_file: ConfigFile = None,
    listen: Annotated[
        str | None,
        typer.Option(help="HOST:PORT, where port 0 takes a free port; or unix:/PATH."),
    ] = None,
    engine: Annotated[str | None, typer.Option(help="auto, core or aio.")] = None,
    workers: Annotated[int | None, typer.Option(help="How many processes serve.")] = None,
    data_dir: DataDir = None,
    insecure: Annotated[
        bool | None,
        typer.Option("--insecure", help="Serve callers without credentials: for a trial."),
    ] = None,
    log_level: Annotated[str | None, typer.Option(help="debug, info, warning or error.")] = None,
    log_format: Annotated[str | None, typer.Option(help="json or console.")] = None,
) -> None:
    """Serve the gRPC API. Without a configuration it listens on loopback, with embedded stores.

    Callers need credentials. With --insecure they need none: any program on this machine may call
    and claim anything; if server.insecure_anyone_on_the_network_is_trusted is set, any program on
    the network.
    """
    flags: dict[str, dict[str, Any]] = {
        "server": {"listen": listen, "insecure": insecure, "engine": engine, "workers": workers},
        "storage": {"data_dir": data_dir},
        "log": {"level": log_level, "format": log_format},
    }
    settings = settings_of(config_file, **flags)
    configure_logging(settings.log.level, settings.log.format)
    manager = ServiceManager.take_from_environment()
    with ExitStack() as stack:
        if of_trial := flags_of_trial(settings):
            flags |= of_trial
            settings = settings_of(config_file, **flags)

        async def announce(server: RunningServer) -> None:
            await announce_address(server)
            if of_trial:  # not before the server serves: it may be refused
                stack.enter_context(trial_web_process(settings))

        if settings.server.workers > 1:
            if of_trial:
                stack.enter_context(trial_web_process(settings))
            raise typer.Exit(run(run_workers(settings, config_file, flags, manager)))
        reload = partial(load, config_file, **flags)
        run(serve_until_stopped(settings, reload, announce, manager))


app.command()(check_config)
app.command()(doctor)
app.command()(coverage)
app.command()(completion)
app.command()(web)


@app.command()
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


@app.command()
def demo() -> None:
    """Start a server with a temporary data directory, and show a step-up through its API."""
    from stepup.cli.demo.play import run as play  # noqa: PLC0415  # a server does not need rich

    raise typer.Exit(play())


@app.command()
def console(
    *,
    port: Annotated[
        int, typer.Option(help="The port of the pretend console; 0 takes free ports.")
    ] = 8090,
) -> None:
    """Start the portal with a demo business, and print links to its pages; Ctrl-C ends it."""
    from stepup.cli.console.run import run as run_console  # noqa: PLC0415  # as above

    raise typer.Exit(run_console(port))
