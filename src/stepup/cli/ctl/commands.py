"""The groups of commands that call a running server."""

from typing import Annotated

import typer

from stepup.cli.ctl import profile_commands
from stepup.cli.ctl.audit import commands as audit
from stepup.cli.ctl.catalogue import operations
from stepup.cli.ctl.challenges import commands as challenges
from stepup.cli.ctl.explaining import check
from stepup.cli.ctl.people import commands as people
from stepup.cli.ctl.policy import commands as policy

app = typer.Typer(
    help="Call a running server, as an operator of the platform.\n\nOptions follow the command:"
    " `stepup ctl policy show --profile acme`.",
    no_args_is_help=True,
)


def _refuse_before_a_command(value: str | None) -> str | None:
    if value is not None:
        raise typer.BadParameter(
            "give this option after the command: stepup ctl policy show --profile acme"
        )
    return value


_AfterCommand = Annotated[str | None, typer.Option(hidden=True, callback=_refuse_before_a_command)]


@app.callback()
def _say_where_options_stand(
    *, profile: _AfterCommand = None, address: _AfterCommand = None, tenant: _AfterCommand = None
) -> None:
    pass


app.add_typer(profile_commands.app, name="profile")
app.add_typer(policy.app, name="policy")
app.command()(operations)
app.command()(check)
app.add_typer(people.app, name="people")
app.add_typer(challenges.app, name="challenges")
app.add_typer(audit.app, name="audit")
