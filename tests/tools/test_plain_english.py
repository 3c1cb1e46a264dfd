"""`make lint` finds odd phrases in the prose of documents and of code, and none in code itself."""

import pytest

from tools import plain_english
from tools.plain_english import Paragraph, of_comments, of_markdown, of_python

PATTERNS = plain_english.patterns()


def hits(text):
    return [hit.pattern.name for hit in plain_english.hits(of_markdown(text), PATTERNS)]


@pytest.mark.parametrize("pattern", PATTERNS, ids=lambda pattern: pattern.name)
def test_a_pattern_matches_its_bad_example_and_not_its_good_one(pattern):
    assert pattern.name in hits(pattern.bad)
    assert hits(pattern.good) == []


def test_words_in_backticks_are_not_checked():
    assert hits("The command says `this is no URI` and ends.") == []


def test_a_question_may_begin_with_who():
    assert hits("Who may change a policy? Administrators.") == []


def test_a_hit_is_on_the_line_where_its_last_word_is():
    (hit,) = plain_english.hits(of_markdown("# Title\n\nThe call\ngoes\non.\n"), PATTERNS)
    assert str(hit).startswith("5: ...The call goes on....")


def test_markdown_yields_what_is_outside_of_fenced_code():
    text = "# Title\ntext\nmore\n\n```sh\ncode\n```\n- item\n| cell | cell |\n"
    assert list(of_markdown(text)) == [
        Paragraph(1, "Title\ntext\nmore"),
        Paragraph(8, "item"),
        Paragraph(9, "cell | cell |"),
    ]


def test_python_yields_docstrings_messages_and_comments():
    text = '"""One.\n\n    Two.\n    """\n\n# Why\n# so.\nraise E("It failed")  # alone\n'
    assert sorted(of_python(text), key=lambda paragraph: paragraph.line) == [
        Paragraph(1, "One."),
        Paragraph(3, "Two.\n"),
        Paragraph(6, "Why\nso.\nalone"),
        Paragraph(8, "It failed"),
    ]


def test_other_files_yield_their_comments():
    assert list(of_comments("// One\n// two.\nrpc Get();  // three\n\n# four\n")) == [
        Paragraph(1, "One\ntwo.\nthree"),
        Paragraph(5, "four"),
    ]


def test_the_exit_status_fails_the_check_only_if_there_is_a_hit(tmp_path, capsys):
    page = tmp_path / "page.md"
    page.write_text("The call continues.\n")
    assert plain_english.main([str(tmp_path)]) == 0
    page.write_text("The call goes on.\n")
    assert plain_english.main([str(tmp_path)]) == 1
    assert capsys.readouterr().out.startswith(f"{page}:1: ")
