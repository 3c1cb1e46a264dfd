"""Find prose that readers have to read twice. `make lint` runs this check.

Run it for a folder or a file, or without arguments for the whole project:

    .venv/bin/python -m tools.plain_english src/stepup/keys docs/keys.md

Patterns, advice and examples are in `plain_english.yaml`. Prose is: Markdown outside of code;
docstrings, messages and comments of Python; comments of other files. Words in backticks are not
checked.
"""

import ast
import io
import re
import sys
import tokenize
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
PROJECT = [
    *ROOT.glob("*.md"),
    *(ROOT / name for name in ("docs", "src", "tools", "protos", "deploy", "examples")),
]


@dataclass(frozen=True)
class Pattern:
    name: str
    matches: re.Pattern[str]
    advice: str
    bad: str
    good: str


@dataclass(frozen=True)
class Paragraph:
    line: int
    """The number of the paragraph's first line, from 1."""
    text: str


@dataclass(frozen=True)
class Hit:
    line: int
    words: str
    pattern: Pattern

    def __str__(self) -> str:
        return f"{self.line}: ...{self.words}... {self.pattern.advice} ({self.pattern.name})"


def patterns() -> list[Pattern]:
    entries = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text())
    return [
        Pattern(matches=re.compile(entry.pop("pattern"), re.IGNORECASE), **entry)
        for entry in entries
    ]


def of_markdown(text: str) -> Iterator[Paragraph]:
    """Yield paragraphs, list items, headings and rows of tables, without fenced code."""
    lines: list[str] = []
    first, fenced = 1, False
    for number, line in enumerate([*text.splitlines(), ""], 1):
        words = line.strip()
        fence = words.startswith("```")
        if lines and (not words or fence or re.match(r"([-*|#>]|\d+\.) ", words)):
            yield Paragraph(first, "\n".join(lines))
            lines = []
        if fence:
            fenced = not fenced
        elif words and not fenced:
            first = first if lines else number
            lines.append(re.sub(r"^([-*|#>]+|\d+\.) ", "", words))


def of_python(text: str) -> Iterator[Paragraph]:
    """Yield the paragraphs of all strings (docstrings, messages, help texts), and comments."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            line = node.lineno
            for paragraph in node.value.split("\n\n"):
                yield Paragraph(line, re.sub(r"(?m)^ +", "", paragraph))
                line += paragraph.count("\n") + 2
    comments = (
        (token.start[0], token.string.lstrip("#: "))
        for token in tokenize.generate_tokens(io.StringIO(text).readline)
        if token.type == tokenize.COMMENT
    )
    yield from _adjacent(comments)


def of_comments(text: str) -> Iterator[Paragraph]:
    """Yield the comments of a file that marks them with `#` or `//`."""
    found = (re.search(r"(?:^|\s)(?:#|//) +(.*)", line) for line in text.splitlines())
    yield from _adjacent((number, match[1]) for number, match in enumerate(found, 1) if match)


def _adjacent(lines: Iterable[tuple[int, str]]) -> Iterator[Paragraph]:
    """Join lines that follow each other into one paragraph."""
    first, words = 0, []
    for number, line in lines:
        if words and number != first + len(words):
            yield Paragraph(first, "\n".join(words))
            words = []
        first = first if words else number
        words.append(line)
    if words:
        yield Paragraph(first, "\n".join(words))


PARAGRAPHS: dict[str, Callable[[str], Iterator[Paragraph]]] = {
    ".md": of_markdown,
    ".py": of_python,
    ".proto": of_comments,
    ".yaml": of_comments,
    ".toml": of_comments,
    ".sh": of_comments,
}


def hits(paragraphs: Iterable[Paragraph], known: Iterable[Pattern]) -> Iterator[Hit]:
    known = list(known)
    for paragraph in paragraphs:
        prose = paragraph.text.replace("\n", " ")
        without_code = re.sub(r"`[^`]+`", lambda code: "X" * len(code[0]), prose)
        for pattern in known:
            for match in pattern.matches.finditer(without_code):
                line = paragraph.line + paragraph.text.count("\n", 0, match.end())
                yield Hit(line, prose[max(0, match.start() - 25) : match.end() + 25], pattern)


def files(paths: Iterable[Path]) -> list[Path]:
    """Return the files below paths that hold prose; code generated from the protos is left out."""
    found = (file for path in paths for file in ([path] if path.is_file() else path.rglob("*")))
    return sorted(
        file for file in found if file.suffix in PARAGRAPHS and not file.match("stepup/v1/*.py")
    )


def main(arguments: list[str]) -> int:
    """Print the hits below the paths; return the exit status: 1 if there are any."""
    paths = [Path(path) for path in arguments] or PROJECT
    known = patterns()
    lines = [
        f"{file}:{hit}\n"
        for file in files(paths)
        for hit in hits(PARAGRAPHS[file.suffix](file.read_text()), known)
    ]
    sys.stdout.writelines(lines)
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
