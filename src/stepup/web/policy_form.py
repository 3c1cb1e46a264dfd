"""The form of the policy panel: its fields, and the values of a policy that they mean."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from markupsafe import Markup

from stepup.web.forms import Form
from stepup.web.policy_values import EVERY_TIME, LONGEST, SHORTEST, PolicyValues
from stepup.web.texts import Texts

_AGES: Final = (LONGEST, 600, 300, 180, 120, 60, SHORTEST, EVERY_TIME)
"""Further ages can be set by the API only."""
LONGEST_GRACE: Final = timedelta(days=30)
_MAX_ISSUER_BYTES: Final = 128
_INSTANT: Final = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d)?", re.ASCII)
_SECONDS: Final = re.compile("[0-9]{1,3}")


@dataclass(frozen=True, slots=True)
class Entries:
    """What a person entered.

    Args:
        values: what the entries mean. A wrong entry has the saved value here.
        issuer: the text of its field.
        enroll_by: the text of its field.
        errors: what is wrong, by the id of the field.
    """

    values: PolicyValues
    issuer: str
    enroll_by: str
    errors: Mapping[str, Markup]

    def with_error(self, field: str, problem: Markup) -> "Entries":
        """Return these entries with a further error."""
        return replace(self, errors={**self.errors, field: problem})


def entries_of(saved: PolicyValues, zone: ZoneInfo) -> Entries:
    """Return the entries that the form of a saved policy begins with."""
    return Entries(saved, saved.issuer, local_text(saved.enroll_by, zone), {})


def read_form(
    form: Form, saved: PolicyValues, catalogue: Collection[str], now: datetime, texts: Texts
) -> Entries:
    """Read the form of the panel.

    Args:
        form: the whole selection: an operation that is absent is not selected.
        saved: the policy that is in force.
        catalogue: the ids of all operations that a policy can select.
        now: the present time.
        texts: the language of errors, and the zone of times.
    """
    reader = _Reader(form, saved, now, texts, {})
    values = PolicyValues(
        form["enabled"] == "yes",
        reader.ages(catalogue),
        reader.issuer(),
        reader.enroll_by(),
    )
    return Entries(values, form["issuer"], form["enroll_by"], reader.errors)


def ages_offered(age: int) -> list[int]:
    """Return the ages that the field of an operation offers, with its present one."""
    return sorted({*_AGES, age}, reverse=True)


def local_text(instant: datetime | None, zone: ZoneInfo) -> str:
    """Return the text of a field for a time of a zone, exact to a minute."""
    return f"{instant.astimezone(zone):%Y-%m-%dT%H:%M}" if instant else ""


@dataclass(frozen=True, slots=True)
class _Reader:
    form: Form
    saved: PolicyValues
    now: datetime
    texts: Texts
    errors: dict[str, Markup]

    def ages(self, catalogue: Collection[str]) -> Mapping[str, int]:
        ages = {}
        for operation in self.form.all("operation"):
            if operation not in catalogue:
                self.errors["operations"] = self.texts.gettext(
                    "An operation that you selected is no longer in the list. Check your selection."
                )
                continue
            ages[operation] = self._age(operation)
        known = {each: age for each, age in self.saved.ages.items() if each in catalogue}
        # An operation that left the catalogue cannot be sent. It stays unless the others change.
        return self.saved.ages if ages == known else ages

    def _age(self, operation: str) -> int:
        name = f"age.{operation}"
        text, saved = self.form[name], self.saved.ages.get(operation, LONGEST)
        age = int(text) if _SECONDS.fullmatch(text) else -1
        if age in (EVERY_TIME, saved) or SHORTEST <= age <= LONGEST:
            return age
        self.errors[name] = self.texts.gettext(
            "Select 30 seconds to 15 minutes, or a code for each action."
        )
        return saved

    def issuer(self) -> str:
        issuer = self.form["issuer"].strip()
        if len(issuer.encode()) > _MAX_ISSUER_BYTES:
            self.errors["issuer"] = self.texts.gettext("The name is too long. Use a shorter name.")
        elif ":" in issuer:
            self.errors["issuer"] = self.texts.gettext("The name must not have a colon.")
        else:
            return issuer
        return self.saved.issuer

    def enroll_by(self) -> datetime | None:
        text, zone = self.form["enroll_by"].strip(), self.texts.zone
        # The field is exact to a minute: the saved time may be more exact.
        if text == local_text(self.saved.enroll_by, zone):
            return self.saved.enroll_by
        if not text:
            return None
        instant = _instant_of(text, zone)
        if instant is None:
            problem = self.texts.gettext("This is not a date and a time of your time zone.")
        elif instant <= self.now:
            problem = self.texts.gettext("The time is past. Enter a later time, or no time.")
        elif instant > self.now + LONGEST_GRACE:
            problem = self.texts.gettext("The time must be within the next 30 days.")
        else:
            return instant
        self.errors["enroll_by"] = problem
        return self.saved.enroll_by


def _instant_of(text: str, zone: ZoneInfo) -> datetime | None:
    """The instant of a local time: the first one if the clock shows it twice; None if never."""
    if not _INSTANT.fullmatch(text):
        return None
    try:
        local = datetime.fromisoformat(text)
        instant = local.replace(tzinfo=zone).astimezone(UTC)
        return instant if instant.astimezone(zone).replace(tzinfo=None) == local else None
    except (ValueError, OverflowError):
        return None
