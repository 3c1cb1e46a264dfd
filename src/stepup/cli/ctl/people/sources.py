"""Reads files with existing authenticators: key URIs, Google Authenticator's exports, pictures."""

import csv
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from stepup.cli.ctl.people import google_export, pictures
from stepup.domain.errors import InvalidValueError
from stepup.domain.key_uri import KeyUri
from stepup.service.people.import_authenticators import refusal_of_key

NO_USER = "no_user"
INCOMPLETE = "incomplete"
_HEADER = ["account", "user_id"]


class SourceError(Exception):
    """A file cannot be read; the message names it."""


@dataclass(slots=True, repr=False)
class Row:
    """One authenticator, and its outcome. It never shows in a repr (S11).

    `place` is the line of the file; of an export in this line also the entry, as in `3.2`. `key` is
    None if the authenticator was refused before any server saw it.
    """

    place: str
    key: KeyUri | None = None
    user_id: str = ""
    outcome: str = ""
    problem: str = ""

    @property
    def account(self) -> str:
        """The account in the label of the key URI."""
        return self.key.account if self.key else ""

    @property
    def issuer(self) -> str:
        """The issuer of the key URI."""
        return self.key.issuer if self.key else ""

    def refuse(self, outcome: str, problem: str) -> None:
        """Note the refusal. The row is not sent."""
        self.outcome, self.problem = outcome, problem


def read(files: Sequence[Path]) -> list[Row]:
    """Read the authenticators of all files, in their order; `-` is standard input.

    For each incomplete export of several QR codes, one more row names the missing parts.

    Raises:
        SourceError: a file cannot be read.
    """
    rows: list[Row] = []
    parts: list[google_export.ExportPart] = []
    for file in files:
        prefix = f"{file}:" if len(files) > 1 else ""
        for number, text in _texts(file):
            rows.extend(_rows(f"{prefix}{number}", text, parts))
    for numbers in google_export.missing(parts):
        named = ", ".join(map(str, numbers))
        problem = f"QR codes of the export are missing: {named}. Add them, and run again"
        rows.append(Row("", outcome=INCOMPLETE, problem=problem))
    return rows


def assign_users(rows: Iterable[Row], users: Mapping[str, str] | None) -> None:
    """Set the user of each row: the one that `users` has for the account, else the account itself.

    A row without a user, or with the user of an earlier row, is refused.
    """
    taken: set[str] = set()
    for row in rows:
        if row.key is None:
            continue
        row.user_id = row.account if users is None else users.get(row.account, "")
        if not row.user_id:
            row.refuse(NO_USER, "no user id is known for the account")
        elif row.user_id in taken:
            row.refuse("repeated", "an earlier line has the same user")
        taken.add(row.user_id)


def users_in(file: Path) -> Mapping[str, str]:
    """Read a CSV file of accounts and user ids, with the header `account,user_id` or without.

    Raises:
        SourceError: the file cannot be read, or a line does not have two columns, or two lines have
            the same account.
    """
    users: dict[str, str] = {}
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            lines = [line for line in csv.reader(stream, strict=True) if line]
    except (OSError, ValueError, csv.Error) as error:
        raise SourceError(f"{file}: cannot be read as CSV in UTF-8") from error
    for line in lines[1:] if lines[:1] == [_HEADER] else lines:
        if len(line) != len(_HEADER):
            raise SourceError(f"{file}: each line must have two columns: account, user_id")
        account, user_id = line
        if account in users:
            raise SourceError(f"{file}: has the account {account!r} twice")
        users[account] = user_id
    return users


def _texts(file: Path) -> Iterator[tuple[int, str]]:
    """The numbered texts of a file: its lines, or the QR codes of a picture."""
    try:
        content = sys.stdin.buffer.read() if file == Path("-") else file.read_bytes()
        if pictures.is_picture(content):
            texts = pictures.texts_of(content)
        else:
            texts = content.decode("utf-8-sig").splitlines()
    except OSError as error:
        raise SourceError(f"{file}: {error.strerror}") from error
    except pictures.PictureError as error:
        raise SourceError(f"{file}: {error}") from error
    except UnicodeDecodeError:  # `from None`: the error has the content
        raise SourceError(f"{file}: must be text in UTF-8, or a PNG or JPEG picture") from None
    for number, text in enumerate(texts, start=1):
        if text.strip() and not text.startswith("#"):
            yield number, text.strip()


def _rows(place: str, text: str, parts: list[google_export.ExportPart]) -> Iterator[Row]:
    if not text.startswith("otpauth-migration:"):
        yield _row(place, _parsed(text))
        return
    try:
        part = google_export.read(text)
    except InvalidValueError as error:
        yield Row(place, outcome="invalid", problem=f"the export {error}")
        return
    parts.append(part)
    for number, entry in enumerate(part.entries, start=1):
        yield _row(f"{place}.{number}", entry)


def _parsed(text: str) -> KeyUri | InvalidValueError:
    try:
        return KeyUri.parse(text)
    except InvalidValueError as error:
        return error


def _row(place: str, read_as: KeyUri | InvalidValueError) -> Row:
    if isinstance(read_as, KeyUri):
        return Row(place, read_as)
    refusal = refusal_of_key(read_as)
    return Row(place, outcome=refusal.outcome.value, problem=refusal.problem)
