"""The files that decision logs are in: paths, patterns, standard input, pipes of a shell."""

import glob
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from stepup.cli.output import plain, progress_shown

STDIN: Final = "-"
_REMOVE_AFTER_EOF: Final = """
import shutil, signal, sys
for ending in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
    signal.signal(ending, signal.SIG_IGN)
sys.stdin.read()
shutil.rmtree(sys.argv[1], ignore_errors=True)
"""
_STANDARD_INPUT: Final = Path("/dev/stdin")


class LogsError(Exception):
    """The decision logs cannot be read; the message says which file, and why."""


def matches(source: str) -> list[str]:
    """The paths that a source names: a path as it stands, or else those that match a pattern."""
    if Path(source).exists():
        return [source]
    return sorted(glob.glob(source, recursive=True))  # noqa: PTH207  # patterns may be absolute


def files_of(sources: Sequence[str]) -> dict[str, str]:
    """The files that the sources name, each once: the path for duckdb, and the source's name.

    Raises:
        LogsError: a source names no file, or one that this user cannot read.
    """
    found: dict[Path, str] = {}
    for source in sources:
        if source == STDIN:
            found.setdefault(_STANDARD_INPUT, source)
            continue
        if not (names := matches(source)):
            raise LogsError(f"{source}: no such file")
        for name in names:
            if Path(name).is_dir():
                raise LogsError(f"{name}: is a directory; name its files, such as {name}/*.jsonl")
            if not os.access(name, os.R_OK):
                raise LogsError(f"{name}: this user may not read the file")
            found.setdefault(Path(name).resolve(), name)
    return {str(_STANDARD_INPUT) if name == STDIN else name: name for name in found.values()}


@contextmanager
def private_directory() -> Iterator[Path]:
    """A temporary directory that is removed when the block ends, or when this process is killed.

    A process of its own removes it: after SIGKILL nothing of this process runs. That process waits
    until this one has closed the pipe between the two.
    """
    with tempfile.TemporaryDirectory(prefix="stepup-decisions-") as directory:
        remover = [sys.executable, "-I", "-S", "-c", _REMOVE_AFTER_EOF, directory]
        with subprocess.Popen(remover, stdin=subprocess.PIPE, start_new_session=True):  # noqa: S603  # our own interpreter
            yield Path(directory)


def seekable(files: Mapping[str, str], directory: Path) -> dict[str, str]:
    """The files, with a copy in the directory of each pipe: duckdb would keep a pipe in memory.

    Raises:
        LogsError: a source is a pipe with a name, or the directory has no space left.
    """
    found = {}
    for number, (path, name) in enumerate(files.items()):
        copy = Path(path)
        if _is_named_pipe(copy):
            raise LogsError(
                f"{name}: is a named pipe; what this command reads from it, the program that"
                " collects the decisions does not get (S13)"
            )
        if not copy.is_file():
            copy = directory / f"pipe-{number}.jsonl"
            try:
                with (
                    progress_shown(f"Copying {plain(name)}", lambda: None),
                    Path(path).open("rb") as pipe,
                    copy.open("wb") as file,
                ):
                    shutil.copyfileobj(pipe, file)
            except OSError as error:
                raise LogsError(f"{name}: cannot be copied: {error.strerror}") from error
        found[str(copy)] = name
    return found


def _is_named_pipe(path: Path) -> bool:
    """Whether other programs can open the pipe too, unlike that of `-` or of a shell's `<(...)`."""
    return path.is_fifo() and not path.resolve().is_relative_to("/proc")
