"""The port of the metrics."""

import struct
import sys
import threading
import time
from socketserver import ThreadingMixIn
from urllib.error import URLError
from urllib.request import urlopen

import pytest
from prometheus_client import generate_latest

from stepup.telemetry import metrics_of_workers, metrics_served


def page(host, port):
    with urlopen(f"http://{host}:{port}/metrics", timeout=10) as answer:
        return answer.read().decode()


@pytest.mark.parametrize(
    ("host", "in_url"), [("127.0.0.1", "127.0.0.1"), ("localhost", "localhost"), ("::1", "[::1]")]
)
def test_metrics_are_served_on_the_address(host, in_url):
    with metrics_served(host, 0) as port:
        assert "stepup_build_info" in page(in_url, port)


def test_after_the_block_nothing_listens_and_no_thread_is_left():
    threads = threading.active_count()
    with metrics_served("127.0.0.1", 0) as port:
        assert threading.active_count() == threads + 1
    with pytest.raises(URLError):
        page("127.0.0.1", port)
    assert threading.active_count() == threads


def test_a_port_that_is_taken_is_an_error():
    with (
        metrics_served("127.0.0.1", 0) as port,
        pytest.raises(OSError, match="in use"),
        metrics_served("127.0.0.1", port),
    ):
        pass


def test_a_worker_that_makes_its_file_just_now_does_not_spoil_the_page(tmp_path, monkeypatch):
    file = tmp_path / "counter_1.db"
    file.touch()
    monkeypatch.setattr(time, "sleep", lambda _: file.write_bytes(bytes(8)))
    assert "stepup_build_info" in generate_latest(metrics_of_workers(tmp_path)).decode()
    assert file.stat().st_size, "it was empty at first"


def test_a_file_that_stays_empty_is_an_error(tmp_path):
    (tmp_path / "counter_1.db").touch()
    with pytest.raises(struct.error):
        generate_latest(metrics_of_workers(tmp_path))


class BrokenPipe:
    def write(self, _text):
        raise BrokenPipeError

    flush = None


def test_s17_the_thread_of_the_metrics_survives_what_goes_wrong_with_a_scrape(monkeypatch):
    """Also where nothing can be printed."""

    def breaks(*_):
        raise RuntimeError("can't start new thread")

    with metrics_served("127.0.0.1", 0) as port:
        with monkeypatch.context() as patched:
            patched.setattr(ThreadingMixIn, "process_request", breaks)
            patched.setattr(sys, "stderr", BrokenPipe())
            with pytest.raises((URLError, OSError)):
                page("127.0.0.1", port)
        assert "stepup_build_info" in page("127.0.0.1", port)
