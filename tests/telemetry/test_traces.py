"""How spans are exported, and the section of the settings that asks for it."""

import asyncio
import importlib.machinery
import logging
import sys
import threading
from contextlib import AsyncExitStack

import pytest
import structlog
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from stepup_tests.metrics import metric

from stepup.settings import ConfigurationError, TracesSettings, UnusableFileError, load
from stepup.telemetry import traces
from stepup.telemetry.traces import Exporting, Traces
from stepup.wiring.traces import begin_span_of, check_traces

ENDPOINT = "http://127.0.0.1:4317"


class Exporter(SpanExporter):
    """Stands in for that of OTLP: each export is answered by what the test has it do."""

    def __init__(self):
        self.spans = []
        self.answer = SpanExportResult.SUCCESS
        self.goes_on = threading.Event()
        self.goes_on.set()

    def export(self, spans):
        self.goes_on.wait()
        if self.answer is SpanExportResult.FAILURE:
            logging.getLogger("opentelemetry.exporter").error("no %s", "collector")
        else:
            self.spans += spans
        return self.answer

    def shutdown(self):
        self.answer = SpanExportResult.FAILURE
        self.goes_on.set()


@pytest.fixture
def exporter():
    return Exporter()


@pytest.fixture
async def exporting(exporter):
    exporting = Exporting(exporter)
    yield exporting
    await exporting.close()


def record(exporting, number):
    """Record so many spans."""
    begin = Traces(exporting.processor, 1).begin
    for _ in range(number):
        begin("name", None, 1).end({}, failed=False)


async def test_what_waits_is_exported_at_the_end(exporter, exporting):
    before = metric("stepup_spans_exported_total")
    record(exporting, 700)
    await exporting.close()
    assert len(exporter.spans) == 700
    assert metric("stepup_spans_exported_total") == before + 700


async def test_an_exporter_that_hangs_holds_up_the_end_for_no_longer_than_that(
    exporter, exporting, monkeypatch
):
    monkeypatch.setattr(traces, "FLUSH_SECONDS", 0.01)
    exporter.goes_on.clear()
    record(exporting, 2000)
    async with asyncio.timeout(20):
        await exporting.close()
    assert exporter.spans == []


async def test_no_more_wait_than_the_queue_has_place_for(exporter, exporting):
    exporter.goes_on.clear()
    record(exporting, 4000)
    exporter.goes_on.set()
    await exporting.close()
    assert 2048 <= len(exporter.spans) <= 2048 + 512


async def test_the_first_failure_is_told_with_its_reason_and_the_first_success_after_it(
    exporter, exporting
):
    with structlog.testing.capture_logs() as lines:
        for answer in (SpanExportResult.FAILURE, SpanExportResult.SUCCESS):
            exporter.answer = answer
            for _ in range(2):
                record(exporting, 1)
                exporting.processor.force_flush()
    assert [(line["event"], line.get("problem")) for line in lines] == [
        ("traces_are_not_exported", "no collector"),
        ("traces_are_exported_again", None),
    ]
    assert {line["log_level"] for line in lines} == {"warning"}


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "stepup.toml"

    def written(text):
        path.write_text(f"[traces]\n{text}")
        return path

    return written


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "traces.endpoint: Field required"),
        *(
            (f'endpoint = "{endpoint}"', "traces.endpoint: must be http")
            for endpoint in ("collector:4317", "grpc://c:4317", "http://me:secret@c:4317")
        ),
        ('endpoint = "http://c:4317/v1"', "traces.endpoint: must be http"),
        ('endpoint = "http://c"', "traces.endpoint: must be a host and a port"),
        (f'endpoint = "{ENDPOINT}"\nsample_ratio = 1.1', "traces.sample_ratio: "),
        (f'endpoint = "{ENDPOINT}"\nca_file = "ca.pem"', "traces: ca_file needs an endpoint with"),
        (f'endpoint = "{ENDPOINT}"\nheaders = "a=b"', "traces.headers: there is no such setting"),
    ],
)
def test_what_cannot_be_meant_is_named(file, text, problem):
    with pytest.raises(ConfigurationError) as refused:
        load(file(text))
    assert str(refused.value).startswith(problem)
    assert "secret" not in str(refused.value)


def test_traces_are_off_unless_they_are_configured(monkeypatch):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", ENDPOINT)
    assert load().traces is None
    assert begin_span_of(load().traces, AsyncExitStack()) is None


class _Hidden(importlib.machinery.PathFinder):
    """Finds no OpenTelemetry, as where the extra is not installed."""

    @classmethod
    def find_spec(cls, name, *_):
        if name.partition(".")[0] == "opentelemetry":
            raise ModuleNotFoundError(name=name)


@pytest.fixture
def without_the_extra(monkeypatch):
    for name in list(sys.modules):
        if name.partition(".")[0] == "opentelemetry":
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [_Hidden, *sys.meta_path])


@pytest.mark.usefixtures("without_the_extra")
def test_without_opentelemetry_the_extra_is_named_where_traces_are_configured():
    settings = TracesSettings(endpoint=ENDPOINT)
    with pytest.raises(ConfigurationError, match=r"extra `otel` of the distribution stepup-authz"):
        begin_span_of(settings, AsyncExitStack())
    with pytest.raises(ConfigurationError, match=r"extra `otel` of the distribution stepup-authz"):
        check_traces(settings)
    assert begin_span_of(None, AsyncExitStack()) is None


def test_authorities_that_cannot_be_read_are_named(tmp_path):
    settings = TracesSettings(endpoint="https://c:4317", ca_file=tmp_path / "ca.pem")
    for use in (check_traces, lambda settings: begin_span_of(settings, AsyncExitStack())):
        with pytest.raises(UnusableFileError, match=r"traces\.ca_file: .*ca\.pem: cannot be read"):
            use(settings)


async def test_s17_an_exporter_that_breaks_is_asked_again(exporter, exporting, monkeypatch):
    def breaks(_spans):
        monkeypatch.undo()
        raise RuntimeError("a bug")

    monkeypatch.setattr(exporter, "export", breaks)
    for _ in range(2):
        record(exporting, 1)
        exporting.processor.force_flush()
    assert len(exporter.spans) == 1
