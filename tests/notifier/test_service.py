"""The notifier as a process: journals and anomalies in an embedded log on one side, the vendors' fakes on the other."""

import asyncio
import signal
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import grpc
import pytest

from redis_agent import topics
from redis_agent.log import Outgoing, Writer
from redis_agent.log.embedded import EmbeddedLog
from redis_agent.model import (
    AlertEvent,
    AlertEventKind,
    Anomaly,
    AnomalyState,
    EventKind,
    FailoverEvent,
    Finding,
    FindingState,
    Severity,
    Stage,
)
from redis_agent.testing import contents
from redis_agent.testing_process import ServiceProcess, until
from redis_agent.v1 import alert_pb2, types_pb2
from redis_agent.v1 import alert_service_pb2 as pb
from redis_agent.v1 import alert_service_pb2_grpc as pb_grpc
from redis_agent.wire import anomaly_to, decode_alert_event, failover_event_to, finding_to
from simulator.pagerduty_events import Fate as PagerDutyFate
from simulator.ports import free_ports

from .conftest import (
    HOST,
    ROUTING_KEY,
    SECRET,
    Fakes,
    Notifying,
    Vendors,
    after,
    anomaly,
    event,
    finding,
    journal_of_a_failover,
)

DEADLINE = 10.0


class Journal:
    """The log as the detector and the controller write it, and as the notifier writes into it."""

    def __init__(self, log: EmbeddedLog, writer: Writer) -> None:
        self.log = log
        self._writer = writer

    async def failover(self, *events: FailoverEvent) -> None:
        """Write entries of the failover journal."""
        await self.raw(topics.FAILOVERS, *(failover_event_to(each).SerializeToString() for each in events))

    async def anomaly(self, *anomalies: Anomaly) -> None:
        """Write what the detector found."""
        await self.raw(topics.ANOMALIES, *(anomaly_to(each).SerializeToString() for each in anomalies))

    async def finding(self, *findings: Finding) -> None:
        """Write what a service found."""
        records = [Outgoing(topics.FINDINGS, str(f.key), finding_to(f).SerializeToString()) for f in findings]
        await self._writer.append(records)

    async def raw(self, topic: topics.Topic, *values: bytes) -> None:
        """Write any bytes."""
        await self._writer.append([Outgoing(topic, "orders", value) for value in values])

    async def alerts(self, kind: AlertEventKind) -> list[AlertEvent]:
        """What the notifier wrote of that kind."""
        found = [decode_alert_event(record.value) for record in await contents(self.log, topics.ALERTS)]
        return [each for each in found if each.kind is kind]

    async def until(self, kind: AlertEventKind, count: int) -> list[AlertEvent]:
        """The first so many of that kind, once they are there."""
        for _ in range(1500):
            if len(found := await self.alerts(kind)) >= count:
                return found
            await asyncio.sleep(0.02)
        raise AssertionError(f"{len(found)} of {count} {kind}")


@asynccontextmanager
async def journal_in(directory: Path) -> AsyncIterator[Journal]:
    log = EmbeddedLog(directory / "log.db")
    await log.prepare()
    try:
        yield Journal(log, await log.writer())
    finally:
        await log.close()


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Somebody else holds the log's file."""
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        holder.execute("ROLLBACK")
        holder.close()


def has(messages: Callable[[], Sequence[object]], count: int) -> Callable[[], bool]:
    def holds() -> bool:
        return len(messages()) >= count

    return holds


async def until_each_has(fakes: Vendors, count: int) -> None:
    for messages in (lambda: fakes.slack.accepted, lambda: fakes.pagerduty.events, lambda: fakes.mail.mails):
        await until(has(messages, count))


def no_secret_in(process: ServiceProcess) -> None:
    for secret in (SECRET, SECRET.rpartition("/")[2], ROUTING_KEY):
        assert secret not in process.said


def test_of_a_failover_each_receiver_hears_one_beginning_and_one_end(
    vendors: Fakes, notifying: Notifying, tmp_path: Path
) -> None:
    async def run() -> None:
        async with vendors() as fakes, journal_in(tmp_path) as journal:
            (port,) = free_ports(1)
            notifier = notifying(fakes.receivers(), port)
            await notifier.start()
            decided, *steps = journal_of_a_failover()
            await journal.failover(decided)
            await until_each_has(fakes, 1)
            await journal.failover(*steps)
            await until_each_has(fakes, 2)
            await asyncio.sleep(1)
            titles = [post["text"] for post in fakes.slack.accepted]
            assert titles == [
                "[CRITICAL] orders is being moved from dc-east to dc-west",
                "[RESOLVED] orders was moved from dc-east to dc-west",
            ]
            assert [e.fate for e in fakes.pagerduty.events] == [PagerDutyFate.OPENED, PagerDutyFate.RESOLVED]
            assert {e.dedup_key for e in fakes.pagerduty.events} == {"failover/fo-1"}
            assert [m.message["Subject"] for m in fakes.mail.mails] == titles
            assert await notifier.stop() == 0
            no_secret_in(notifier)

    asyncio.run(run())


