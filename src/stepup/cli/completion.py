"""`stepup completion`: scripts by which a shell completes the commands and options of stepup."""

import os
from enum import StrEnum
from typing import Annotated, Final

import typer

_PROGRAM: Final = "stepup"
_VARIABLE: Final = "_STEPUP_COMPLETE"
"""A shell sets this variable when it asks for completions."""


class Shell(StrEnum):
    """A shell with completion."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


def is_completing() -> bool:
    """Whether a shell runs this process to complete a command line."""
    return _VARIABLE in os.environ


def complete_operation(incomplete: str) -> list[str]:
    """The operations of the shipped catalogue that begin with a text, for a shell."""
    from stepup.domain.operations import SHIPPED  # noqa: PLC0415  # for shells only

    return [each for each in SHIPPED.ids if each.startswith(incomplete)]


def completion(shell: Annotated[Shell, typer.Argument(help="The shell that you use.")]) -> None:
    """Print the script that completes commands and options.

    Run it when the shell starts: for bash, `eval "$(stepup completion bash)"` in ~/.bashrc.
    """
    from typer.completion import (  # type: ignore[attr-defined]  # noqa: PLC0415  # for shells only
        get_completion_script,
    )

    script = get_completion_script(prog_name=_PROGRAM, complete_var=_VARIABLE, shell=shell)
    typer.echo(script)
