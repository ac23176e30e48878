"""A transaction that gets no answer at any of its steps ends as the brokers say: done once, or not done and read again."""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from types import FrameType
from typing import Any

import pytest

from redis_agent.errors import LogUnavailable, Rebalanced
from redis_agent.log import Outgoing, Start
from redis_agent.log.kafka import KafkaLog
from redis_agent.log.kafka_client import KafkaSettings
from redis_agent.testing import Bench, contents, copies, not_once, read_until, relay, until_available
from simulator.kafka_broker import KafkaCluster

pytestmark = pytest.mark.long

Arm = Callable[[str], None]


@pytest.fixture
def arm(kafka: KafkaCluster) -> Iterator[Arm]:
    """Freezes the broker just before librdkafka's next call of that name, on threads that begin from now on."""
    waiting: list[str] = []

    def watch(_frame: FrameType, event: str, called: Any) -> None:
        if event == "c_call" and called.__name__ in waiting:
            waiting.remove(called.__name__)
            time.sleep(0.3)  # what was sent before is answered: it is this very call that gets no answer
            kafka.freeze(1)

    threading.setprofile(watch)
    yield waiting.append
    threading.setprofile(None)
    kafka.thaw(1)


def impatient(bench: Bench) -> KafkaLog:
    log = KafkaLog(KafkaSettings(bench.address.split(":", 1)[1], patience_seconds=1.5))
    bench.opened.append(log)
    return log


async def unanswered(call: Awaitable[object], kafka: KafkaCluster, frozen_seconds: float) -> None:
    """The call finds the log away; the broker stays frozen for a while and then goes on."""
    with pytest.raises(LogUnavailable):
        await call
    await asyncio.sleep(frozen_seconds)
    kafka.thaw(1)


@pytest.mark.parametrize(
    ("step", "frozen_seconds"),
    [("produce", 3.5), ("send_offsets_to_transaction", 0.0), ("commit_transaction", 0.0), ("commit_transaction", 3.5)],
)
def test_a_commit_that_got_no_answer_at_a_step_counts_once(
    kafka_only: Bench, kafka: KafkaCluster, arm: Arm, step: str, frozen_seconds: float
) -> None:
    async def go() -> None:
        source, sink = await kafka_only.topics(2, partitions=1)
        log = impatient(kafka_only)
        writer = await until_available(lambda: log.writer())
        await until_available(lambda: writer.append([Outgoing(source, "key", b"%d" % n) for n in range(5)]))
        member = await until_available(lambda: log.member(source.name, [source], Start.BEGINNING, source.name))
        first = await read_until(member, 2)
        await member.commit(copies(first, sink))
        second = await read_until(member, 2)
        arm(step)
        await unanswered(member.commit(copies(second, sink)), kafka, frozen_seconds)
        [record] = await until_available(lambda: read_until(member, 1))
        done = step == "commit_transaction"  # the broker heard it, and only its answer was late
        assert record.offset == (second[-1].offset + 1 if done else second[0].offset)
        await member.rewind()
        await relay(member, sink, lambda copied: copied >= (1 if done else 3))
        assert await member.read(1, 0.3) == []
        assert await not_once(log, source, sink) == {}
        await log.close()

    asyncio.run(go())


def test_a_commit_after_one_without_an_answer_must_read_first(kafka_only: Bench, kafka: KafkaCluster, arm: Arm) -> None:
    async def go() -> None:
        source, sink = await kafka_only.topics(2, partitions=1)
        log = impatient(kafka_only)
        writer = await until_available(lambda: log.writer())
        await until_available(lambda: writer.append([Outgoing(source, "key", b"0")]))
        member = await until_available(lambda: log.member(source.name, [source], Start.BEGINNING, source.name))
        outputs = copies(await read_until(member, 1), sink)
        arm("commit_transaction")
        await unanswered(member.commit(outputs), kafka, 0.0)
        with pytest.raises(Rebalanced):
            await until_available(lambda: member.commit(outputs))
        with suppress(LogUnavailable):
            assert await member.read(1, 0.5) == []
        assert await not_once(log, source, sink) == {}
        await log.close()

    asyncio.run(go())


@pytest.mark.parametrize("step", ["produce", "commit_transaction"])
def test_a_named_writer_goes_on_after_an_append_without_an_answer(
    kafka_only: Bench, kafka: KafkaCluster, arm: Arm, step: str
) -> None:
    async def go() -> None:
        [topic] = await kafka_only.topics()
        log = impatient(kafka_only)
        writer = await until_available(lambda: log.writer("writer " + topic.name))
        await until_available(lambda: writer.append([Outgoing(topic, "key", b"before")]))
        arm(step)
        await unanswered(writer.append([Outgoing(topic, "key", b"unanswered")] * 2), kafka, 3.5)
        await until_available(lambda: writer.append([Outgoing(topic, "key", b"after")]))
        unanswered_ones = [b"unanswered"] * 2 if step == "commit_transaction" else []
        values = [record.value for record in await contents(log, topic)]
        assert values == [b"before", *unanswered_ones, b"after"]
        await log.close()

    asyncio.run(go())