def test_a_finding_is_told_once_with_its_route_key_however_often_it_is_renewed_and_its_end_once(
    vendors: Fakes, notifying: Notifying, tmp_path: Path
) -> None:
    async def run() -> None:
        async with vendors() as fakes, journal_in(tmp_path) as journal:
            notifier = notifying(fakes.receivers(), free_ports(1)[0])
            await notifier.start()
            await journal.finding(finding())
            await until_each_has(fakes, 1)
            for minute in range(1, 5):
                await journal.finding(finding(seconds=60 * minute))
            await journal.until(AlertEventKind.DELIVERED, 3)
            notifier.kill()
            await notifier.start()
            await journal.finding(finding(seconds=300), finding(FindingState.CLOSED, 310))
            await until_each_has(fakes, 2)
            await journal.finding(finding(since=after(400), seconds=400))  # it comes again, and is told again
            await until_each_has(fakes, 3)
            await asyncio.sleep(0.7)
            assert [m.message["Subject"] for m in fakes.mail.mails] == [
                "[WARNING] vantage dc-east says nothing any more",
                "[RESOLVED] over: vantage dc-east says nothing any more",
                "[WARNING] vantage dc-east says nothing any more",
            ]
            assert [len(fakes.slack.accepted), len(fakes.pagerduty.events)] == [3, 3]
            told = str(fakes.slack.accepted[0])
            assert "two others are heard" in told and "To do: look at the collector at dc-east" in told
            assert dict(fakes.pagerduty.events[0].body or {})["payload"]["class"] == "vantage-away"

    asyncio.run(run())


def test_the_same_events_again_tell_nobody_anything(vendors: Fakes, notifying: Notifying, tmp_path: Path) -> None:
    async def run() -> None:
        async with vendors() as fakes, journal_in(tmp_path) as journal:
            notifier = notifying(fakes.receivers(), free_ports(1)[0])
            await notifier.start()
            whole = journal_of_a_failover()
            await journal.failover(whole[0], whole[0])
            await until_each_has(fakes, 1)
            await journal.failover(*whole[1:])
            await until_each_has(fakes, 2)
            await journal.failover(*whole)
            await journal.until(AlertEventKind.DELIVERED, 6)
            notifier.kill()
            await notifier.start()
            await journal.failover(*whole)
            await asyncio.sleep(1.5)
            assert len(fakes.slack.accepted) == len(fakes.pagerduty.events) == len(fakes.mail.mails) == 2

    asyncio.run(run())


def test_killed_between_owing_and_delivering_it_delivers_after_the_restart_under_the_same_names(
    vendors: Fakes, notifying: Notifying, tmp_path: Path
) -> None:
    async def run() -> None:
        async with vendors() as fakes, journal_in(tmp_path) as journal:
            notifier = notifying(fakes.receivers(), free_ports(1)[0])
            await notifier.start()
            fakes.slack.black_hole = fakes.pagerduty.black_hole = fakes.mail.stall_greeting = True
            await journal.failover(event(EventKind.DECIDED, Stage.FENCING))
            owed = await journal.until(AlertEventKind.NOTIFY, 3)
            await asyncio.sleep(0.3)
            notifier.kill()
            await asyncio.sleep(0.2)
            fakes.slack.black_hole = fakes.pagerduty.black_hole = fakes.mail.stall_greeting = False
            assert (fakes.slack.posts, fakes.pagerduty.events, fakes.mail.mails) == ([], [], [])
            await notifier.start()
            delivered = await journal.until(AlertEventKind.DELIVERED, 3)
            assert {_name(e) for e in delivered} == {_name(e) for e in owed}
            assert len(fakes.slack.accepted) == len(fakes.pagerduty.events) == len(fakes.mail.mails) == 1
            assert fakes.pagerduty.events[0].dedup_key == "failover/fo-1"
            assert fakes.mail.mails[0].message["Message-ID"] == "<orders.1.mail.20261103120000@redis-agent>"

    asyncio.run(run())


