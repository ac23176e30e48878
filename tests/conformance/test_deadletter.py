"""A record that nobody can read goes to the dead-letter topic whole, once, and its partition goes on."""

import asyncio
from datetime import UTC, datetime

from redis_agent.log import Delivered, Log, Member, Outgoing, Start
from redis_agent.log.deadletter import dead_letter
from redis_agent.testing import Bench, contents, read_until
from redis_agent.topics import DEADLETTER, TopicName

POISON = bytes(range(256))


def test_a_dead_letter_keeps_the_record_and_says_why_and_where_it_stood() -> None:
    came = (("schema", b"x"), ("raw", b"\xff\x00"))
    record = Delivered(TopicName("t"), 3, 42, datetime.now(UTC), "kéy", POISON, came)
    letter = dead_letter(record, "not a protobuf: größer")
    assert (letter.topic, letter.key, letter.value) == (DEADLETTER, "kéy", POISON)
    assert letter.headers == (
        *came,
        ("deadletter-reason", "not a protobuf: größer".encode()),
        ("deadletter-topic", b"t"),
        ("deadletter-partition", b"3"),
        ("deadletter-offset", b"42"),
    )


def test_a_poison_record_is_dead_lettered_in_the_same_commit_and_the_partition_goes_on(bench: Bench) -> None:
    async def go() -> None:
        source, sink = await bench.topics(2, partitions=1)
        log = bench.open()
        await log.prepare([DEADLETTER])
        writer = await log.writer()
        for value in (b"good", POISON, b"good too"):
            await writer.append([Outgoing(source, "key", value, (("raw", POISON),))])
        member = await log.member(source.name, [source], Start.BEGINNING, source.name)
        await work(member, [Outgoing(sink, "key", b"outputs")], commit=False)
        assert await letters(log, source.name) == []
        await member.rewind()
        await work(member, [Outgoing(sink, "key", b"outputs")], commit=True)
        [letter] = await letters(log, source.name)
        assert (letter.key, letter.value) == ("key", POISON)
        assert letter.headers[0] == ("raw", POISON)
        assert letter.header("deadletter-reason") == "poison"
        [poison] = [record for record in await contents(log, source) if record.value == POISON]
        assert letter.header("deadletter-offset") == str(poison.offset)
        assert len(await contents(log, sink)) == 1
        await writer.append([Outgoing(source, "key", b"next")])
        assert [record.value for record in await read_until(member, 1)] == [b"next"]
        await log.close()

    asyncio.run(go())


async def work(member: Member, outputs: list[Outgoing], *, commit: bool) -> None:
    records = await read_until(member, 3)
    assert len(records) == 3
    if commit:
        await member.commit([*outputs, *(dead_letter(r, "poison") for r in records if r.value == POISON)])


async def letters(log: Log, topic: str) -> list[Delivered]:
    """What was dead-lettered from that topic."""
    return [each for each in await contents(log, DEADLETTER) if each.header("deadletter-topic") == topic]
