"""The examples of README.md and docs/, as commands and what they must say."""

import re
import shlex
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field

from stepup_tests.e2e.processes import environment
from stepup_tests.places import ROOT

TITLE = "Try it with grpcurl"
_PUBLISHED_ADDRESS = "127.0.0.1:50051"
_SAYS = re.compile(r"#\s*→\s*(.+)")


@dataclass
class Example:
    """A command, and fragments that its output must have."""

    command: str
    says: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Transcript:
    """A command, and everything that it must say."""

    command: str
    output: str


def section(text: str, title: str) -> str:
    """What stands under a heading of the second level; empty where there is none."""
    found = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", text, re.DOTALL | re.MULTILINE)
    return found[1] if found else ""


def examples(markdown: str) -> list[Example]:
    """The commands of all shell blocks, in order; `# → fragment` belongs to the command above.

    In a ```console block commands follow a `$`, and what else stands there is output.
    """
    found: list[Example] = []
    for language, block in re.findall(
        r"^```(sh|console)\n(.*?)^```$", markdown, re.DOTALL | re.MULTILINE
    ):
        for line in _logical_lines(_typed(block) if language == "console" else block):
            if says := _SAYS.fullmatch(line.strip()):
                found[-1].says.append(says[1].strip())
            elif line.strip() and not line.lstrip().startswith("#"):
                found.append(Example(line))
    return found


def transcripts(markdown: str) -> list[Transcript]:
    """The commands of all ```console blocks, in order, each with what stands below it."""
    return [
        Transcript(re.sub(r"^> ", "", command, flags=re.MULTILINE), output)
        for block in blocks(markdown, "console")
        for command, output in re.findall(
            r"^\$ (.*\n(?:^> .*\n)*)((?:^(?!\$ ).*\n)*)", block, re.MULTILINE
        )
    ]


def blocks(markdown: str, language: str) -> list[str]:
    """What stands in the fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", markdown, re.DOTALL | re.MULTILINE)


def _typed(block: str) -> str:
    lines = block.splitlines()
    return "\n".join(
        line.removeprefix("$ ").removeprefix("> ")
        for line in lines
        if line.startswith(("$ ", "> ")) or _SAYS.fullmatch(line.strip())
    )


def _logical_lines(block: str) -> Iterator[str]:
    """Lines put together until bash takes them for a whole command."""
    lines: list[str] = []
    for line in block.splitlines():
        lines.append(line)
        if not line.endswith("\\") and is_whole("\n".join(lines)):
            yield "\n".join(lines)
            lines = []
    assert not lines, "the block ends within a command"


def is_whole(command: str) -> bool:
    """Whether bash takes lines for a whole command."""
    return not subprocess.run(
        ["bash", "-n", "-c", command], capture_output=True, check=False
    ).returncode


def run_in_one_shell(commands, server, directory):
    """Exit status and output of each command."""
    into = shlex.quote(str(directory))
    script = "".join(
        f"{{ {command}\n}} > {into}/{n}.out 2>&1; echo $? > {into}/{n}.status\n"
        for n, command in enumerate(commands)
    )
    subprocess.run(
        ["bash"],
        input=script.replace(_PUBLISHED_ADDRESS, server.address),
        cwd=ROOT,
        env=environment(directory, server.temporary),
        text=True,
        timeout=300,
        check=True,
    )
    return [
        ((directory / f"{n}.status").read_text().strip(), (directory / f"{n}.out").read_text())
        for n in range(len(commands))
    ]
