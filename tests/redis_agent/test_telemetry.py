"""What services tell about themselves: headers and traces that cross the topics, log lines, metrics."""

import json
import socket
import subprocess
import sys
import urllib.request
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind

from redis_agent import telemetry, topics
from redis_agent.errors import ConfigurationError
from redis_agent.fleet import TelemetrySection
from redis_agent.log import Delivered, Headers
from redis_agent.model import Origin
from redis_agent.telemetry import Telemetry
from simulator.ports import free_ports

ORIGIN = Origin("collector@here/1-abc", 42)


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def told(exporter: InMemorySpanExporter) -> Telemetry:
    return telemetry.build("collector", TelemetrySection(), [SimpleSpanProcessor(exporter)])


def delivered(headers: Headers) -> Delivered:
    return Delivered(topics.FAILOVERS.name, 1, 7, datetime.now(UTC), "orders", b"", headers)


# --- across the topics --------------------------------------------------------------------------------------------


def test_every_record_carries_schema_identity_and_trace(told: Telemetry) -> None:
    span = told.tracer.start_span("poll")
    context = span.get_span_context()
    assert telemetry.headers(topics.OBSERVATIONS, ORIGIN, span) == (
        ("schema", b"redis_agent.v1.Observations"),
        ("source", b"collector@here/1-abc"),
        ("sequence", b"42"),
        ("traceparent", f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}".encode()),
    )


def test_the_current_span_is_taken_when_none_is_given(told: Telemetry) -> None:
    with told.tracer.start_as_current_span("tick") as span:
        headers = dict(telemetry.headers(topics.METRICS, ORIGIN))
    assert headers["traceparent"].decode() == telemetry.traceparent_of(span)


def test_without_a_span_there_is_no_traceparent() -> None:
    assert [name for name, _ in telemetry.headers(topics.METRICS, ORIGIN)] == ["schema", "source", "sequence"]


def test_work_on_a_record_is_a_child_of_the_span_that_wrote_it(told: Telemetry, exporter: InMemorySpanExporter) -> None:
    writer = told.tracer.start_span("decide failover")
    record = delivered(telemetry.headers(topics.FAILOVERS, ORIGIN, writer))
    telemetry.process_span(told.tracer, record).end()
    (span,) = exporter.get_finished_spans()
    assert (span.name, span.kind) == ("process redis-agent.failovers.v1", SpanKind.CONSUMER)
    assert span.parent is not None and span.parent.span_id == writer.get_span_context().span_id
    assert span.parent.trace_id == writer.get_span_context().trace_id
    assert dict(span.attributes or {}) | {"messaging.kafka.offset": 7} == dict(span.attributes or {})


@pytest.mark.parametrize("headers", [(), (("traceparent", b"nonsense"),), (("traceparent", b"\xff\xfe"),)])
def test_work_on_a_record_without_a_trace_begins_one(
    told: Telemetry, exporter: InMemorySpanExporter, headers: Headers
) -> None:
    with told.tracer.start_as_current_span("somebody else's"):
        telemetry.process_span(told.tracer, delivered(headers)).end()
    assert exporter.get_finished_spans()[0].parent is None


def test_links_name_each_trace_once_and_leave_out_what_is_none(told: Telemetry) -> None:
    first, second = (telemetry.traceparent_of(told.tracer.start_span(name)) for name in ("a", "b"))
    links = telemetry.links_to([first, None, "", "nonsense", second, first])
    assert [f"{link.context.span_id:016x}" for link in links] == [first.split("-")[2], second.split("-")[2]]


@settings(deadline=None)
@given(st.text())
def test_any_text_for_a_traceparent_is_a_context_or_none(text: str) -> None:
    telemetry.context_of(text)
    assert len(telemetry.links_to([text])) <= 1


def test_the_services_name_is_the_traces(told: Telemetry, exporter: InMemorySpanExporter) -> None:
    told.tracer.start_span("poll").end()
    assert exporter.get_finished_spans()[0].resource.attributes["service.name"] == "redis-agent-collector"


# --- log lines ----------------------------------------------------------------------------------------------------

LOGGING = """
import logging
from redis_agent import telemetry
from redis_agent.fleet import TelemetrySection
telemetry.configure_logging("notifier", TelemetrySection(log_format={form!r}, log_level={level!r}))
logging.getLogger("notifier.service").info("told %s", "chat\\nand more")
logging.getLogger("notifier.service").debug("details")
logging.getLogger("httpx").info("chatter")
try:
    1 / 0
except ZeroDivisionError:
    logging.getLogger("notifier.service").exception("failed")
"""


def logged(form: str, level: str = "INFO") -> list[str]:
    program = LOGGING.format(form=form, level=level)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == ""
    return done.stderr.splitlines()


def test_json_log_lines_are_one_object_each_with_the_service_and_utc() -> None:
    lines = [json.loads(line) for line in logged("json")]
    assert [(line["service"], line["level"], line["message"]) for line in lines] == [
        ("notifier", "INFO", "told chat\nand more"),
        ("notifier", "ERROR", "failed"),
    ]
    assert datetime.fromisoformat(lines[0]["at"]).tzinfo is not None
    assert lines[1]["exception"].endswith("ZeroDivisionError: division by zero")


def test_text_log_lines_name_the_service_and_heed_the_level() -> None:
    assert logged("text")[0].endswith("notifier INFO told chat")
    assert not any("details" in line for line in logged("text"))
    assert any("details" in line for line in logged("text", "DEBUG"))
    assert not any("chatter" in line for line in logged("text", "DEBUG"))


# --- metrics ------------------------------------------------------------------------------------------------------


def test_metrics_are_served_while_the_service_lives(told: Telemetry) -> None:
    (port,) = free_ports(1)
    told.deadletters.labels("redis-agent.anomalies.v1").inc()
    with telemetry.metrics_served(told, port):
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            body = answer.read().decode()
        assert 'redis_agent_deadletter_records_total{topic="redis-agent.anomalies.v1"} 1.0' in body
    with socket.socket() as again:
        again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        again.bind(("127.0.0.1", port))


def test_two_services_have_registries_of_their_own() -> None:
    first, second = (telemetry.build(service, TelemetrySection()) for service in ("collector", "notifier"))
    first.deadletters.labels("x").inc()
    assert second.registry.get_sample_value("redis_agent_deadletter_records_total", {"topic": "x"}) is None


def test_a_metrics_port_in_use_is_one_line(told: Telemetry) -> None:
    with socket.create_server(("", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigurationError) as failed, telemetry.metrics_served(told, port):
            pass
    (line,) = failed.value.faults
    assert line.startswith(f"collector: metrics port {port}: Address already in use; stop its owner or choose another")


def test_each_service_has_a_metrics_port_of_its_own() -> None:
    section = TelemetrySection(prometheus_port=9464)
    services = ("collector", "detector", "controller", "notifier", "gateway")
    assert [section.metrics_port(service) for service in services] == [9464, 9465, 9466, 9467, 9468]
    assert TelemetrySection().metrics_port("collector") is None
