"""Log lines, traces that cross the topics, and the registry behind `/metrics`. Built once in a service's main, passed on.

A record's `traceparent` header is the context of the span that wrote it. Whoever acts on one record makes its span a child
of it; whoever acts on many links to each.
"""

import json
import logging
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.trace import Link, Span, SpanKind, Tracer, get_current_span, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from prometheus_client import CollectorRegistry, Counter, start_http_server

from redis_agent.errors import ConfigurationError
from redis_agent.fleet import TelemetrySection
from redis_agent.log import Delivered, Headers
from redis_agent.model import Origin
from redis_agent.topics import Topic

_CLOSE_SECONDS = 1.5
_PROPAGATOR = TraceContextTextMapPropagator()


@dataclass(frozen=True, slots=True)
class Telemetry:
    """What a service tells about itself."""

    service: str
    tracer: Tracer
    provider: TracerProvider
    registry: CollectorRegistry
    deadletters: Counter

    def close(self) -> None:
        """Hand the last spans over, for so long and no longer: OTLP's own time-outs don't bound its flush."""
        closing = threading.Thread(target=self.provider.shutdown, name="telemetry-close", daemon=True)
        closing.start()
        closing.join(_CLOSE_SECONDS)


def build(service: str, section: TelemetrySection, processors: Sequence[SpanProcessor] = ()) -> Telemetry:
    """Tracer and registry of a service. Spans go to `processors`, and to OTLP when configured."""
    provider = TracerProvider(
        resource=Resource.create({"service.name": f"redis-agent-{service}"}), shutdown_on_exit=False
    )
    for processor in processors:
        provider.add_span_processor(processor)
    if section.otlp_endpoint is not None:
        provider.add_span_processor(_otlp(section.otlp_endpoint))
    registry = CollectorRegistry()
    deadletters = Counter(
        "redis_agent_deadletter_records", "Records that could not be decoded", ["topic"], registry=registry
    )
    return Telemetry(service, provider.get_tracer("redis-agent"), provider, registry, deadletters)


def _otlp(endpoint: str) -> SpanProcessor:
    # Imported here: the exporter costs 15 MB that a service without it shouldn't pay.
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    return BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint, insecure=endpoint.startswith("http://")))


@contextmanager
def metrics_served(telemetry: Telemetry, port: int | None) -> Iterator[None]:
    """Answer `/metrics` on that port meanwhile, on a thread of its own. Raises ConfigurationError when it is taken."""
    if port is None:
        yield
        return
    try:
        server, thread = start_http_server(port, registry=telemetry.registry)
    except OSError as fault:
        right = "stop its owner or choose another with telemetry.prometheus_port (each service takes one more than the last)"
        raise ConfigurationError([f"{telemetry.service}: metrics port {port}: {fault.strerror}; {right}"]) from None
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


# --- what crosses the topics ------------------------------------------------------------------------------------


def headers(topic: Topic, origin: Origin, span: Span | None = None) -> Headers:
    """The headers that every record carries: schema, identity and trace context (the current span's by default)."""
    carrier: dict[str, str] = {}
    context = set_span_in_context(span if span is not None else get_current_span())
    _PROPAGATOR.inject(carrier, context)
    pairs = {"schema": topic.schema, "source": origin.source, "sequence": str(origin.sequence), **carrier}
    return tuple((name, value.encode()) for name, value in pairs.items())


def context_of(traceparent: str | None) -> Context | None:
    """The trace context of a record's `traceparent`, or None when it has none."""
    if not traceparent:
        return None
    return _PROPAGATOR.extract({"traceparent": traceparent})


def traceparent_of(span: Span) -> str:
    """A span's context as a header's value; empty when the span isn't recorded anywhere."""
    carrier: dict[str, str] = {}
    _PROPAGATOR.inject(carrier, set_span_in_context(span))
    return carrier.get("traceparent", "")


def links_to(traceparents: Iterable[str | None]) -> list[Link]:
    """A link to each context that is there, once."""
    found: dict[int, Link] = {}
    for traceparent in traceparents:
        context = context_of(traceparent)
        if context is not None:
            span_context = get_current_span(context).get_span_context()
            if span_context.is_valid:
                found[span_context.span_id] = Link(span_context)
    return list(found.values())


def process_span(tracer: Tracer, record: Delivered) -> Span:
    """The span of working on one record: a CONSUMER child of the span that wrote it."""
    return tracer.start_span(
        f"process {record.topic}",
        context=context_of(record.header("traceparent")) or Context(),
        kind=SpanKind.CONSUMER,
        attributes={
            "messaging.system": "redis-agent",
            "messaging.operation.name": "process",
            "messaging.operation.type": "process",
            "messaging.destination.name": record.topic,
            "messaging.destination.partition.id": str(record.partition),
            "messaging.kafka.offset": record.offset,
        },
    )


# --- log lines --------------------------------------------------------------------------------------------------


class _JsonLines(logging.Formatter):
    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "service": self._service,
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line)


def configure_logging(service: str, section: TelemetrySection) -> None:
    """Log lines of this process to stderr, as text or as one JSON object a line."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        _JsonLines(service)
        if section.log_format == "json"
        else logging.Formatter(f"%(asctime)s {service} %(levelname)s %(message)s")
    )
    logging.basicConfig(level=section.log_level, handlers=[handler], force=True)
    for chatty in ("botocore", "boto3", "urllib3", "httpx", "httpcore", "aiosmtplib"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
