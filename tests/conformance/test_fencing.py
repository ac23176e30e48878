"""Who opens a name again fences the earlier holder, whose next write fails and leaves nothing behind."""

import asyncio

import pytest

from redis_agent.errors import Fenced
from redis_agent.log import Outgoing, Start
from redis_agent.testing import Bench, contents, read_until


def test_a_named_writer_is_fenced_by_the_next_of_its_name_and_others_are_not(bench: Bench) -> None:
    async def go() -> None:
        [topic] = await bench.topics()
        first, second = bench.open(), bench.open()
        zombie = await first.writer("name " + topic.name)
        other = await first.writer("other " + topic.name)
        await zombie.append([Outgoing(topic, "key", b"before")])
        heir = await second.writer("name " + topic.name)
        for _ in range(2):
            with pytest.raises(Fenced):
                await zombie.append([Outgoing(topic, "key", b"zombie")])
        await heir.append([Outgoing(topic, "key", b"heir")])
        with pytest.raises(Fenced):
            await zombie.append([Outgoing(topic, "key", b"zombie")])
        await other.append([Outgoing(topic, "key", b"other")])
        assert [record.value for record in await contents(second, topic)] == [b"before", b"heir", b"other"]
        await first.close()
        await heir.append([Outgoing(topic, "key", b"after")])  # a zombie's close takes nothing from its heir
        await second.close()

    asyncio.run(go())


def test_a_member_is_fenced_by_the_next_of_its_name_which_reads_the_same_again(bench: Bench) -> None:
    async def go() -> None:
        source, sink = await bench.topics(2)
        first, second = bench.open(), bench.open()
        writer = await first.writer()
        await writer.append([Outgoing(source, f"key-{n}", b"in") for n in range(6)])
        name = "name " + source.name
        zombie = await first.member(source.name, [source], Start.BEGINNING, name)
        assert len(await read_until(zombie, 6)) == 6
        heir = await second.member(source.name, [source], Start.BEGINNING, name)
        with pytest.raises(Fenced):
            await zombie.commit([Outgoing(sink, "key", b"zombie")])
        with pytest.raises(Fenced):
            await zombie.commit([Outgoing(sink, "key", b"zombie alone")])
        await first.close()
        assert len(await read_until(heir, 6)) == 6
        await heir.commit([Outgoing(sink, "key", b"heir")])
        assert [record.value for record in await contents(second, sink)] == [b"heir"]
        await second.close()

    asyncio.run(go())


def test_a_writer_and_a_member_of_one_name_fence_each_other(bench: Bench) -> None:
    async def go() -> None:
        source, sink = await bench.topics(2)
        log = bench.open()
        writer = await log.writer("shared " + source.name)
        member = await log.member(source.name, [source], Start.BEGINNING, "shared " + source.name)
        with pytest.raises(Fenced):
            await writer.append([Outgoing(sink, "key", b"zombie")])
        await member.commit([Outgoing(sink, "key", b"member")])
        assert [record.value for record in await contents(log, sink)] == [b"member"]
        await log.close()

    asyncio.run(go())
