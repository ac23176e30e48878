"""A cursor reads every record of its topics from where it was told, and knows when it has caught up."""

import asyncio
import time
from datetime import timedelta

import pytest
from confluent_kafka import Producer

from redis_agent.log import Outgoing, Start
from redis_agent.log.kafka_client import KafkaSettings
from redis_agent.testing import Bench, contents, read_until


def test_a_cursor_begins_at_the_beginning_now_or_so_long_ago(bench: Bench) -> None:
    async def go() -> None:
        first, second = await bench.topics(2)
        log = bench.open()
        writer = await log.writer()

        async def write(value: bytes) -> None:
            await writer.append([Outgoing(topic, f"key-{n}", value) for topic in (first, second) for n in range(5)])

        await write(b"early")
        await asyncio.sleep(1.0)
        early = await log.now()
        await asyncio.sleep(1.0)
        await write(b"late")
        all_, since, now, never = [
            await log.cursor([first, second], start)
            for start in (Start.BEGINNING, await log.now() - early, Start.NOW, timedelta(minutes=-1))
        ]
        assert not all_.caught_up
        assert not since.caught_up
        assert now.caught_up
        assert never.caught_up
        await write(b"after")
        assert sorted(r.value for r in await read_until(all_, 30)) == [b"after"] * 10 + [b"early"] * 10 + [b"late"] * 10
        assert sorted(r.value for r in await read_until(since, 20)) == [b"after"] * 10 + [b"late"] * 10
        assert [r.value for r in await read_until(now, 10)] == [b"after"] * 10
        assert [r.value for r in await read_until(never, 10)] == [b"after"] * 10
        for cursor in (all_, since, now, never):
            assert cursor.caught_up
            assert await cursor.read(10, 0.1) == []
        await log.close()

    asyncio.run(go())


def test_a_cursor_over_nothing_has_caught_up_and_reads_what_comes(bench: Bench) -> None:
    async def go() -> None:
        [topic] = await bench.topics()
        log = bench.open()
        cursor = await log.cursor([topic], Start.BEGINNING)
        assert cursor.caught_up
        assert await cursor.read(10, 0.1) == []
        writer = await log.writer()
        await writer.append([Outgoing(topic, "key", b"first")])
        assert [record.value for record in await read_until(cursor, 1)] == [b"first"]
        await log.close()

    asyncio.run(go())


def test_a_cursor_has_not_caught_up_before_it_gave_the_last_record(bench: Bench) -> None:
    async def go() -> None:
        [topic] = await bench.topics(partitions=2)
        log = bench.open()
        writer = await log.writer("transactional " + topic.name)
        for n in range(5):
            await writer.append([Outgoing(topic, f"key-{n}", b"%d" % n) for n in range(4)])
        cursor = await log.cursor([topic], Start.BEGINNING)
        found = 0
        while not cursor.caught_up:
            found += len(await cursor.read(3, 2.0))
        assert found == 20
        await log.close()

    asyncio.run(go())


@pytest.mark.parametrize("end", ["commit_transaction", "abort_transaction"])
def test_a_cursor_has_not_caught_up_before_what_was_begun_before_it_is_decided(kafka_only: Bench, end: str) -> None:
    async def go() -> None:
        [topic] = await kafka_only.topics(partitions=1)
        log = kafka_only.open()
        producer = Producer(KafkaSettings(kafka_only.address.split(":", 1)[1]).producer("undecided " + topic.name))
        producer.init_transactions(10)
        producer.begin_transaction()
        producer.produce(topic.name, b"undecided", b"key")
        producer.flush(10)
        cursor = await log.cursor([topic], Start.BEGINNING)
        assert await cursor.read(10, 0.5) == []
        assert not cursor.caught_up
        getattr(producer, end)(10)
        found = []
        while not cursor.caught_up:
            found += await cursor.read(10, 5.0)
        assert [record.value for record in found] == ([b"undecided"] if end == "commit_transaction" else [])
        await log.close()

    asyncio.run(go())


