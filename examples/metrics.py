"""Spans and metrics of all calls, by OpenTelemetry: pip install opentelemetry-sdk."""

import time

from opentelemetry import metrics, trace

from pyai_sessions import Event, SessionManager

tracer = trace.get_tracer("pyai_sessions")
events = metrics.get_meter("pyai_sessions").create_counter("pyai_sessions.events")


def on_event(event: Event) -> None:
    """Count each event; make a span of each call that has ended, below the span that is open."""
    events.add(1, {"event": event.name, "method": event.method, "outcome": event.outcome or ""})
    if event.name == "ended":
        now = time.time_ns()
        span = tracer.start_span(f"pyai_sessions.{event.method}", start_time=now - int(event.seconds * 1e9))
        span.set_attributes({"session.id": event.session_id or "", "outcome": event.outcome, "trips": event.trips})
        span.end(now)


def main() -> None:
    """Chat as always: the manager tells."""
    with SessionManager("sqlite:///metrics.db", on_event=on_event) as manager, tracer.start_as_current_span("request"):
        session = manager.get_or_create_session("chat-1", "ada")
        session.add_message("user", "Hello!")
        manager.save(session)
        print(manager.get_session("chat-1").message_count)


if __name__ == "__main__":
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import ConsoleMetricExporter, PeriodicExportingMetricReader
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor

    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(ConsoleSpanExporter()))
    trace.set_tracer_provider(provider)
    metrics.set_meter_provider(MeterProvider([PeriodicExportingMetricReader(ConsoleMetricExporter())]))
    main()
