"""One trace from the observation of the fault to the message on somebody's phone.

Three collectors, the controller and the notifier run on this test's own loop, around a real world of Redis servers, and
write their spans to one exporter. Another test sends a real process's spans by OTLP.
"""

import asyncio
import json
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanContext

import collector.__main__
import controller.__main__
import notifier.__main__
from redis_agent import telemetry, topics
from redis_agent.fleet_file import load
from redis_agent.log import Delivered
from redis_agent.log.opening import log_of
from redis_agent.model import EventKind, FailoverEvent
from redis_agent.process import Main, Runtime
from redis_agent.testing import contents
from redis_agent.topics import TopicName
from redis_agent.wire import decode_failover_event
from simulator.ports import free_ports
from simulator.world import EAST, VANTAGES, Terms, World

STEPS = [
    "fence the source",
    "promote the target",
    "change the DNS record",
    "ask the authoritative servers",
    "write through the name",
]
FAILOVERS = "process redis-agent.failovers.v1"


class Spans:
    """Every finished span, by what a test asks of them."""

    def __init__(self, spans: tuple[ReadableSpan, ...]) -> None:
        self.all = spans
        self._by_id = {context_of(span).span_id: span for span in spans}

    def named(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.all if span.name == name]

    def parent(self, span: ReadableSpan) -> ReadableSpan | None:
        return self._by_id.get(span.parent.span_id) if span.parent is not None else None

    def linked(self, span: ReadableSpan) -> list[ReadableSpan]:
        return [self._by_id[link.context.span_id] for link in span.links]

    def written_by(self, record: Delivered) -> ReadableSpan:
        """The span in the record's traceparent."""
        _, trace, span, _ = (record.header("traceparent") or "").split("-")
        found = self._by_id[int(span, 16)]
        assert trace_of(found) == int(trace, 16)
        return found


def context_of(span: ReadableSpan) -> SpanContext:
    context = span.get_span_context()
    assert context is not None
    return context


def trace_of(span: ReadableSpan) -> int:
    return context_of(span).trace_id


def of(span: ReadableSpan, key: str) -> object:
    return (span.attributes or {}).get(f"redis_agent.{key}")


@dataclass(frozen=True)
class Story:
    """What came of the datacenter's loss."""

    spans: Spans
    records: dict[TopicName, list[Delivered]]

    @property
    def events(self) -> list[FailoverEvent]:
        return [decode_failover_event(record.value) for record in self.records[topics.FAILOVERS.name]]

    def record_of(self, kind: EventKind) -> Delivered:
        found = zip(self.records[topics.FAILOVERS.name], self.events, strict=True)
        return next(record for record, event in found if event.kind is kind)


class Kept(SimpleSpanProcessor):
    """Several services write to one exporter: the first of them to end must not close it."""

    def shutdown(self) -> None:
        pass


@asynccontextmanager
async def living(service: str, main: Main, path: Path, exporter: InMemorySpanExporter) -> AsyncIterator[None]:
    fleet = load(path, {})
    tracing = telemetry.build(service, fleet.telemetry, processors=[Kept(exporter)])
    task = asyncio.ensure_future(main(Runtime(service, fleet, tracing)))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})


async def until(what: Callable[[], Awaitable[bool]], within_seconds: float = 90.0) -> None:
    async with asyncio.timeout(within_seconds):
        while not await what():  # noqa: ASYNC110 - other processes' doings
            await asyncio.sleep(0.2)


async def lose_a_datacenter(directory: Path) -> Story:
    exporter = InMemorySpanExporter()
    world = World(directory, Terms(prometheus=False, confirm=2.0))
    await world.start()
    try:
        paths = {viewer: world.write_configuration(viewer) for viewer in (*VANTAGES, "controller")}
        log = log_of(load(paths["controller"], {}).log)
        await log.prepare()

        async def kinds() -> list[EventKind]:
            return [decode_failover_event(record.value).kind for record in await contents(log, topics.FAILOVERS)]

        witness, east, west = (living("collector", collector.__main__.main, paths[v], exporter) for v in VANTAGES)
        acting = living("controller", controller.__main__.main, paths["controller"], exporter)
        story_log = living("notifier", notifier.__main__.main, paths["controller"], exporter)
        async with story_log, acting, witness, east, west:
            await until(lambda: _looked_at(exporter))
            await asyncio.sleep(3)
            await world.lose(EAST)
            await until(lambda: _holds(kinds, EventKind.ENDED))
            await until(lambda: _told_twice(world))
        records = {topic.name: await contents(log, topic) for topic in topics.ALL}
        await log.close()
    finally:
        await world.stop()
    return Story(Spans(exporter.get_finished_spans()), records)


