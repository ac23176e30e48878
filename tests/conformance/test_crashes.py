"""Killed anywhere, a read-process-write loop still copies each record exactly once, and acknowledged records stay."""

import asyncio
import random
import signal
from subprocess import Popen

import pytest

from redis_agent.log import Log, Outgoing
from redis_agent.testing import Bench, Starter, contents, lines_of, not_once, relay_all
from redis_agent.topics import Topic

pytestmark = pytest.mark.long

INPUTS = 4
AT_ONCE = 12


async def filled(bench: Bench, count: int, records: int, partitions: int) -> list[tuple[Topic, Topic]]:
    """Pairs of a source with records and an empty sink."""
    topics = await bench.topics(2 * count, partitions)
    pairs = list(zip(topics[::2], topics[1::2], strict=True))
    log = bench.open()
    writer = await log.writer()
    await writer.append([Outgoing(source, f"key-{n}", b"%d" % n) for source, _ in pairs for n in range(records)])
    await log.close()
    return pairs


async def killed_before(bench: Bench, start: Starter, pair: tuple[Topic, Topic], call: int) -> tuple[int, int]:
    """Exit code of a relay that is to die before its `call`-th call of the backend, and how many calls it made."""
    source, sink = pair
    child = start("relay", bench.address, source.name, source.name, source.name, sink.name, INPUTS, call)
    out, err = await asyncio.to_thread(child.communicate)
    assert err == ""
    return child.returncode, int(out or 0)


def test_a_relay_killed_before_any_of_its_calls_copies_each_record_exactly_once(bench: Bench, start: Starter) -> None:
    async def go() -> None:
        [whole] = await filled(bench, 1, INPUTS, 1)
        code, calls = await killed_before(bench, start, whole, 0)
        assert code == 0
        assert calls > 15
        pairs = await filled(bench, calls + 5, INPUTS, 1)
        slots = asyncio.Semaphore(AT_ONCE)

        async def crash(call: int, pair: tuple[Topic, Topic]) -> int:
            async with slots:
                return (await killed_before(bench, start, pair, call))[0]

        codes = await asyncio.gather(*(crash(call, pair) for call, pair in enumerate(pairs, 1)))
        assert set(codes) == {0, -signal.SIGKILL}
        assert codes[-1] == 0, "no run got through: the calls were not all met"
        assert codes.count(-signal.SIGKILL) > calls - 5

        log = bench.open()
        torn = [len(await contents(log, sink)) for _, sink in pairs]
        assert {0, 2, 4} == set(torn), "a commit was seen in part"

        async def finish(source: Topic, sink: Topic) -> None:
            async with slots:
                await relay_all(log, source.name, source.name, source, sink)

        await asyncio.gather(*(finish(*pair) for pair in pairs))
        wrong = [call for call, pair in enumerate(pairs, 1) if await not_once(log, *pair)]
        assert wrong == []
        await log.close()

    asyncio.run(go())


def test_two_relays_killed_at_random_times_copy_each_record_exactly_once(bench: Bench, start: Starter) -> None:
    async def go() -> None:
        [(source, sink)] = await filled(bench, 1, 300, 4)
        chance = random.Random(7)

        def begin(name: str) -> Popen[str]:
            return start("relay_for_ever", bench.address, source.name, name + source.name, source.name, sink.name)

        longest = 0.6 if bench.address.startswith("embedded") else 4.0
        running = {name: begin(name) for name in ("one ", "two ")}
        for _ in range(4):
            await asyncio.sleep(chance.uniform(0.1, longest))
            name = chance.choice(list(running))
            running[name].kill()
            running[name].wait()
            running[name] = begin(name)
        for child in running.values():
            child.kill()
            child.wait()
        log = bench.open()
        await relay_all(log, source.name, "one " + source.name, source, sink)
        assert await not_once(log, source, sink) == {}
        await log.close()

    asyncio.run(go())


@pytest.mark.parametrize("name", ["named", "-"])
def test_what_a_killed_writer_was_told_is_durable_is_there_once_and_in_order(
    bench: Bench, start: Starter, name: str
) -> None:
    async def go() -> None:
        [topic] = await bench.topics()
        log = bench.open()
        told = 0
        for lines in (1, 5, 17):
            child = start("append", bench.address, name if name == "-" else name + topic.name, topic.name)
            said = [await asyncio.to_thread(lines_of(child).readline) for _ in range(lines)]
            child.kill()
            said += lines_of(child).readlines()
            told = len(said)
            held = await appended_last(log, topic)
            assert held[: 3 * told] == [f"{batch}.{part}" for batch in range(told) for part in range(3)]
            if name != "-":
                assert len(held) % 3 == 0, "a named writer's batch was seen in part"
        await log.close()

    asyncio.run(go())


async def appended_last(log: Log, topic: Topic) -> list[str]:
    """What the topic holds from the last time that a writer began to count."""
    values = [record.value.decode() for record in await contents(log, topic)]
    return values[len(values) - 1 - values[::-1].index("0.0") :]
