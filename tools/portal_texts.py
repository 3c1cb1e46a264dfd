"""The catalogues of the portal's texts: `make texts` brings them up to date with the pages.

It writes each text without a translation, with an empty one, into the catalogue of the page that
uses the text, and removes the texts that no page uses.
"""

import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from babel.messages.catalog import Catalog, Message
from babel.messages.extract import extract_from_dir
from babel.messages.pofile import read_po, write_po
from jinja2.ext import babel_extract

from stepup.v1.portal_service_pb2 import PortalPage
from stepup.web.texts import DIRECTORY

_WEB: Final = DIRECTORY.parent
_METHODS: Final = (("**.py", "python"), ("**.html", babel_extract))
_OPTIONS: Final = {"**.html": {"trim_blocks": "true", "lstrip_blocks": "true", "silent": "false"}}
_KEYWORDS: Final[Mapping[str, object]] = {
    "_": None,
    "N_": None,
    "gettext": None,
    "ngettext": (1, 2),
}
_PAGES: Final = (
    *(name.removeprefix("PORTAL_PAGE_").lower() for name in PortalPage.keys()[1:]),
    "wizard",
)


def texts_of_pages() -> dict[str, tuple[str | tuple[str, str], str]]:
    """The texts by their ids: the text, with its plural if it has one, and its catalogue."""
    found: dict[str, tuple[str | tuple[str, str], str]] = {}
    extracted = extract_from_dir(
        str(_WEB), list(_METHODS), _OPTIONS, keywords=dict(_KEYWORDS), strip_comment_tags=True
    )
    for file, _, text, _, _ in sorted(extracted, key=lambda each: (each[0], each[1])):
        found.setdefault(text if isinstance(text, str) else text[0], (text, _catalogue_of(file)))
    return found


def _catalogue_of(file: str) -> str:
    stem = Path(file).stem
    return next((page for page in _PAGES if stem == page or stem.startswith(f"{page}_")), "common")


def languages() -> Iterator[Path]:
    """The directories of the languages other than English."""
    return (path for path in sorted(DIRECTORY.iterdir()) if path.is_dir())


def catalogues(language: Path) -> dict[str, Catalog]:
    """The catalogues of a language, by the names of their pages."""
    read = {}
    for file in sorted(language.glob("*.po")):
        with file.open("rb") as opened:
            read[file.stem] = read_po(opened, locale=language.name, abort_invalid=True)
    return read


def messages(language: Path) -> dict[str, Message]:
    """The translations of a language, by the ids of their texts."""
    return {
        _id_of(message): message
        for catalogue in catalogues(language).values()
        for message in catalogue
        if message.id
    }


def _id_of(message: Message) -> str:
    return message.id if isinstance(message.id, str) else message.id[0]


def update() -> None:
    """Bring all catalogues up to date."""
    texts = texts_of_pages()
    for language in languages():
        known = messages(language)
        homes = {
            _id_of(message): name
            for name, catalogue in catalogues(language).items()
            for message in catalogue
            if message.id
        }
        written: dict[str, Catalog] = {}
        for text, (forms, name) in texts.items():
            home = written.setdefault(homes.get(text, name), Catalog(locale=language.name))
            message = known.get(text)
            home.add(forms, message.string if message and message.id == forms else None)
        for name in set(homes.values()) - set(written):
            (language / f"{name}.po").unlink()
        for name, catalogue in written.items():
            (language / f"{name}.po").write_bytes(_content(language.name, catalogue))


def _content(language: str, catalogue: Catalog) -> bytes:
    body = io.BytesIO()
    write_po(body, catalogue, width=96, omit_header=True, sort_output=True)
    head = 'msgid ""\nmsgstr ""\n"Content-Type: text/plain; charset=utf-8\\n"\n'
    head += f'"Language: {language}\\n"\n"Plural-Forms: {catalogue.plural_forms}\\n"\n\n'
    return head.encode() + body.getvalue()


if __name__ == "__main__":
    update()
