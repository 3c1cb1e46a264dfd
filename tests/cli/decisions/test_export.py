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
    assert "1 decisions have no form in OCSF" in ran.stderr
