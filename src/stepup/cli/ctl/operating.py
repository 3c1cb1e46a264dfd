"""What commands of `stepup ctl` work with: the client, the business, the operator on record."""

import inspect
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import fields
from functools import cached_property, wraps
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Self

import typer

from stepup.cli import output
from stepup.cli.ctl.connection import Options, connection_of
from stepup.cli.ctl.profiles import Profile, ProfileError
from stepup.cli.output import failure
from stepup.system.core_silence import core_log_silent

if TYPE_CHECKING:
    from stepup.client import ActorContext, StepUpClient

_Own = ParamSpec("_Own")


class Operating:
    """The common options of a command, used when the command needs them.

    The client opens with its first use and is closed at the end of the block.
    """

    def __init__(self, options: Options) -> None:
        """Find the connection.

        Raises:
            typer.Exit: there is none, or more than one; or the file of profiles cannot be used.
        """
        self._options = options
        self._closing = ExitStack()
        try:
            self.connection: Profile = connection_of(options)
        except ProfileError as error:
            raise failure(error) from error

    @property
    def as_json(self) -> bool:
        """Whether the command writes JSON, for programs."""
        return self._options.as_json

    @cached_property
    def client(self) -> "StepUpClient":
        """The client of the server.

        Raises:
            typer.Exit: the options of the connection do not fit together.
        """
        from stepup.cli.ctl.clients import client_of  # noqa: PLC0415  # a help needs no client

        return self._closing.enter_context(client_of(self.connection))

    @property
    def tenant(self) -> str:
        """The business in which the operator acts.

        Raises:
            typer.Exit: neither the options nor the profile name it.
        """
        if self.connection.tenant is None:
            raise failure(
                "give --tenant, the business in which you act, or a profile with `tenant`"
            )
        return self.connection.tenant

    @property
    def place(self) -> str:
        """The tenant and the server, for a question.

        Raises:
            typer.Exit: as `tenant`.
        """
        return f"{self.tenant} at {self.connection.target}"

    @cached_property
    def actor(self) -> "ActorContext":
        """The operator, in the tenant. A terminal asks for a reason that was not given.

        Raises:
            typer.Exit: the tenant, the operator's name or the reason is missing.
        """
        from stepup.client.messages import actor  # noqa: PLC0415  # as above

        if self.connection.operator is None:
            raise failure("give --operator, your name for the record, or a profile with `operator`")
        return actor.ActorContext(
            tenant_id=self.tenant,
            operator=actor.Operator(name=self.connection.operator, reason=self._reason()),
        )

    def _reason(self) -> str:
        if self._options.reason is not None:
            return self._options.reason
        if not output.is_attended():
            raise failure("give --reason, why you act, for the record")
        reason: str = typer.prompt("Why you act, for the record", err=True)
        return reason

    def __enter__(self) -> Self:
        """Return this object; the block may use the client."""
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.close()


def operating(command: Callable[Concatenate[Operating, _Own], None]) -> Callable[..., None]:
    """Make a command of typer out of a function whose first parameter is `Operating`.

    The command has the function's own options and the common `Options`. An error of a call ends the
    command with a sentence and the exit code of `problem_of`.
    """

    @wraps(command)
    def run(**values: Any) -> None:
        options = Options(**{each.name: values.pop(each.name) for each in fields(Options)})
        with core_log_silent(), Operating(options) as work:
            from stepup.cli.ctl.problems import calls_reported  # noqa: PLC0415  # as above

            with calls_reported(work.connection):
                command(work, **values)  # type: ignore[call-arg]  # typer has checked them

    _, *own = inspect.signature(command, eval_str=True).parameters.values()
    common = inspect.signature(Options, eval_str=True).parameters.values()
    parameters = [*own, *common]
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {each.name: each.annotation for each in parameters}
    return run
