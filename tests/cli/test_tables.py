"""The layout of tables on a terminal."""

import pytest

from stepup.cli.tables import lay_out, wrapped

AT = "2026-11-29T04:41:16Z"
EVENTS = ("time", "kind", "person", "details")
EVENT = (AT, "policy_changed_by_operator", "bob", "reason: roll-out; enabled: true (before: false)")


def laid_out(columns, rows, width):
    head, lines = lay_out(columns, rows, width)
    return [head, *lines]


def test_a_table_that_fits_has_a_line_for_each_row():
    assert laid_out(("user", "state"), [("bob", "ok"), ("alice", "locked")], 13) == [
        "user   state",
        "bob    ok",
        "alice  locked",
    ]


def test_the_last_column_wraps_at_spaces_where_it_is():
    rows = [("ELEVATED", "The session has no live elevation."), ("NONE", "Nothing.")]
    assert laid_out(("rule", "explanation"), rows, 30) == [
        "rule      explanation",
        "ELEVATED  The session has no",
        "          live elevation.",
        "NONE      Nothing.",
    ]


def test_columns_that_do_not_fit_come_below_with_their_names():
    assert laid_out(EVENTS, [EVENT, (AT, "otp_verified", "-", "")], 50) == [
        "time                  kind",
        f"{AT}  policy_changed_by_operator",
        "    person: bob",
        "    details: reason: roll-out; enabled: true",
        "    (before: false)",
        f"{AT}  otp_verified",
    ]


def test_values_that_fit_share_a_line():
    rows = [("response.run_yara_rules", 12, 0, 3)]
    columns = ("operation", "calls", "before", "after")
    [row] = [tuple(map(str, row)) for row in rows]
    assert laid_out(columns, [row], 29) == [
        "operation",
        "response.run_yara_rules",
        "    calls: 12  before: 0",
        "    after: 3",
    ]


@pytest.mark.parametrize("width", [1, 10, 20, 40, 60, 80])
def test_no_word_breaks(width):
    words = {word for line in laid_out(EVENTS, [EVENT], width) for word in line.split()}
    assert {word for cell in EVENT for word in cell.split()} <= words


def test_a_table_without_rows_is_its_head():
    assert laid_out(("user", "state"), [], 80) == ["user  state"]


def test_wide_characters_count_as_two_cells():
    assert laid_out(("user", "state"), [("\u5f20\u4f1f", "ok")], 80)[1] == "\u5f20\u4f1f  ok"
    assert wrapped("\u5f20\u4f1f \u5f20\u4f1f", 8) == ["\u5f20\u4f1f", "\u5f20\u4f1f"]
