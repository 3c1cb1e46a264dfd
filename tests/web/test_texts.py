"""The catalogues are complete; languages and zones are those of the person."""

from datetime import UTC, datetime, timedelta

import pytest
from babel.messages.checkers import python_format

from stepup.web.texts import accepted, texts_of
from tools.portal_texts import catalogues, languages, messages, texts_of_pages

LANGUAGES = tuple(languages())


@pytest.mark.parametrize("language", LANGUAGES, ids=lambda path: path.name)
def test_every_text_has_a_translation(language):
    translated = {text for text, message in messages(language).items() if all(_forms(message))}
    assert set(texts_of_pages()) == translated, "make texts, and then translate"


@pytest.mark.parametrize("language", LANGUAGES, ids=lambda path: path.name)
def test_a_translation_has_the_values_of_its_text_and_no_markup(language):
    for catalogue in catalogues(language).values():
        for message in catalogue:
            python_format(catalogue, message)
            if message.id:
                assert not any(set(form) & {"<", ">"} for form in _forms(message))


def _forms(message):
    return (message.string,) if isinstance(message.string, str) else message.string


@pytest.mark.parametrize(
    ("preferred", "language"),
    [
        ([], "en"),
        (["de-CH"], "de-CH"),
        (["ja"], "ja"),
        (["fr", "de"], "de"),
        (["x<script>", "../de", "de_DE", "zz-ZZ", "a" * 1000, "ja-JP"], "ja-JP"),
        (["de-1996"], "de"),
        (["en-GB-oxendict"], "en-GB"),
    ],
)
def test_the_first_language_that_the_portal_has_is_taken(preferred, language):
    assert texts_of(preferred).language == language


def test_the_languages_of_a_browser_come_by_weight():
    assert accepted("fr;q=0.3, de-CH, *;q=0.1, ja;q=0, en;q=x") == ["de-CH", "fr", "*"]


def test_an_instant_is_in_the_zone_and_language_of_the_person():
    noon = datetime(2026, 11, 28, 12, 0, tzinfo=UTC)
    assert texts_of(["de"], "Europe/Berlin").instant(noon) == "28.11.2026, 13:00:00 MEZ"
    assert "12:00:00" in texts_of(["en"], "../../etc/passwd").instant(noon)
    assert texts_of(["ja"]).duration(timedelta(minutes=15)) == "15 分"


def test_s21_values_of_a_text_are_escaped():
    text = texts_of(["en"]).gettext("Hello %(name)s", name="<b>")
    assert str(text) == "Hello &lt;b&gt;"
