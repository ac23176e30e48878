"""A log that is away says so within its patience; when it is back, all goes on, and nothing acknowledged is lost or doubled."""

import asyncio
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager, suppress

import pytest
from confluent_kafka import KafkaError, KafkaException

from redis_agent.errors import LogUnavailable, Rebalanced
from redis_agent.log import Log, Outgoing, Start
from redis_agent.log.kafka import KafkaLog
from redis_agent.log.kafka_client import KafkaSettings
from redis_agent.log.kafka_sender import aside
from redis_agent.testing import Bench, Starter, contents, not_once, read_until, relay, relay_all, until_available
from redis_agent.topics import Topic
from simulator.kafka_broker import KafkaCluster

pytestmark = pytest.mark.long

SLACK_SECONDS = 3.0


async def away(bench: Bench, call: Awaitable[object]) -> None:
    """Raises LogUnavailable, and not long after the patience is over."""
    begun = time.monotonic()
    with pytest.raises(LogUnavailable):
        await call
    assert time.monotonic() - begun < bench.patience_seconds + SLACK_SECONDS


async def more(told: list[int], count: int) -> None:
    """Return when so many more numbers were acknowledged."""
    target = len(told) + count
    deadline = time.monotonic() + 60
    while len(told) < target and time.monotonic() < deadline:  # noqa: ASYNC110
        await asyncio.sleep(0.02)
    assert len(told) >= target, "the log did not come back"


def test_each_call_says_within_the_patience_that_the_log_is_away_and_works_when_it_is_back(bench: Bench) -> None:
    async def go() -> None:
        source, sink = await bench.topics(2, partitions=1)
        log = bench.open()
        plain, named = await log.writer(), await log.writer("named " + source.name)
        await plain.append([Outgoing(source, "key", b"in")])
        member = await log.member(source.name, [source], Start.BEGINNING, "member " + source.name)
        assert len(await read_until(member, 1)) == 1
        with bench.cut():
            await asyncio.gather(
                away(bench, plain.append([Outgoing(sink, "key", b"plain")])),
                away(bench, named.append([Outgoing(sink, "key", b"named")])),
                away(bench, member.commit([Outgoing(sink, "key", b"member")])),
                away(bench, log.writer("other " + source.name)),
                away(bench, log.member(source.name + "2", [source], Start.NOW, "other member " + source.name)),
                away(bench, bench.open().prepare()),
            )
        if records := await read_until(member, 1, 12.0):
            assert [record.value for record in records] == [b"in"]
            await member.commit([Outgoing(sink, "key", b"member")])
        await until_available(lambda: named.append([Outgoing(sink, "key", b"named again")]))
        await until_available(lambda: plain.append([Outgoing(sink, "key", b"plain again")]))
        held = Counter(record.value for record in await contents(log, sink))
        assert held[b"member"] == held[b"named again"] == held[b"plain again"] == 1
        assert held[b"plain"] <= 1  # it was not acknowledged
        assert held[b"named"] <= 1
        await log.close()

    asyncio.run(go())


def test_a_member_that_waits_says_that_the_log_is_away_and_reads_on_when_it_is_back(bench: Bench) -> None:
    async def go() -> None:
        [source] = await bench.topics(partitions=1)
        log = bench.open()
        writer = await log.writer()
        member = await log.member(source.name, [source], Start.BEGINNING, "member " + source.name)
        await writer.append([Outgoing(source, "key", b"0")])
        assert [record.value for record in await read_until(member, 1)] == [b"0"]
        await member.commit()
        with bench.cut(), pytest.raises(LogUnavailable):
            for _ in range(20):
                assert await member.read(10, 0.5) == []
        await until_available(lambda: writer.append([Outgoing(source, "key", b"1")]))
        deadline = time.monotonic() + 30
        found: list[bytes] = []
        while not found and time.monotonic() < deadline:
            with suppress(LogUnavailable):
                found = [record.value for record in await member.read(10, 0.5)]
        assert found == [b"1"]
        await log.close()

    asyncio.run(go())


def test_a_cursor_that_waits_on_brokers_that_stand_still_says_so(kafka_only: Bench) -> None:
    async def go() -> None:
        [source] = await kafka_only.topics()
        log = kafka_only.open()
        cursor = await log.cursor([source], Start.BEGINNING)
        with kafka_only.cut():
            await away(kafka_only, cursor.read(10, 30.0))
            await away(kafka_only, log.cursor([source], Start.BEGINNING))
        await log.close()

    asyncio.run(go())


