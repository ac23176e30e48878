"""Members of a group share the partitions, give them up when they leave or die, and nothing is lost or done twice."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

import pytest

from redis_agent.errors import Rebalanced
from redis_agent.log import Log, Member, Outgoing, Start
from redis_agent.testing import Bench, contents, copies, not_once, read_until, relay_all
from redis_agent.topics import Topic

GROUP = "group"


@dataclass
class Shift:
    """Members that work side by side, and who has what in hand."""

    sink: Topic
    in_hand: dict[int, str] = field(default_factory=dict)
    done: Counter[str] = field(default_factory=Counter)
    partitions: dict[str, set[int]] = field(default_factory=dict)
    overlaps: list[str] = field(default_factory=list)

    async def work(self, name: str, member: Member) -> None:
        """Read, take a moment, commit; note whenever a record comes whose partition another one has in hand."""
        while True:
            records = await member.read(5, 0.05)
            mine = {record.partition for record in records}
            for partition in mine:
                if self.in_hand.setdefault(partition, name) != name:
                    self.overlaps.append(f"{name} read [{partition}] that {self.in_hand[partition]} had in hand")
            try:
                await asyncio.sleep(0.01)
                await member.commit(copies(records, self.sink))
                self.done[name] += len(records)
                self.partitions.setdefault(name, set()).update(mine)
            except Rebalanced:
                pass
            finally:
                self.in_hand = {partition: who for partition, who in self.in_hand.items() if who != name}


async def feed(log: Log, topic: Topic) -> None:
    """A record for every partition, again and again."""
    writer = await log.writer()
    while True:
        await writer.append(
            [Outgoing(topic, "key", b"", spread=f"spread-{n}") for n in range(2 * (topic.partitions or 0))]
        )
        await asyncio.sleep(0.1)


async def until(true: Callable[[], bool], within_seconds: float = 30.0) -> None:
    deadline = time.monotonic() + within_seconds
    while not true():
        assert time.monotonic() < deadline, "it did not happen in time"
        await asyncio.sleep(0.05)


async def stop(*tasks: asyncio.Task[None]) -> None:
    for task in tasks:
        task.cancel()
    for result in await asyncio.gather(*tasks, return_exceptions=True):
        assert isinstance(result, asyncio.CancelledError), result


def test_a_second_member_shares_the_work_and_leaves_it_all_to_the_first_when_it_goes(group_bench: Bench) -> None:
    async def go() -> None:
        source, sink = await group_bench.topics(2, partitions=4)
        log = group_bench.open()
        shift = Shift(sink)
        every = set(range(4))
        feeding = asyncio.create_task(feed(log, source))
        first = await log.member(GROUP + source.name, [source], Start.BEGINNING, "first " + source.name)
        one = asyncio.create_task(shift.work("first", first))
        await until(lambda: shift.partitions.get("first") == every)

        second = await log.member(GROUP + source.name, [source], Start.BEGINNING, "second " + source.name)
        two = asyncio.create_task(shift.work("second", second))
        await until(lambda: len(shift.partitions.get("second", set())) == 2)
        await asyncio.sleep(0.5)
        shift.partitions.clear()
        await until(lambda: sum(len(held) for held in shift.partitions.values()) >= 4)
        assert shift.partitions["first"] | shift.partitions["second"] == every
        assert len(shift.partitions["first"]) == len(shift.partitions["second"]) == 2

        await stop(two)
        await second.close()
        shift.partitions.clear()
        await until(lambda: shift.partitions.get("first") == every)
        await stop(one, feeding)
        await first.close()
        assert shift.overlaps == []
        await relay_all(log, GROUP + source.name, "last " + source.name, source, sink)
        assert await not_once(log, source, sink) == {}
        await log.close()

    asyncio.run(go())


def test_what_was_read_and_not_committed_is_read_again_after_a_restart_under_the_same_name(bench: Bench) -> None:
    async def go() -> None:
        [source] = await bench.topics(partitions=1)
        first, second = bench.open(), bench.open()
        writer = await first.writer()
        await writer.append([Outgoing(source, "key", b"%d" % n) for n in range(6)])
        member = await first.member(GROUP + source.name, [source], Start.BEGINNING, "same " + source.name)
        assert [record.value for record in await read_until(member, 2)] == [b"0", b"1"]
        await member.commit()
        assert [record.value for record in await read_until(member, 2)] == [b"2", b"3"]
        await first.close()

        member = await second.member(GROUP + source.name, [source], Start.BEGINNING, "same " + source.name)
        assert [record.value for record in await read_until(member, 4)] == [b"2", b"3", b"4", b"5"]
        await second.close()

    asyncio.run(go())


def test_positions_survive_a_restart_of_all_members_whatever_start_they_ask_for(bench: Bench) -> None:
    async def go() -> None:
        [source] = await bench.topics()
        log = bench.open()
        writer = await log.writer()
        member = await log.member(GROUP + source.name, [source], Start.BEGINNING, "one " + source.name)
        await writer.append([Outgoing(source, f"key-{n}", b"before") for n in range(9)])
        assert len(await read_until(member, 9)) == 9
        await member.commit()
        await member.close()
        await writer.append([Outgoing(source, f"key-{n}", b"between") for n in range(9)])
        for name, begin in (("two", Start.NOW), ("three", Start.BEGINNING)):
            member = await log.member(GROUP + source.name, [source], begin, f"{name} {source.name}")
            assert [record.value for record in await read_until(member, 9)] == [b"between"] * 9
            await member.close()
        await log.close()

    asyncio.run(go())


def test_a_group_that_starts_now_sees_all_that_is_appended_once_its_first_member_joined(group_bench: Bench) -> None:
    async def go() -> None:
        [source] = await group_bench.topics(partitions=4)
        log = group_bench.open()
        writer = await log.writer()
        await writer.append([Outgoing(source, "key", b"before", spread=str(n)) for n in range(16)])
        member = await log.member(GROUP + source.name, [source], Start.NOW, "now " + source.name)
        await writer.append([Outgoing(source, "key", b"after", spread=str(n)) for n in range(16)])
        assert [record.value for record in await read_until(member, 16)] == [b"after"] * 16
        assert await member.read(10, 0.2) == []
        await log.close()

    asyncio.run(go())


def test_members_that_read_different_topics_get_the_partitions_of_their_own(bench: Bench) -> None:
    async def go() -> None:
        both, only = await bench.topics(2, partitions=2)
        log = bench.open()
        writer = await log.writer()
        wide = await log.member(GROUP + both.name, [both, only], Start.BEGINNING, "wide " + both.name)
        narrow = await log.member(GROUP + both.name, [both], Start.BEGINNING, "narrow " + both.name)
        seen: dict[str, set[tuple[str, int]]] = {"wide": set(), "narrow": set()}

        async def settled() -> bool:
            for topic in (both, only):
                await writer.append([Outgoing(topic, "key", b"", spread=str(n)) for n in range(8)])
            for name, member in (("wide", wide), ("narrow", narrow)):
                found = await member.read(50, 0.2)
                with suppress(Rebalanced):
                    await member.commit()
                    seen[name] = {(record.topic, record.partition) for record in found} or seen[name]
            return len(seen["wide"]) + len(seen["narrow"]) == 4 and bool(seen["narrow"]) and len(seen["wide"]) >= 2

        for _ in range(60):
            if await settled() and not seen["wide"] & seen["narrow"]:
                break
        assert {topic for topic, _ in seen["narrow"]} == {both.name}
        assert {(only.name, 0), (only.name, 1)} <= seen["wide"]
        assert not seen["wide"] & seen["narrow"]
        await log.close()

    asyncio.run(go())


def test_a_member_that_commits_outputs_alone_needs_to_have_read_nothing(bench: Bench) -> None:
    async def go() -> None:
        source, sink = await bench.topics(2)
        log = bench.open()
        member = await log.member(GROUP + source.name, [source], Start.BEGINNING, "alone " + source.name)
        await member.commit()
        await member.commit([Outgoing(sink, "key", b"out")])
        assert [record.value for record in await contents(log, sink)] == [b"out"]
        await log.close()

    asyncio.run(go())


def test_a_rewound_member_reads_the_same_again_and_a_cancelled_read_has_read_nothing(bench: Bench) -> None:
    async def go() -> None:
        [source] = await bench.topics(partitions=1)
        log = bench.open()
        writer = await log.writer()
        member = await log.member(GROUP + source.name, [source], Start.BEGINNING, "again " + source.name)
        await writer.append([Outgoing(source, "key", b"%d" % n) for n in range(4)])
        assert [record.value for record in await read_until(member, 3)] == [b"0", b"1", b"2"]
        await member.rewind()
        assert [record.value for record in await read_until(member, 1)] == [b"0"]

        reading = asyncio.create_task(member.read(2, 5.0))
        await asyncio.sleep(0)
        time.sleep(0.5)  # noqa: ASYNC251 - the thread reads on while the loop can't take what it gives
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        await member.commit()
        assert [record.value for record in await read_until(member, 3)] == [b"1", b"2", b"3"]
        await log.close()

    asyncio.run(go())