def test_a_record_says_how_long_it_stood_unread_at_most_once_its_reader_stood_at_the_end(bench: Bench) -> None:
    async def go() -> None:
        [topic] = await bench.topics(partitions=1)
        log = bench.open()
        writer = await log.writer()
        await writer.append([Outgoing(topic, "key", b"old")])
        cursor = await log.cursor([topic], Start.BEGINNING)
        [old] = await read_until(cursor, 1)
        assert old.unread is None
        assert await cursor.read(10, 1.0) == []
        await writer.append([Outgoing(topic, "key", b"new")])
        time.sleep(0.7)  # noqa: ASYNC251 - nobody reads meanwhile
        [new] = await read_until(cursor, 1)
        assert new.unread is not None
        assert timedelta(seconds=0.7) <= new.unread < timedelta(seconds=4)
        await log.close()

    asyncio.run(go())


def test_a_cancelled_read_of_a_cursor_has_read_nothing(bench: Bench) -> None:
    async def go() -> None:
        [topic] = await bench.topics(partitions=1)
        log = bench.open()
        writer = await log.writer()
        await writer.append([Outgoing(topic, "key", b"%d" % n) for n in range(4)])
        cursor = await log.cursor([topic], Start.BEGINNING)
        assert [record.value for record in await read_until(cursor, 1)] == [b"0"]
        reading = asyncio.create_task(cursor.read(10, 5.0))
        await asyncio.sleep(0)
        time.sleep(0.5)  # noqa: ASYNC251 - the thread reads on while the loop can't take what it gives
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        assert not cursor.caught_up
        assert [record.value for record in await read_until(cursor, 3)] == [b"1", b"2", b"3"]
        await log.close()

    asyncio.run(go())


def test_a_reader_that_waits_gets_a_record_soon_after_it_was_appended_however_many_it_would_take(bench: Bench) -> None:
    async def go() -> None:
        [topic] = await bench.topics()
        log = bench.open()
        writer = await log.writer()
        cursor = await log.cursor([topic], Start.NOW)
        member = await log.member(topic.name, [topic], Start.BEGINNING, topic.name)
        await writer.append([Outgoing(topic, "key", b"first")])
        for reader in (cursor, member):
            assert len(await read_until(reader, 1)) == 1
        await member.commit()
        for _ in range(2):
            waiting = [asyncio.create_task(reader.read(500, 20.0)) for reader in (cursor, member)]
            await asyncio.sleep(0.3)
            begun = time.monotonic()
            await writer.append([Outgoing(topic, "key", b"news")])
            for reading in waiting:
                assert [record.value for record in await reading] == [b"news"]
            assert time.monotonic() - begun < 2.0
        await log.close()

    asyncio.run(go())


def test_a_cursor_catches_up_when_the_last_records_of_every_partition_were_aborted(kafka_only: Bench) -> None:
    async def go() -> None:
        [topic] = await kafka_only.topics(partitions=2)
        log = kafka_only.open()
        writer = await log.writer("writer " + topic.name)
        await writer.append([Outgoing(topic, f"key-{n}", b"kept") for n in range(4)])
        servers = kafka_only.address.split(":", 1)[1]
        producer = Producer(KafkaSettings(servers).producer("aborting " + topic.name))
        producer.init_transactions(10)
        producer.begin_transaction()
        for partition in (0, 1):
            producer.produce(topic.name, b"aborted", b"key", partition)
        producer.flush(10)
        open_transaction = await log.cursor([topic], Start.BEGINNING)
        producer.abort_transaction(10)
        begun = time.monotonic()
        assert [record.value for record in await contents(log, topic)] == [b"kept"] * 4
        assert time.monotonic() - begun < 5.0
        assert [record.value for record in await read_until(open_transaction, 4)] == [b"kept"] * 4
        await open_transaction.read(10, 2.0)
        assert open_transaction.caught_up
        await log.close()

    asyncio.run(go())