@asynccontextmanager
async def busy(log: Log, source: Topic, sink: Topic) -> AsyncIterator[list[int]]:
    """A writer that appends numbers and a member that copies them, both going on after what is transient.

    Gives the numbers that were acknowledged so far.
    """
    told: list[int] = []

    async def write(name: str | None) -> None:
        writer = await until_available(lambda: log.writer(name))
        number = 0
        while True:
            number += 1
            with suppress(LogUnavailable):
                await writer.append([Outgoing(source, f"key-{number % 5}", f"{name} {number}".encode())])
                told.append(number)
            await asyncio.sleep(0.02)

    member = await until_available(lambda: log.member(source.name, [source], Start.BEGINNING, source.name))
    writing = asyncio.create_task(write("writer " + source.name))
    copying = asyncio.create_task(relay(member, sink, lambda _: False))
    yield told
    for task in (writing, copying):
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
    with suppress(LogUnavailable, Rebalanced):
        await member.read(1, 0.0)
    await member.close()


async def nothing_lost(log: Log, source: Topic, sink: Topic, told: list[int]) -> None:
    values = Counter(int(record.value.split()[-1]) for record in await contents(log, source))
    assert [number for number in told if values[number] != 1] == []
    await relay_all(log, source.name, source.name, source, sink)
    assert await not_once(log, source, sink) == {}


def test_a_busy_log_that_goes_away_again_and_again_loses_and_doubles_nothing(bench: Bench) -> None:
    async def go() -> None:
        source, sink = await bench.topics(2, partitions=2)
        log = bench.open()
        if isinstance(log, KafkaLog):  # the more often it gives up, the better
            log = KafkaLog(KafkaSettings(bench.address.split(":", 1)[1], patience_seconds=1.0))
            bench.opened.append(log)
        async with busy(log, source, sink) as told:
            for pause in (0.9, 0.31, 0.73, 0.17):
                await more(told, 10)
                with bench.cut():
                    await asyncio.sleep(1.2 + pause)
            await more(told, 10)
        await nothing_lost(log, source, sink, told)
        await log.close()

    asyncio.run(go())


def test_a_broker_that_is_killed_and_started_again_loses_and_doubles_nothing(
    kafka_only: Bench, kafka: KafkaCluster
) -> None:
    async def go() -> None:
        source, sink = await kafka_only.topics(2, partitions=2)
        log = kafka_only.open()
        async with busy(log, source, sink) as told:
            await more(told, 20)
            kafka.kill(1)
            await asyncio.sleep(3.0)
            await asyncio.to_thread(kafka.start)
            await more(told, 20)
        await nothing_lost(log, source, sink, told)
        await log.close()

    asyncio.run(go())


def test_a_named_writer_works_again_after_a_transaction_that_never_reached_the_broker(
    kafka_only: Bench, kafka: KafkaCluster
) -> None:
    async def go() -> None:
        [topic] = await kafka_only.topics()
        log = kafka_only.open()
        writer = await log.writer("writer " + topic.name)
        await writer.append([Outgoing(topic, "key", b"before")])
        # Stopped, not killed: of a topic this young, a single broker that is killed may keep nothing at all.
        kafka.stop_node(1)
        await away(kafka_only, writer.append([Outgoing(topic, "key", b"lost")]))
        await asyncio.to_thread(kafka.start)
        await until_available(lambda: writer.append([Outgoing(topic, "key", b"after")]))
        assert [record.value for record in await contents(log, topic)] == [b"before", b"after"]
        await log.close()

    asyncio.run(go())


def test_a_call_that_does_not_come_back_is_left_behind() -> None:
    forever = threading.Event()
    assert aside(lambda _: None, 0.1, 5.0)
    assert not aside(lambda _: forever.wait(), 0.1, 0.1)
    forever.set()
    refused = KafkaException(KafkaError(KafkaError._FENCED))

    def refuse(_seconds: float) -> None:
        raise refused

    with pytest.raises(KafkaException):
        aside(refuse, 0.1, 5.0)


def test_clients_say_nothing_on_stderr_by_themselves(start: Starter) -> None:
    child = start("knock", "kafka-classic:127.0.0.1:9")
    out, err = child.communicate(timeout=60)
    assert out.split() == ["LogUnavailable"] * 4
    assert err == ""
    assert child.returncode == 0
