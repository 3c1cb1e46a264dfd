"""The metrics of workers, of which some have ended."""

import struct
import time

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.values import MultiProcessValue

from stepup.telemetry.worker_metrics import WorkerMetrics

BUCKETS = ("0.1", "+Inf")


class Process:
    """What prometheus_client writes for one process."""

    def __init__(self, directory, pid, monkeypatch):
        monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(directory))
        self._value = MultiProcessValue(lambda: pid)

    def count(self, metric, amount, **labels):
        names, values = tuple(labels), tuple(labels.values())
        self._value("counter", metric, f"{metric}_total", names, values, "Help.").inc(amount)

    def observe(self, metric, bucket, amount):
        self._value("histogram", metric, f"{metric}_sum", (), (), "Help.").inc(amount)
        name = f"{metric}_bucket"
        self._value("histogram", metric, name, (), (), "Help.").inc(0)
        self._value("histogram", metric, name, ("le",), (bucket,), "Help.").inc(1)

    def show(self, metric, value):
        self._value("gauge", metric, metric, (), (), "Help.", multiprocess_mode="livemax").set(
            value
        )


@pytest.fixture
def process(tmp_path, monkeypatch):
    return lambda pid: Process(tmp_path, pid, monkeypatch)


@pytest.fixture
def registry():
    return CollectorRegistry()


@pytest.fixture
def metrics(tmp_path, registry):
    return WorkerMetrics(registry, tmp_path)


def lines_of(registry):
    return sorted(generate_latest(registry).splitlines())


def test_what_ended_processes_have_counted_stays(process, metrics, registry):
    for pid in (11, 12, 13):
        worker = process(pid)
        worker.count("calls", pid, code="OK", caller='o"ddly € named')
        worker.observe("seconds", "0.1", 0.5)
    before = lines_of(registry)
    metrics.take_over(11)
    assert lines_of(registry) == before
    metrics.take_over(12)
    metrics.take_over(13)
    assert lines_of(registry) == before
    process(14).count("calls", 4, code="OK", caller='o"ddly € named')
    assert (
        registry.get_sample_value("calls_total", {"code": "OK", "caller": 'o"ddly € named'})
        == 11 + 12 + 13 + 4
    )


def test_a_gauge_is_gone_with_its_process(process, metrics, registry):
    process(11).show("up", 5)
    process(12).show("up", 1)
    metrics.take_over(11)
    assert registry.get_sample_value("up") == 1


def test_the_number_of_files_does_not_grow_with_the_processes(process, metrics, tmp_path):
    for pid in range(10, 30):
        worker = process(pid)
        worker.count("calls", 1)
        worker.observe("seconds", "0.1", 0.5)
        worker.show("up", 1)
        metrics.take_over(pid)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["counter_0.db", "histogram_0.db"]


def test_a_process_that_ended_while_it_made_its_file_is_nothing(process, metrics, tmp_path):
    process(11).count("calls", 1)
    metrics.take_over(11)
    (tmp_path / "counter_12.db").touch()
    metrics.take_over(12)
    assert [file.name for file in tmp_path.iterdir()] == ["counter_0.db"]


@pytest.mark.usefixtures("metrics")
def test_a_worker_that_makes_its_file_just_now_does_not_spoil_the_page(
    tmp_path, registry, monkeypatch
):
    file = tmp_path / "counter_1.db"
    file.touch()
    monkeypatch.setattr(time, "sleep", lambda _: file.write_bytes(bytes(8)))
    assert generate_latest(registry) == b""
    assert file.stat().st_size, "it was empty at first"


@pytest.mark.usefixtures("metrics")
def test_a_file_that_stays_empty_is_an_error(tmp_path, registry):
    (tmp_path / "counter_1.db").touch()
    with pytest.raises(struct.error):
        generate_latest(registry)
