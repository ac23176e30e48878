"""What is appended is read as it was, in order: keys, headers, sizes, times."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from redis_agent.errors import RecordTooLarge
from redis_agent.log import MAX_RECORD_BYTES, Outgoing, Start
from redis_agent.testing import Bench, contents, read_until
from redis_agent.topics import Topic, partition_of

MIB = 1024 * 1024


def test_records_of_one_key_are_read_in_the_order_in_which_they_were_appended(bench: Bench) -> None:
    async def go() -> None:
        [topic] = await bench.topics()
        log = bench.open()

        async def write(key: str, name: str | None) -> None:
            writer = await log.writer(name)
            for number in range(0, 40, 4):
                await writer.append([Outgoing(topic, key, str(number + part).encode()) for part in range(4)])

        await asyncio.gather(write("a", None), write("b", None), write("c", "c of " + topic.name), write("d", None))
        found = await contents(log, topic)
        for key in "abcd":
            own = [record for record in found if record.key == key]
            assert [int(record.value) for record in own] == list(range(40))
            assert {record.partition for record in own} == {partition_of(key, topic.partitions or 0)}
        await log.close()

    asyncio.run(go())


def test_spread_decides_the_partition_instead_of_the_key(bench: Bench) -> None:
    async def go() -> None:
        [topic] = await bench.topics(partitions=8)
        log = bench.open()
        writer = await log.writer()
        await writer.append([Outgoing(topic, "key", b"", spread=f"spread-{number}") for number in range(20)])
        found = await contents(log, topic)
        assert {record.key for record in found} == {"key"}
        assert sorted(record.partition for record in found) == sorted(
            partition_of(f"spread-{number}", 8) for number in range(20)
        )
        await log.close()

    asyncio.run(go())


def test_headers_come_back_with_binary_values_and_repeated_names_in_order(bench: Bench) -> None:
    async def go() -> None:
        [topic] = await bench.topics()
        log = bench.open()
        headers = (("b", bytes(range(256))), ("a", b"1"), ("a", b""), ("schema", b"x"), ("a", "ü".encode()))
        begun = datetime.now(UTC)
        writer = await log.writer()
        await writer.append([Outgoing(topic, "Schlüssel", b"\x00\xff", headers), Outgoing(topic, "", b"")])
        cursor = await log.cursor([topic], Start.BEGINNING)
        found = {record.key: record for record in await read_until(cursor, 2)}
        assert found["Schlüssel"].headers == headers
        assert found["Schlüssel"].header("a") == "ü"
        assert found["Schlüssel"].value == b"\x00\xff"
        assert (found[""].value, found[""].headers, found[""].header("a")) == (b"", (), None)
        assert all(abs(record.at - begun) < timedelta(seconds=10) for record in found.values())
        await log.close()

    asyncio.run(go())


def test_a_record_of_15_mib_passes_through_a_writer_and_a_commit(bench: Bench) -> None:
    async def go() -> None:
        source, sink = await bench.topics(2)
        log = bench.open()
        large = bytes(range(256)) * (15 * MIB // 256)
        writer = await log.writer()
        await writer.append([Outgoing(source, "key", large)])
        member = await log.member("large", [source], Start.BEGINNING, "large " + source.name)
        [record] = await read_until(member, 1)
        assert record.value == large
        await member.commit([Outgoing(sink, "key", record.value)])
        [copy] = await contents(log, sink)
        assert copy.value == large
        await log.close()

    asyncio.run(go())


@pytest.mark.parametrize("name", ["named", None])
def test_a_record_over_the_limit_is_refused_and_nothing_beside_it_is_written(bench: Bench, name: str | None) -> None:
    async def go() -> None:
        [topic] = await bench.topics()
        log = bench.open()
        writer = await log.writer(name and f"{name} {topic.name}")
        small, large = Outgoing(topic, "key", b"small"), Outgoing(topic, "key", bytes(MAX_RECORD_BYTES + 1))
        with pytest.raises(RecordTooLarge, match=f"{MAX_RECORD_BYTES + 1} bytes for {topic.name}"):
            await writer.append([small, large])
        await writer.append([Outgoing(topic, "key", b"after")])
        assert [record.value for record in await contents(log, topic)] == [b"after"]
        await log.close()

    asyncio.run(go())


def test_a_commit_with_a_record_over_the_limit_keeps_nothing_and_reads_again(bench: Bench) -> None:
    async def go() -> None:
        source, sink = await bench.topics(2)
        log = bench.open()
        await (await log.writer()).append([Outgoing(source, "key", b"in")])
        member = await log.member("oversize", [source], Start.BEGINNING, "oversize " + source.name)
        assert len(await read_until(member, 1)) == 1
        with pytest.raises(RecordTooLarge):
            await member.commit([Outgoing(sink, "key", b"out"), Outgoing(sink, "key", bytes(MAX_RECORD_BYTES + 1))])
        assert [record.value for record in await read_until(member, 1)] == [b"in"]
        await member.commit([Outgoing(sink, "key", b"out")])
        assert [record.value for record in await contents(log, sink)] == [b"out"]
        await log.close()

    asyncio.run(go())


def test_more_records_than_a_queue_holds_are_all_written_and_reads_keep_to_their_limit(bench: Bench) -> None:
    async def go(topic: Topic) -> None:
        log = bench.open()
        count = 110_000  # librdkafka's queue takes 100 000
        await (await log.writer()).append([Outgoing(topic, str(n % 7), b"%d" % n) for n in range(count)])
        cursor = await log.cursor([topic], Start.BEGINNING)
        seen: dict[str, list[int]] = {}
        while not cursor.caught_up:
            batch = await cursor.read(5000, 5.0)
            assert len(batch) <= 5000
            for record in batch:
                seen.setdefault(record.key, []).append(int(record.value))
        assert seen == {str(key): list(range(key, count, 7)) for key in range(7)}
        member = await log.member("full", [topic], Start.BEGINNING, "full " + topic.name)
        assert 1 <= len(await read_until(member, 1)) <= 1
        assert len(await member.read(3, 5.0)) <= 3
        await log.close()

    [topic] = asyncio.run(bench.topics())
    asyncio.run(go(topic))
