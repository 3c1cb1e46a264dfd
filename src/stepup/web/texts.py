"""The texts of the pages in the language of the person, and instants in their zone.

The English text is the id of a message. `locale/LANGUAGE/*.po` has the translations, a file for
each page. A language is added by a directory, without code.
"""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from gettext import GNUTranslations, NullTranslations
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo

from babel import Locale, UnknownLocaleError
from babel.dates import format_date, format_datetime, format_timedelta
from babel.messages.catalog import Catalog
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from babel.numbers import format_decimal
from google.protobuf.timestamp_pb2 import Timestamp
from markupsafe import Markup

DIRECTORY: Final = Path(__file__).with_name("locale")
ENGLISH: Final = Locale("en")


def N_(message: str) -> str:  # noqa: N802  # the name that gettext's tools know
    """Mark a message for translation where it is not yet shown."""
    return message


@dataclass(frozen=True, slots=True)
class Texts:
    """A language and a time zone.

    Attributes:
        locale: the language and the country, for dates and numbers.
    """

    locale: Locale
    zone: ZoneInfo
    _translations: NullTranslations

    @property
    def language(self) -> str:
        """The language tag of the pages."""
        return str(self.locale).replace("_", "-")

    def gettext(self, message: str, **values: object) -> Markup:
        """Return a message in the person's language. The values are escaped; the message is ours.

        Args:
            message: the English text, with `%(name)s` for values. With values, a percent sign is
                `%%`.
            values: the values by name.
        """
        return _filled(self._translations.gettext(message), values)

    def ngettext(self, one: str, many: str, n: int, **values: object) -> Markup:
        """As `gettext`, by a number, which the message has as `%(n)s`."""
        numbers = {"n": self.number(n)}
        return _filled(self._translations.ngettext(one, many, n), {**numbers, **values})

    def instant(self, instant: Timestamp | datetime) -> str:
        """A date and a time in the person's zone, which the text names."""
        if isinstance(instant, Timestamp):
            instant = instant.ToDatetime(UTC)
        text = format_datetime(instant, "medium", tzinfo=self.zone, locale=self.locale)
        zone = format_datetime(instant, "z", tzinfo=self.zone, locale=self.locale)
        return f"{text} {zone}"

    def day(self, instant: Timestamp) -> str:
        """The date of an instant in the person's zone."""
        local = instant.ToDatetime(UTC).astimezone(self.zone)
        return format_date(local, "medium", locale=self.locale)

    def seconds_until(self, instant: Timestamp) -> int:
        """How many seconds there are until an instant, 0 if it is past."""
        rest = instant.ToDatetime(UTC) - datetime.now(UTC)
        return max(int(rest.total_seconds()), 0)

    def duration(self, duration: timedelta) -> str:
        """A duration in words, such as `15 minutes`."""
        return format_timedelta(duration, threshold=2, locale=self.locale)

    def ago(self, instant: Timestamp) -> str:
        """How long an instant is past, in words, such as `3 minutes ago`."""
        past = min(instant.ToDatetime(UTC) - datetime.now(UTC), timedelta(seconds=-1))
        return format_timedelta(past, threshold=2, add_direction=True, locale=self.locale)

    def number(self, number: int) -> str:
        """A number with the separators of the language."""
        return format_decimal(number, locale=self.locale)


def _filled(text: str, values: Mapping[str, object]) -> Markup:
    return Markup(text) % values if values else Markup(text)  # noqa: S704  # our own text


@cache
def languages() -> Mapping[str, NullTranslations]:
    """The translations by language."""
    return {"en": NullTranslations()} | {
        directory.name: _translations(directory)
        for directory in sorted(DIRECTORY.iterdir())
        if directory.is_dir()
    }


def _translations(directory: Path) -> GNUTranslations:
    merged = Catalog(locale=directory.name)
    for file in sorted(directory.glob("*.po")):
        with file.open("rb") as opened:
            for message in read_po(opened, locale=directory.name, abort_invalid=True):
                if message.id:
                    merged[message.id] = message
    compiled = io.BytesIO()
    write_mo(compiled, merged)
    compiled.seek(0)
    return GNUTranslations(compiled)


def texts_of(preferred: Sequence[str], zone: str = "") -> Texts:
    """Return the texts for a person.

    Args:
        preferred: language tags, the best one first. A tag that is not one, or of a language that
            the portal does not have, is left out.
        zone: an IANA zone; UTC if it is not one.
    """
    locale = next((found for tag in preferred if (found := _locale_of(tag))), ENGLISH)
    return Texts(locale, _zone_of(zone), languages()[locale.language])


def _locale_of(tag: str) -> Locale | None:
    try:
        locale = Locale.parse(tag, sep="-")
    except (UnknownLocaleError, ValueError):
        language = tag.partition("-")[0].lower()
        return Locale(language) if language in languages() else None
    return locale if locale.language in languages() else None


def _zone_of(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ValueError, OSError, KeyError):  # ZoneInfoNotFoundError is a KeyError
        return ZoneInfo("UTC")


def accepted(header: str) -> Sequence[str]:
    """The language tags of an Accept-Language header, the best one first (RFC 9110, 12.5.4)."""
    weighted = []
    for part in header.split(",")[:20]:
        tag, _, parameter = part.partition(";")
        try:
            weight = float(parameter.strip().removeprefix("q=")) if parameter else 1.0
        except ValueError:
            continue
        weighted.append((weight, tag.strip()))
    return [tag for weight, tag in sorted(weighted, key=lambda each: -each[0]) if weight > 0]