def _name(entry: AlertEvent) -> str:
    assert entry.notification is not None
    return entry.notification.id


def test_what_cannot_be_decoded_goes_to_the_dead_letters_and_the_next_is_told(
    vendors: Fakes, notifying: Notifying, tmp_path: Path
) -> None:
    async def run() -> None:
        async with vendors() as fakes, journal_in(tmp_path) as journal:
            await (notifier := notifying(fakes.receivers(), free_ports(1)[0])).start()
            poison = (b"\xff\xff\xff", b"", b"\x08\xff\xff\xff\xff\x0f")
            await journal.raw(
                topics.FAILOVERS, *poison, failover_event_to(journal_of_a_failover()[0]).SerializeToString()
            )
            await journal.raw(topics.ANOMALIES, *poison, anomaly_to(anomaly()).SerializeToString())
            for _ in range(500):
                if len(dead := await contents(journal.log, topics.DEADLETTER)) == 6:
                    break
                await asyncio.sleep(0.02)
            assert sorted(r.value for r in dead) == sorted(poison * 2)
            assert {r.header("deadletter-topic") for r in dead} == {topics.FAILOVERS.name, topics.ANOMALIES.name}
            assert all(r.header("deadletter-reason") for r in dead)
            await until(lambda: sum(len(post["blocks"]) for post in fakes.slack.accepted) == 2)
            assert await notifier.stop() == 0

    asyncio.run(run())


def test_a_record_of_the_greatest_size_is_told_and_stops_nothing(
    vendors: Fakes, notifying: Notifying, tmp_path: Path
) -> None:
    async def run() -> None:
        async with vendors() as fakes, journal_in(tmp_path) as journal:
            await (notifier := notifying(fakes.receivers(), free_ports(1)[0])).start()
            await journal.anomaly(anomaly(explanation="x\u2028y " * 2_700_000))
            await until_each_has(fakes, 1)
            await journal.anomaly(anomaly(AnomalyState.CLOSED, 9))
            await until_each_has(fakes, 2)
            assert await notifier.stop() == 0

    asyncio.run(run())


def test_a_receiver_that_stalls_delays_nobody_else_and_hears_everything_in_order_later(
    vendors: Fakes, notifying: Notifying, tmp_path: Path
) -> None:
    async def run() -> None:
        async with vendors() as fakes, journal_in(tmp_path) as journal:
            await notifying(fakes.receivers(), free_ports(1)[0]).start()
            fakes.slack.black_hole = True
            began = time.monotonic()
            await journal.anomaly(anomaly())
            await until(has(lambda: fakes.mail.mails, 1))
            await journal.anomaly(anomaly(AnomalyState.CLOSED, 9))
            await until(has(lambda: fakes.pagerduty.events, 2))
            await until(has(lambda: fakes.mail.mails, 2))
            assert time.monotonic() - began < 5, "before the first attempt at Slack was even given up"
            assert fakes.slack.posts == []
            fakes.slack.black_hole = False
            await until(has(lambda: fakes.slack.accepted, 2))
            assert ["RESOLVED" in post["text"] for post in fakes.slack.accepted] == [False, True]

    asyncio.run(run())


def test_what_a_receiver_refuses_for_now_comes_as_late_as_it_asked_and_once(
    vendors: Fakes, notifying: Notifying, tmp_path: Path
) -> None:
    async def run() -> None:
        async with vendors() as fakes, journal_in(tmp_path) as journal:
            await notifying(fakes.receivers(), free_ports(1)[0]).start()
            fakes.slack.answer_next(429, retry_after_seconds=3)
            fakes.pagerduty.answer_next(500)
            fakes.mail.refuse_next()
            await journal.anomaly(anomaly())
            await until(has(lambda: fakes.slack.accepted, 1))
            refused, taken = fakes.slack.posts
            assert taken.at - refused.at >= 3
            assert [e.fate for e in fakes.pagerduty.events] == [PagerDutyFate.NOT_TAKEN, PagerDutyFate.OPENED]
            assert (fakes.mail.attempts, len(fakes.mail.mails)) == (2, 1)
            delivered = await journal.until(AlertEventKind.DELIVERED, 3)
            assert [(e.attempt, e.final) for e in delivered] == [(2, True)] * 3
            failed = await journal.alerts(AlertEventKind.FAILED)
            assert [(e.attempt, e.final) for e in failed] == [(1, False)] * 3
            assert {e.detail[:3] for e in failed} == {"429", "500", "451"}

    asyncio.run(run())


