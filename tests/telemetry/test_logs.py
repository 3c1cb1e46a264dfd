"""The port of the metrics."""

import socket
import sys
import threading
import time
from contextlib import ExitStack
from socketserver import ThreadingMixIn
from types import SimpleNamespace
from urllib.error import URLError
from urllib.request import urlopen

import pytest
from prometheus_client import CollectorRegistry, Gauge
from structlog.testing import capture_logs

from stepup.telemetry import limited_lines, metrics_server
from stepup.telemetry.logs import metrics_served
from stepup.telemetry.metrics_server import MAX_CONNECTIONS


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


def answer_to(port, request):
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(request)
        return connection.recv(100)


def test_s18_a_header_that_cannot_be_read_is_a_bad_request_and_prints_nothing(capfd):
    request = b"GET / HTTP/1.1\r\nAccept: text/plain;version=abc;escaping=x\r\n\r\n"
    with metrics_served("127.0.0.1", 0) as port, capture_logs() as lines:
        for _ in range(3):
            assert b" 400 " in answer_to(port, request)
        assert b" 200 " in answer_to(port, b"GET / HTTP/1.1\r\n\r\n")
    assert lines == []
    assert capfd.readouterr().err == ""


def test_s18_scrapes_that_fail_are_logged_once_a_minute(monkeypatch, capfd):
    class Failing:
        def describe(self):
            return []

        def collect(self):
            raise RuntimeError("no")

    registry = CollectorRegistry()
    registry.register(Failing())
    with metrics_served("127.0.0.1", 0, registry) as port, capture_logs() as lines:
        for _ in range(3):
            assert b" 500 " in answer_to(port, b"GET / HTTP/1.1\r\n\r\n")
        assert [line["failures"] for line in lines] == [1]
        later = time.monotonic() + limited_lines.SECONDS_BETWEEN_LINES
        monkeypatch.setattr(limited_lines, "time", SimpleNamespace(monotonic=lambda: later))
        assert b" 500 " in answer_to(port, b"GET / HTTP/1.1\r\n\r\n")
    assert [line["failures"] for line in lines] == [1, 3]
    assert capfd.readouterr().err == ""


def connected(port, stack):
    return stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=10))


def test_s18_silent_connections_hold_few_threads_and_keep_no_scrape_out():
    threads = threading.active_count()
    with ExitStack() as stack:
        port = stack.enter_context(metrics_served("127.0.0.1", 0))
        most = 0
        for _ in range(4 * MAX_CONNECTIONS):
            connected(port, stack).sendall(b"GET /metrics HTTP/1.1\r\n")
            most = max(most, threading.active_count())
        assert "stepup_build_info" in page("127.0.0.1", port)
        most = max(most, threading.active_count())
        # One more: the thread that accepts.
        assert MAX_CONNECTIONS / 2 < most - threads <= MAX_CONNECTIONS + 1


@pytest.mark.parametrize("sends", [b"", b"GET /metrics HTTP/1.1\r\nx: "], ids=["nothing", "drips"])
def test_s18_a_client_that_does_not_finish_its_request_is_closed(monkeypatch, sends):
    """Also one that never is silent for long."""
    monkeypatch.setattr(metrics_server, "CONNECTION_SECONDS", 0.1)
    with ExitStack() as stack:
        connection = connected(stack.enter_context(metrics_served("127.0.0.1", 0)), stack)
        connection.sendall(sends)
        assert connection.recv(100) == b""


def test_s18_a_client_that_is_silent_is_closed(monkeypatch):
    monkeypatch.setattr(metrics_server, "SILENCE_SECONDS", 0.05)
    with ExitStack() as stack:
        connection = connected(stack.enter_context(metrics_served("127.0.0.1", 0)), stack)
        assert connection.recv(100) == b""


def test_s18_a_client_that_does_not_read_is_closed(monkeypatch):
    """An answer that is larger than what the kernel keeps for it."""
    monkeypatch.setattr(metrics_server, "CONNECTION_SECONDS", 0.2)
    large = CollectorRegistry()
    Gauge("large", "x" * 8_000_000, registry=large)
    threads = threading.active_count()
    with ExitStack() as stack:
        port = stack.enter_context(metrics_served("127.0.0.1", 0, large))
        connected(port, stack).sendall(b"GET / HTTP/1.1\r\n\r\n")
        deadline = time.monotonic() + 10
        while threading.active_count() < threads + 2:  # its thread has begun
            assert time.monotonic() < deadline
        while threading.active_count() > threads + 1:
            assert time.monotonic() < deadline
            time.sleep(0.01)
