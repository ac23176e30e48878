"""A member that dies or stands still loses its partitions to others, who find all that it had not committed."""

import asyncio
import signal
from subprocess import Popen

import pytest

from redis_agent.log import Outgoing, Start
from redis_agent.testing import Bench, Starter, copies, lines_of, not_once, read_until

pytestmark = pytest.mark.long

GROUP = "group"


def test_a_member_that_dies_by_sigkill_gives_up_what_it_read_and_held(group_bench: Bench, start: Starter) -> None:
    async def go() -> None:
        [source] = await group_bench.topics(partitions=4)
        log = group_bench.open()
        writer = await log.writer()
        await writer.append([Outgoing(source, "key", b"%d" % n, spread=f"spread-{n}") for n in range(20)])
        child = start("sit", group_bench.address, GROUP + source.name, "dead " + source.name, source.name, "beginning")
        lines = [await asyncio.to_thread(lines_of(child).readline) for _ in range(6)]
        assert lines[0] == "joined\n"
        assert "" not in lines
        child.kill()
        child.wait()

        member = await log.member(GROUP + source.name, [source], Start.BEGINNING, "heir " + source.name)
        found = await read_until(member, 20)
        assert sorted(int(record.value) for record in found) == list(range(20))
        await member.commit()
        assert await member.read(10, 0.3) == []
        await log.close()

    asyncio.run(go())


def test_a_member_that_stood_still_while_another_did_its_work_can_not_commit_it_again(
    bench: Bench, start: Starter
) -> None:
    async def go() -> None:
        source, sink = await bench.topics(2, partitions=2)
        log = bench.open()
        writer = await log.writer()
        await writer.append([Outgoing(source, "key", b"", spread=str(n)) for n in range(8)])
        group, name = GROUP + source.name, "still " + source.name
        child = start("dawdle", bench.address, group, name, source.name, sink.name)
        assert await asyncio.to_thread(lines_of(child).readline) == "8\n"
        child.send_signal(signal.SIGSTOP)
        member = await log.member(group, [source], Start.BEGINNING, "heir " + source.name)
        records = await read_until(member, 8)
        await member.commit(copies(records, sink))
        child.send_signal(signal.SIGCONT)
        assert await asyncio.to_thread(told_to_go_on, child) == "Rebalanced\n"
        child.kill()
        assert await not_once(log, source, sink) == {}
        await log.close()

    asyncio.run(go())


def told_to_go_on(child: Popen[str]) -> str:
    """What a child answers."""
    assert child.stdin is not None
    child.stdin.write("now\n")
    child.stdin.flush()
    return lines_of(child).readline()


def test_a_member_that_stood_still_for_longer_than_its_session_goes_on_by_itself(
    group_bench: Bench, start: Starter
) -> None:
    async def go() -> None:
        source, sink = await group_bench.topics(2, partitions=2)
        log = group_bench.open()
        writer = await log.writer()
        await writer.append([Outgoing(source, "key", b"", spread=str(n)) for n in range(8)])
        child = start("dawdle", group_bench.address, source.name, source.name, source.name, sink.name)
        assert await asyncio.to_thread(lines_of(child).readline) == "8\n"
        child.send_signal(signal.SIGSTOP)
        await asyncio.sleep(2.5 if group_bench.address.startswith("embedded") else 7.0)
        child.send_signal(signal.SIGCONT)
        said = await asyncio.to_thread(told_to_go_on, child)
        if said == "Rebalanced\n":
            said = await asyncio.to_thread(lines_of(child).readline)
        assert said == "done\n"
        assert await not_once(log, source, sink) == {}
        await log.close()

    asyncio.run(go())


def test_a_group_that_starts_now_skips_nothing_when_its_first_member_dies_before_reading(
    bench: Bench, start: Starter
) -> None:
    async def go() -> None:
        [source] = await bench.topics(partitions=4)
        log = bench.open()
        writer = await log.writer()
        await writer.append([Outgoing(source, "key", b"before", spread=str(n)) for n in range(16)])
        child = start("sit", bench.address, GROUP + source.name, "dead " + source.name, source.name, "now")
        assert await asyncio.to_thread(lines_of(child).readline) == "joined\n"
        child.kill()
        child.wait()
        await writer.append([Outgoing(source, "key", b"after", spread=str(n)) for n in range(16)])
        member = await log.member(GROUP + source.name, [source], Start.NOW, "heir " + source.name)
        assert [record.value for record in await read_until(member, 16)] == [b"after"] * 16
        await log.close()

    asyncio.run(go())
