"""The port of the metrics."""

import threading
from urllib.error import URLError
from urllib.request import urlopen

import pytest

from stepup.telemetry import metrics_served


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
