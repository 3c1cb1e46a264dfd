"""What a worker tells its parent, as a pipe carries it."""

import pytest

from stepup.process.worker_reports import Reports, report
from stepup.rpc.server.server import HEALTH_NAMES

ALL = frozenset(HEALTH_NAMES)
PIPE_BUF = 512
"""The least that POSIX allows."""


@pytest.mark.parametrize("serving", [ALL, ALL - {""}, {""}, set(), {"sql"}])
@pytest.mark.parametrize("size", [1, 7, 4096])
def test_what_is_written_is_read_however_it_arrives(serving, size):
    reports = Reports()
    written = report(ALL) + report(serving)
    for begin in range(0, len(written), size):
        reports.read(written[begin : begin + size])
    assert reports.serving == serving


def test_a_report_is_written_at_once():
    assert len(report(ALL)) <= PIPE_BUF


@pytest.mark.parametrize(("octet", "serving"), [(b"1", {""}), (b"0", set())])
def test_a_report_of_an_earlier_version_is_read(octet, serving):
    reports = Reports()
    reports.read(report(ALL) + octet)
    assert reports.serving == serving


def test_a_supervisor_of_an_earlier_version_reads_whether_it_serves():
    assert report(ALL).endswith(b"1")
    assert report(ALL - {""}).endswith(b"0")
