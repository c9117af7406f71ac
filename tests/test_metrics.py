"""Tests of examples/metrics.py with OpenTelemetry's exporters in memory."""

import importlib.util

import pytest
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from tests.test_examples import EXAMPLES, start


@pytest.fixture
def told(tmp_path, monkeypatch):
    """Run the example once, and return its spans and counts."""
    monkeypatch.chdir(tmp_path)
    spans, counts, provider = InMemorySpanExporter(), InMemoryMetricReader(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    spec = importlib.util.spec_from_file_location("metrics_example", EXAMPLES / "metrics.py")
    example = importlib.util.module_from_spec(spec)
    with monkeypatch.context() as patch:  # a process can set one provider of each
        patch.setattr(trace, "get_tracer", provider.get_tracer)
        patch.setattr(metrics, "get_meter", MeterProvider([counts]).get_meter)
        spec.loader.exec_module(example)
    example.main()
    return spans.get_finished_spans(), counts.get_metrics_data()


def test_each_call_is_a_span_below_the_request(told):
    """Each call is a span with its session and outcome, within the request's span."""
    *calls, request, close = sorted(told[0], key=lambda each: each.end_time)
    names = [each.name for each in (*calls, close)]

    assert names == [f"pyai_sessions.{each}" for each in ("get_or_create_session", "save", "get_session", "close")]
    for each in calls:
        assert (each.attributes["session.id"], each.attributes["outcome"]) == ("chat-1", "ok")
        assert each.attributes["trips"] > 0
        assert each.parent.span_id == request.context.span_id
        assert request.start_time <= each.start_time <= each.end_time <= request.end_time


def test_each_event_is_counted(told):
    """Events are counted by name, method and outcome."""
    (scope,) = told[1].resource_metrics[0].scope_metrics
    (metric,) = scope.metrics
    counted = {tuple(each.attributes.values()): each.value for each in metric.data.data_points}

    assert counted["started", "save", ""] == counted["ended", "save", "ok"] == 1
    assert sum(counted.values()) == 8


def test_it_runs_as_a_program(tmp_path):
    """Run as a program, it prints its spans."""
    ended = start(EXAMPLES / "metrics.py", cwd=tmp_path)

    assert ended.returncode == 0, ended.stderr
    assert "pyai_sessions.save" in ended.stdout
