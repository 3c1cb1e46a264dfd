"""The differences between two policies, in words."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256

from babel.units import format_unit
from markupsafe import Markup

from stepup.web.policy_values import EVERY_TIME, PolicyValues
from stepup.web.rendering import bdi
from stepup.web.texts import Texts


@dataclass(frozen=True, slots=True)
class Change:
    """One difference.

    Args:
        setting: what differs.
        before: its value before, in words.
        after: its value after, in words.
        text: the whole change, as a sentence.
        weakens: whether the change weakens the policy, so that it needs a code.
    """

    setting: Markup
    before: Markup
    after: Markup
    text: Markup
    weakens: bool = False


def changes_between(
    texts: Texts, titles: Mapping[str, str | Markup], before: PolicyValues, after: PolicyValues
) -> list[Change]:
    """Return all differences, in the order of the panel.

    Args:
        texts: the language, and the zone of times.
        titles: the operations' titles by their ids, in the order of the panel. An operation without
            a title is named by its id.
        before: the policy that is in force.
        after: the policy that is wanted.
    """
    return [
        *_of_enabled(texts, before, after),
        *_of_operations(texts, titles, before.ages, after.ages),
        *_of_issuer(texts, before.issuer, after.issuer),
        *_of_enroll_by(texts, before, after),
    ]


def digest_of(changes: list[Change]) -> str:
    """Return what names these changes: a person who accepts them accepts no others."""
    return sha256("\0".join(str(each.text) for each in changes).encode()).hexdigest()[:32]


def option_of(texts: Texts, age: int) -> str:
    """Return how old a code may be, for a list to select from."""
    if age == EVERY_TIME:
        return texts.gettext("A code for each action")
    if age % 60:
        return format_unit(age, "duration-second", locale=texts.locale)
    return format_unit(age // 60, "duration-minute", locale=texts.locale)


def _age_in_words(texts: Texts, age: int) -> Markup:
    if age == EVERY_TIME:
        return texts.gettext("a code for each action")
    return texts.gettext("a code that is at most %(time)s old", time=option_of(texts, age))


def _of_enabled(texts: Texts, before: PolicyValues, after: PolicyValues) -> Iterator[Change]:
    if before.enabled == after.enabled:
        return
    on, off = texts.gettext("on"), texts.gettext("off")
    if after.enabled:
        text = texts.gettext("MFA is turned on for your business.")
        yield Change(Markup("MFA"), off, on, text)
    else:
        text = texts.gettext("MFA is turned off for your business.")
        yield Change(Markup("MFA"), on, off, text, weakens=True)


def _of_operations(
    texts: Texts,
    titles: Mapping[str, str | Markup],
    before: Mapping[str, int],
    after: Mapping[str, int],
) -> Iterator[Change]:
    ids = dict.fromkeys([*titles, *sorted(before), *sorted(after)])
    for operation in ids:
        old, new = before.get(operation), after.get(operation)
        if old != new:
            yield _of_operation(texts, bdi(titles.get(operation, operation)), old, new)


def _of_operation(texts: Texts, title: Markup, old: int | None, new: int | None) -> Change:
    never = texts.gettext("no code")
    before = never if old is None else _age_in_words(texts, old)
    after = never if new is None else _age_in_words(texts, new)
    values = {"operation": title, "before": before, "after": after}
    if old is None:
        text, weakens = texts.gettext("Added: %(operation)s needs %(after)s.", **values), False
    elif new is None:
        text, weakens = texts.gettext("Removed: %(operation)s needs no code.", **values), True
    elif old != EVERY_TIME and (new == EVERY_TIME or new < old):
        text = texts.gettext(
            "Shorter: %(operation)s needs %(after)s, instead of %(before)s.", **values
        )
        weakens = False
    else:
        text = texts.gettext(
            "Longer: %(operation)s needs %(after)s, instead of %(before)s.", **values
        )
        weakens = True
    return Change(title, before, after, text, weakens)


def _of_issuer(texts: Texts, before: str, after: str) -> Iterator[Change]:
    if before == after:
        return
    default = texts.gettext("the default name")
    old, new = (bdi(each) if each else default for each in (before, after))
    text = texts.gettext(
        "Name in authenticator apps: %(after)s, instead of %(before)s.",
        before=old,
        after=new,
    )
    yield Change(texts.gettext("Name in authenticator apps"), old, new, text)


def _of_enroll_by(texts: Texts, before: PolicyValues, after: PolicyValues) -> Iterator[Change]:
    old, new = before.enroll_by, after.enroll_by
    if old == new:
        return
    values = {"before": _instant(texts, old), "after": _instant(texts, new)}
    later = new is not None and (old is None or new > old)
    if old is None:
        text = texts.gettext(
            "People without an authenticator get time to set it up: until %(after)s.", **values
        )
    elif new is None:
        text = texts.gettext(
            "People without an authenticator have no more time to set it up. Before, they had time"
            " until %(before)s.",
            **values,
        )
    elif later:
        text = texts.gettext(
            "People without an authenticator have more time to set it up: until %(after)s, instead"
            " of %(before)s.",
            **values,
        )
    else:
        text = texts.gettext(
            "People without an authenticator have less time to set it up: until %(after)s, instead"
            " of %(before)s.",
            **values,
        )
    setting = texts.gettext("Time to set up")
    # Only on a policy that stays enabled: enabling with such a time takes nothing away.
    weakens = later and before.enabled and after.enabled
    yield Change(setting, values["before"], values["after"], text, weakens)


def _instant(texts: Texts, instant: datetime | None) -> Markup:
    return Markup.escape(texts.instant(instant)) if instant else texts.gettext("no time")
