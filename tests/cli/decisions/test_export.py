"""`stepup decisions export`: one stream of all servers' decisions."""

import json

from typer.testing import CliRunner

from stepup.cli.main import app
from stepup.cli.ocsf.decisions import ocsf_decision


def export(*arguments):
    return CliRunner().invoke(app, ["decisions", "export", *arguments])


def records(ran):
    assert ran.exit_code == 0, ran.output
    return [json.loads(line) for line in ran.stdout.splitlines()]


def test_decisions_are_written_in_the_order_of_time_as_they_were_logged(line, log):
    late, early, other = line(5, of_a_newer_server=1), line(), line(user_id="bob")
    sources = [log(late, "torn", name="a"), log(other, early, name="b")]
    assert records(export(*sources, "--user", "alice")) == [early, late]


def test_decisions_are_written_in_ocsf(line, log):
    decision = line()
    assert records(export(log(decision), "--format", "ocsf")) == [ocsf_decision(decision)]


def test_decisions_without_a_form_in_ocsf_are_counted(line, log):
    ran = export(log(line(), line(decision="of_a_newer_server")), "--format", "ocsf")
    assert (ran.exit_code, len(ran.stdout.splitlines())) == (1, 1)
    assert "1 decision has no form in ocsf: left out" in ran.stderr


def test_a_strange_line_ends_no_export(line, log):
    deep = "[" * 40_000 + "]" * 40_000
    large = "9" * 5_000
    strange = [json.dumps(line())[:-1] + f', "of_another": {value}}}' for value in (deep, large)]
    ran = export(log(*strange, line(user_id="bob"), line(decided_at="infinity")))
    assert ran.exit_code in (0, 1)
    assert json.loads(ran.stdout.splitlines()[-1])["user_id"] == "bob"
    assert "1 line is not a decision" in ran.stderr
