"""Session ids as commands read them: never from the command line, where others see them (S11)."""

import sys
from pathlib import Path
from typing import Final

import typer

from stepup.cli.output import failure

_STDIN: Final = Path("-")


def read_session_id(file: Path) -> str:
    """Read the id of a sign-in session from a file or, with `-`, from standard input.

    A terminal asks for the id, and does not show it.

    Raises:
        typer.Exit: the file cannot be read, or is empty; status 2.
    """
    if file == _STDIN and sys.stdin.isatty():
        typed: str = typer.prompt("Session id", hide_input=True, err=True)
        return typed
    try:
        session_id = (sys.stdin.readline() if file == _STDIN else file.read_text("utf-8")).strip(
            "\r\n"
        )
    except OSError as error:
        raise failure(f"{file}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise failure(f"{file}: must be text in UTF-8") from error
    if not session_id:
        raise failure(f"{file}: has no session id")
    return session_id