async def _looked_at(exporter: InMemorySpanExporter) -> bool:
    spans = [span for span in exporter.get_finished_spans() if span.name == "observe" and of(span, "observations")]
    return {of(span, "vantage") for span in spans} == set(VANTAGES)


async def _holds(kinds: Callable[[], Awaitable[list[EventKind]]], kind: EventKind) -> bool:
    return kind in await kinds()


async def _told_twice(world: World) -> bool:
    return min(len(world.slack.accepted), len(world.pagerduty.events), len(world.mail.mails)) >= 2


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Story:
    return asyncio.run(lose_a_datacenter(tmp_path_factory.mktemp("world")))


def decision(story: Story) -> ReadableSpan:
    (span,) = story.spans.named("decide failover")
    return span


def first_seen(story: Story) -> dict[str, ReadableSpan]:
    """By vantage the observation with which it said first that dc-east is down."""
    found: dict[str, ReadableSpan] = {}
    for span in sorted(story.spans.named("observe"), key=lambda span: span.end_time or 0):
        if f"orders/{EAST}" in str(of(span, "down")):
            found.setdefault(str(of(span, "vantage")), span)
    return found


def test_the_decision_is_a_child_of_the_observation_that_first_told_the_fault(story: Story) -> None:
    seen = story.spans.parent(decision(story))
    assert seen is not None and seen.name == "observe"
    assert f"orders/{EAST}" in str(of(seen, "down"))
    # The vantage in the lost datacenter sees nothing any more; it is no witness. Which of two that saw it within the same
    # second came first is for the controller to say: it reckons by its own clock.
    assert seen in [first_seen(story)[vantage] for vantage in ("dc-west", "witness")]
    assert trace_of(seen) == trace_of(decision(story))
    assert seen.parent is None


def test_the_decision_links_to_the_other_vantages_observation(story: Story) -> None:
    parent = story.spans.parent(decision(story))
    witnesses = [first_seen(story)[vantage] for vantage in ("dc-west", "witness")]
    assert story.spans.linked(decision(story)) == [span for span in witnesses if span is not parent]


@pytest.mark.parametrize("step", STEPS)
def test_every_step_is_a_child_of_the_decision(story: Story, step: str) -> None:
    spans = story.spans.named(step)
    assert spans
    assert all(story.spans.parent(span) is decision(story) for span in spans)
    assert all(of(span, "failover") == of(decision(story), "failover") for span in spans)


def test_each_dns_call_is_told_with_what_came_of_it(story: Story) -> None:
    change = story.spans.named("change the DNS record")[-1]
    assert of(change, "effect") == "seen" and "dc-west" in str(of(change, "detail"))


def test_every_entry_of_the_journal_is_written_within_the_trace(story: Story) -> None:
    assert len(story.events) >= 2 + 2 * len(STEPS) - 1
    for record, event in zip(story.records[topics.FAILOVERS.name], story.events, strict=True):
        span = story.spans.written_by(record)
        if event.kind is EventKind.DECIDED:
            assert span is decision(story)
        else:
            assert span.name == f"journal {event.kind.value}"
            assert story.spans.parent(span) is decision(story)


def test_the_notifiers_work_on_the_decision_is_a_child_of_it(story: Story) -> None:
    children = [span for span in story.spans.named(FAILOVERS) if story.spans.parent(span) is decision(story)]
    assert len(children) == 1
    assert children[0].kind.name == "CONSUMER"


@pytest.mark.parametrize("receiver", ["chat", "pager", "mail"])
def test_each_message_to_people_is_in_the_same_trace(story: Story, receiver: str) -> None:
    spans = story.spans.named(f"notify {receiver}")
    assert len(spans) == 2  # of the move, and of its end
    assert {of(span, "fate") for span in spans} == {"delivered"}
    assert {trace_of(span) for span in spans} == {trace_of(decision(story))}
    parents = [story.spans.parent(span) for span in spans]
    assert [parent.name for parent in parents if parent is not None] == [FAILOVERS, FAILOVERS]