def test_while_the_log_is_away_nothing_is_told_twice(vendors: Fakes, notifying: Notifying, tmp_path: Path) -> None:
    async def run() -> None:
        async with vendors() as fakes, journal_in(tmp_path) as journal:
            notifier = notifying(fakes.receivers(), free_ports(1)[0])
            await notifier.start()
            fakes.slack.black_hole = True
            await journal.anomaly(anomaly())
            await until(has(lambda: fakes.mail.mails, 1))
            await journal.until(AlertEventKind.DELIVERED, 2)
            with locked(tmp_path / "log.db"):
                fakes.slack.black_hole = False  # delivered, and the log can't be told
                await until(lambda: "starting over from the log" in notifier.said, 30)
            await journal.until(AlertEventKind.DELIVERED, 3)
            await journal.anomaly(anomaly(AnomalyState.CLOSED, 9))
            await until_each_has(fakes, 2)
            await asyncio.sleep(1)
            assert len(fakes.slack.accepted) == len(fakes.pagerduty.events) == len(fakes.mail.mails) == 2

    asyncio.run(run())


def test_asked_to_stop_it_ends_in_time_even_with_a_receiver_that_never_answers(
    vendors: Fakes, notifying: Notifying, tmp_path: Path
) -> None:
    async def run() -> None:
        async with vendors() as fakes, journal_in(tmp_path) as journal:
            notifier = notifying(fakes.receivers(), free_ports(1)[0])
            await notifier.start()
            fakes.slack.black_hole = True
            await journal.anomaly(anomaly())
            await journal.until(AlertEventKind.DELIVERED, 2)
            began = time.monotonic()
            assert await notifier.stop() == 0
            assert time.monotonic() - began < 5
            fakes.slack.black_hole = False
            await notifier.start()
            await until(has(lambda: fakes.slack.accepted, 1))
            assert len(fakes.mail.mails) == 1

    asyncio.run(run())


def test_an_attempt_on_its_way_when_asked_to_stop_is_finished_and_kept(
    vendors: Fakes, notifying: Notifying, tmp_path: Path
) -> None:
    async def run() -> None:
        async with vendors() as fakes, journal_in(tmp_path) as journal:
            notifier = notifying(fakes.receivers(), free_ports(1)[0])
            await notifier.start()
            fakes.slack.black_hole = True
            await journal.anomaly(anomaly())
            await journal.until(AlertEventKind.DELIVERED, 2)
            notifier.signal(signal.SIGTERM)
            await asyncio.sleep(0.3)
            fakes.slack.black_hole = False
            assert await notifier.ended() == 0
            assert len(fakes.slack.accepted) == 1
            assert len(await journal.alerts(AlertEventKind.DELIVERED)) == 3
            await notifier.start()
            await asyncio.sleep(1)
            assert len(fakes.slack.accepted) == 1

    asyncio.run(run())


