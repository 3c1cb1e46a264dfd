"""JSON that two parsers could read differently is refused."""

import pytest

from stepup.system.json_texts import (
    RepeatedNameError,
    json_with_unique_names,
    strict_json,
    whole_numbers,
)


def test_json_is_parsed():
    assert strict_json(b'{"a": [{"b": 1}, {"b": 2}]}') == {"a": [{"b": 1}, {"b": 2}]}


@pytest.mark.parametrize(
    "text", ["", "{", b"\xff", "[" * 100_000], ids=["empty", "cut off", "not UTF-8", "deep"]
)
def test_other_text_is_refused(text):
    with pytest.raises(ValueError, match="is not JSON"):
        strict_json(text)


def test_s11_a_name_given_twice_is_refused_without_its_values():
    with pytest.raises(ValueError, match=r"^has a name twice in one object$") as refused:
        strict_json('{"a": {"secret": 1, "secret": 2}}')
    assert refused.value.__suppress_context__


def test_files_without_secrets_show_the_name_and_the_place():
    assert json_with_unique_names('[{"a": 1}, {"a": {"a": 2}}]') == [{"a": 1}, {"a": {"a": 2}}]
    with pytest.raises(RepeatedNameError, match=r"^has the name 'a' twice in one object$"):
        json_with_unique_names('[{"a": 1, "b": 2, "a": 3}]')
    with pytest.raises(ValueError, match="line 1 column 2"):
        json_with_unique_names("{")
    with pytest.raises(ValueError, match="nested too deeply"):
        json_with_unique_names("[" * 100_000)


def test_numbers_without_a_fraction_become_integers():
    value = {"a": [900.0, 0.5, True, None, "1.0"], "b": {"c": -0.0}}
    assert repr(whole_numbers(value)) == "{'a': [900, 0.5, True, None, '1.0'], 'b': {'c': 0}}"