def test_the_services_name_themselves_in_one_trace(story: Story) -> None:
    whole = [span for span in story.spans.all if trace_of(span) == trace_of(decision(story))]
    assert {span.resource.attributes["service.name"] for span in whole} == {
        "redis-agent-collector",
        "redis-agent-controller",
        "redis-agent-notifier",
    }
    assert all(span.end_time is not None and span.parent is not None for span in whole if span.name != "observe")


@pytest.mark.parametrize(
    "topic",
    [topics.METRICS, topics.OBSERVATIONS, topics.FAILOVERS, topics.ALERTS],
    ids=lambda t: t.name,
)
def test_every_record_says_its_schema_its_identity_and_its_trace(story: Story, topic: topics.Topic) -> None:
    records = story.records[topic.name]
    assert records
    identities = [(record.header("source"), record.header("sequence")) for record in records]
    assert len(set(identities)) == len(records)
    for record in records:
        assert [name for name, _ in record.headers] == ["schema", "source", "sequence", "traceparent"]
        assert record.header("schema") == topic.schema
        assert (record.header("sequence") or "").isdigit()
        story.spans.written_by(record)


# --- OTLP ---------------------------------------------------------------------------------------------------------


class Receiver(trace_service_pb2_grpc.TraceServiceServicer):
    """An OTLP endpoint that keeps the names of what it is sent, and takes its time: who doesn't wait is gone before."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.services: set[str] = set()

    def Export(
        self, request: trace_service_pb2.ExportTraceServiceRequest, context: object
    ) -> trace_service_pb2.ExportTraceServiceResponse:
        time.sleep(0.6)
        for resource in request.resource_spans:
            self.services |= {a.value.string_value for a in resource.resource.attributes if a.key == "service.name"}
            self.names += [span.name for scope in resource.scope_spans for span in scope.spans]
        return trace_service_pb2.ExportTraceServiceResponse()


@pytest.fixture
def receiver() -> Iterator[tuple[Receiver, str]]:
    servicer = Receiver()
    server = grpc.server(ThreadPoolExecutor(2))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(servicer, server)  # type: ignore[no-untyped-call]
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield servicer, f"http://127.0.0.1:{port}"
    server.stop(0).wait()


def test_a_real_process_hands_its_spans_over_by_otlp_the_last_ones_at_its_end(
    receiver: tuple[Receiver, str], tmp_path: Path
) -> None:
    received, endpoint = receiver
    redis, port = free_ports(2)
    site = {"datacenter": "dc-east", "url": f"redis://127.0.0.1:{redis}", "dns_value": "east.example.com."}
    fleet = {
        "log": {"embedded": {"path": str(tmp_path / "log.db")}},
        "datacenters": [{"name": "dc-east"}],
        "instances": [{"id": "orders", "sites": [site]}],
        "collector": {"vantage": "dc-east"},
        "grpc": {"ports": {"collector": port}},
        "telemetry": {"otlp_endpoint": endpoint},
    }
    path = tmp_path / "fleet.json"
    path.write_text(json.dumps(fleet))
    child = subprocess.Popen(
        [sys.executable, "-m", "collector", "--config", str(path)], stderr=subprocess.PIPE, text=True
    )
    try:
        deadline = time.monotonic() + 60
        while "observe" not in received.names and time.monotonic() < deadline:
            time.sleep(0.1)
        assert received.services == {"redis-agent-collector"}
        time.sleep(2.5)  # the exporter sends every five seconds: what it holds now it sends at the end
        before = len(received.names)
        child.send_signal(signal.SIGTERM)
        assert child.wait(30) == 0
    finally:
        child.kill()
        _, said = child.communicate()
    assert len(received.names) > before, said
    written = asyncio.run(_observations(path))
    assert received.names.count("observe") == written
    assert "Traceback" not in said


async def _observations(path: Path) -> int:
    log = log_of(load(path, {}).log)
    try:
        return len(await contents(log, topics.OBSERVATIONS))
    finally:
        await log.close()