def test_no_secret_is_ever_said_not_even_when_it_says_everything(
    vendors: Fakes, notifying: Notifying, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDIS_AGENT__TELEMETRY__LOG_LEVEL", "DEBUG")

    async def run() -> None:
        async with vendors() as fakes, journal_in(tmp_path) as journal:
            notifier = notifying(fakes.receivers(), free_ports(1)[0])
            await notifier.start()
            for status in (429, 500, 400):
                fakes.slack.answer_next(status)
                fakes.pagerduty.answer_next(status)
            await journal.anomaly(anomaly())
            await until(lambda: len(fakes.slack.posts) >= 2 and len(fakes.pagerduty.events) >= 2)
            await fakes.slack.stop()
            await asyncio.sleep(1)
            assert await notifier.stop() == 0
            no_secret_in(notifier)
            assert "DEBUG" in notifier.said

    asyncio.run(run())


# --- gRPC


@asynccontextmanager
async def asking(port: int) -> AsyncIterator["pb_grpc.AlertServiceAsyncStub"]:
    async with grpc.aio.insecure_channel(f"{HOST}:{port}") as opened:
        yield pb_grpc.AlertServiceStub(opened)


def test_the_alerts_are_listed_newest_first_with_what_became_of_telling_them(
    vendors: Fakes, notifying: Notifying, tmp_path: Path
) -> None:
    async def run() -> None:
        async with vendors() as fakes, journal_in(tmp_path) as journal:
            (port,) = free_ports(1)
            notifier = notifying(fakes.receivers(), port)
            await notifier.start()
            fakes.mail.refused_recipients.add("oncall@example.test")
            found = [anomaly(id=f"a-{n}", seconds=n, severity=s) for n, s in enumerate(Severity)]
            await journal.anomaly(*found)
            await journal.failover(event(EventKind.DECIDED, Stage.FENCING, 60))
            await journal.until(AlertEventKind.DELIVERED, 2)
            await journal.until(AlertEventKind.FAILED, 1)
            notifier.kill()
            await notifier.start()
            async with asking(port) as stub:
                listed = await stub.ListAlerts(pb.ListAlertsRequest(), timeout=DEADLINE)
                newest_first = ["failover/fo-1", "anomaly/a-3", "anomaly/a-2", "anomaly/a-1", "anomaly/a-0"]
                assert [h.alert.id for h in listed.alerts] == newest_first
                told = {(d.notification.receiver, d.kind) for d in listed.alerts[0].deliveries}
                owed, done, failed = (
                    alert_pb2.ALERT_EVENT_KIND_NOTIFY,
                    alert_pb2.ALERT_EVENT_KIND_DELIVERED,
                    alert_pb2.ALERT_EVENT_KIND_FAILED,
                )
                assert told >= {(name, owed) for name in ("chat", "pager", "mail")}
                assert told >= {("chat", done), ("pager", done), ("mail", failed)}
                assert any("550" in d.detail and d.final for d in listed.alerts[0].deliveries)

                grave = pb.ListAlertsRequest(severity=types_pb2.SEVERITY_ERROR)
                assert await ids(stub, grave) == ["anomaly/a-2"]
                moves = pb.ListAlertsRequest(kind=alert_pb2.ALERT_KIND_FAILOVER)
                assert await ids(stub, moves) == ["failover/fo-1"]
                neither = pb.ListAlertsRequest(severity=types_pb2.SEVERITY_INFO, kind=alert_pb2.ALERT_KIND_FAILOVER)
                assert await ids(stub, neither) == []

                paged: list[str] = []
                token = ""
                while True:
                    page = await stub.ListAlerts(pb.ListAlertsRequest(page_size=2, page_token=token), timeout=DEADLINE)
                    assert len(page.alerts) <= 2
                    paged += [h.alert.id for h in page.alerts]
                    token = page.next_page_token
                    if not token:
                        break
                assert paged == newest_first

    asyncio.run(run())


async def ids(stub: "pb_grpc.AlertServiceAsyncStub", request: pb.ListAlertsRequest) -> list[str]:
    return [history.alert.id for history in (await stub.ListAlerts(request, timeout=DEADLINE)).alerts]


@pytest.mark.parametrize(
    "request_",
    [
        pb.ListAlertsRequest(page_token="-5"),
        pb.ListAlertsRequest(page_token="later"),
        pb.ListAlertsRequest(page_token="²"),
        pb.ListAlertsRequest(severity=77),  # type: ignore[arg-type]
    ],
    ids=["negative", "word", "superscript", "severity"],
)
def test_a_question_that_makes_no_sense_is_refused(
    vendors: Fakes, notifying: Notifying, tmp_path: Path, request_: pb.ListAlertsRequest
) -> None:
    async def run() -> None:
        async with vendors() as fakes, journal_in(tmp_path):
            (port,) = free_ports(1)
            await notifying(fakes.receivers(), port).start()
            async with asking(port) as stub:
                with pytest.raises(grpc.aio.AioRpcError) as fault:
                    await stub.ListAlerts(request_, timeout=DEADLINE)
                assert fault.value.code() is grpc.StatusCode.INVALID_ARGUMENT

    asyncio.run(run())


def test_before_it_has_read_its_log_it_says_so_and_gives_no_empty_list(
    vendors: Fakes, notifying: Notifying, tmp_path: Path
) -> None:
    async def run() -> None:
        async with vendors() as fakes, journal_in(tmp_path):
            (port,) = free_ports(1)
            notifier = notifying(fakes.receivers(), port)
            with locked(tmp_path / "log.db"):
                notifier.begin()
                async with asking(port) as stub:
                    with pytest.raises(grpc.aio.AioRpcError) as fault:
                        await stub.ListAlerts(pb.ListAlertsRequest(), timeout=DEADLINE, wait_for_ready=True)
                    assert fault.value.code() is grpc.StatusCode.UNAVAILABLE
                    assert "not read the alert log" in (fault.value.details() or "")
            await until(lambda: " ready\n" in notifier.said)
            async with asking(port) as stub:
                assert await ids(stub, pb.ListAlertsRequest()) == []

    asyncio.run(run())
