"""What a browser sends: the fields of a form, or of a query."""

import asyncio
from collections.abc import Iterable
from typing import Final
from unicodedata import normalize
from urllib.parse import parse_qsl

from starlette.requests import ClientDisconnect, Request

MAX_FORM_BYTES: Final = 65_536
_MAX_FIELDS: Final = 1_000
FORM_SECONDS: Final = 15.0
"""How long a form may take to arrive: a slow form keeps a connection."""


class FormError(ValueError):
    """The body is not a form that a page sends."""


class Form:
    """Fields by name. An absent field is empty text."""

    def __init__(self, fields: Iterable[tuple[str, str]] = ()) -> None:
        self._fields: dict[str, list[str]] = {}
        for name, value in fields:
            self._fields.setdefault(name, []).append(value)

    def __getitem__(self, name: str) -> str:
        """The first value of a field, as it was sent."""
        return self._fields.get(name, [""])[0]

    def __contains__(self, name: str) -> bool:
        return name in self._fields

    def all(self, name: str) -> tuple[str, ...]:
        """All values of a field, such as those of several checkboxes."""
        return tuple(self._fields.get(name, ()))

    def code(self, name: str = "code") -> str:
        """The value of a code field without the spaces and hyphens that people type.

        Full-width digits, which people type in Japanese, become plain.
        """
        return "".join(normalize("NFKC", self[name]).split()).replace("-", "")


def query_of(request: Request) -> Form:
    """Return the query of an address."""
    return Form(request.query_params.multi_items())


async def form_of(request: Request) -> Form:
    """Read the form of a POST: at most `MAX_FORM_BYTES`, in at most `FORM_SECONDS`.

    Raises:
        FormError: it is too long, too slow, broken off, of another type, or not UTF-8.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        raise FormError
    body = bytearray()
    try:
        async with asyncio.timeout(FORM_SECONDS):
            async for chunk in request.stream():
                body += chunk
                if len(body) > MAX_FORM_BYTES:
                    raise FormError
    except (TimeoutError, ClientDisconnect) as error:
        raise FormError from error
    try:
        text = body.decode("ascii")
        fields = parse_qsl(text, True, errors="strict", max_num_fields=_MAX_FIELDS)
    except ValueError as error:
        raise FormError from error
    return Form(fields)
