"""What a process finds and writes, on a real log: once, renewed while it lasts, closed; and how it is read."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

from redis_agent import topics
from redis_agent.findings import SILENT_AFTER, Findings, OpenFindings, read
from redis_agent.instants import Instant
from redis_agent.log import Start
from redis_agent.log.embedded import EmbeddedLog
from redis_agent.model import Finding, FindingKind, FindingState, Origin, Severity
from redis_agent.wire import decode_finding

NOON = datetime(2026, 11, 3, 12, 0, tzinfo=UTC)
OFTEN = timedelta(milliseconds=100)
SELDOM = timedelta(hours=1)
SOON = timedelta(seconds=0.5)
OPEN, CLOSED = FindingState.OPEN, FindingState.CLOSED


def findings(
    reporter: str = "controller@here:1", every: timedelta = SELDOM, taken_over_for: timedelta = SOON
) -> Findings:
    numbers = count(1)
    return Findings(reporter, lambda: Origin("controller@here", next(numbers)), every, taken_over_for)


def tell(found: Findings, text: str = "the vantage says nothing", **changes: object) -> None:
    found.open(FindingKind.VANTAGE_AWAY, "dc-east", Severity.WARNING, text, **changes)  # type: ignore[arg-type]


class Watched:
    """Every finding as it is written: the topic itself keeps the newest of each key alone."""

    def __init__(self, log: EmbeddedLog) -> None:
        self.log = log
        self.seen: list[Finding] = []

    async def follow(self) -> None:
        cursor = await self.log.cursor([topics.FINDINGS], Start.BEGINNING)
        while True:
            self.seen += [decode_finding(record.value) for record in await cursor.read(100, 1.0)]


def on_a_log(tmp_path: Path, story: Callable[[Watched], Awaitable[None]]) -> None:
    async def run() -> None:
        log = EmbeddedLog(tmp_path / "log.db")
        await log.prepare()
        following = asyncio.ensure_future((watched := Watched(log)).follow())
        try:
            await story(watched)
        finally:
            following.cancel()
            await asyncio.wait({following})
            await log.close()

    asyncio.run(run())


async def until_all(log: Watched, holds: Callable[[list[Finding]], bool]) -> list[Finding]:
    """All that was written, once that holds of it."""
    async with asyncio.timeout(10):
        while not log.seen or not holds(log.seen):  # noqa: ASYNC110 - another task's doing
            await asyncio.sleep(0.02)
    return list(log.seen)


async def until_written(log: Watched, *states: FindingState) -> list[Finding]:
    """All that was written, once it is exactly these states in this order."""
    return await until_all(log, lambda found: [each.state for each in found] == list(states))


async def kept(found: Findings, log: Watched, meanwhile: Awaitable[None]) -> None:
    keeping = asyncio.ensure_future(found.keep(log.log))
    try:
        await meanwhile
    finally:
        keeping.cancel()
        await asyncio.wait({keeping})


def test_what_is_found_is_written_once_and_its_end_once(tmp_path: Path) -> None:
    async def story(log: Watched) -> None:
        found = findings()

        async def meanwhile() -> None:
            tell(found)
            (first,) = await until_written(log, OPEN)
            for _ in range(5):
                tell(found)
            await asyncio.sleep(0.2)
            found.close(FindingKind.VANTAGE_AWAY, "dc-east")
            found.close(FindingKind.VANTAGE_AWAY, "dc-east")
            found.close(FindingKind.CLOCK_JUMP, "dc-east")
            _, last = await until_written(log, OPEN, CLOSED)
            assert (last.key, last.since, last.text) == (first.key, first.since, first.text)

        await kept(found, log, meanwhile())

    on_a_log(tmp_path, story)


def test_other_words_are_written_at_once_as_the_same_finding_and_a_new_opening_is_a_new_one(tmp_path: Path) -> None:
    async def story(log: Watched) -> None:
        found = findings()

        async def meanwhile() -> None:
            tell(found)
            await until_written(log, OPEN)
            tell(found, "the vantage still says nothing")
            first, second = await until_written(log, OPEN, OPEN)
            assert (first.since, first.key) == (second.since, second.key)
            found.close(FindingKind.VANTAGE_AWAY, "dc-east")
            await until_written(log, OPEN, OPEN, CLOSED)
            tell(found)
            assert (await until_written(log, OPEN, OPEN, CLOSED, OPEN))[-1].since > first.since

        await kept(found, log, meanwhile())

    on_a_log(tmp_path, story)


def test_while_it_lasts_it_is_renewed_and_then_no_more(tmp_path: Path) -> None:
    async def story(log: Watched) -> None:
        found = findings(every=OFTEN)

        async def meanwhile() -> None:
            tell(found)
            await until_all(log, lambda found: len(found) >= 4)
            found.close(FindingKind.VANTAGE_AWAY, "dc-east")
            before = await until_all(log, lambda found: found[-1].state is CLOSED)
            assert [each.state for each in before] == [*[OPEN] * (len(before) - 1), CLOSED]
            assert [each.at for each in before] == sorted({each.at for each in before})
            await asyncio.sleep(0.5)
            assert log.seen == before

        await kept(found, log, meanwhile())

    on_a_log(tmp_path, story)


def test_what_was_over_before_anybody_could_be_told_is_not_told(tmp_path: Path) -> None:
    async def story(log: Watched) -> None:
        found = findings()
        tell(found)
        found.close(FindingKind.VANTAGE_AWAY, "dc-east")
        tell(found, "again")

        async def meanwhile() -> None:
            (told,) = await until_written(log, OPEN)
            assert told.text == "again"

        await kept(found, log, meanwhile())

    on_a_log(tmp_path, story)


def test_a_reporter_that_speaks_or_begins_anew_is_silent_no_longer(tmp_path: Path) -> None:
    async def story(log: Watched) -> None:
        notifier, follower = findings("notifier@here:2"), findings()

        async def one() -> None:
            notifier.retire(finding())
            await until_written(log, CLOSED, OPEN)
            notifier.heard(finding())
            await until_written(log, CLOSED, OPEN, CLOSED)
            notifier.retire(finding())
            await until_all(log, lambda found: found[-1].state is OPEN)
            await kept(follower, log, until_back())

        async def until_back() -> None:
            ended = (await until_all(log, lambda found: found[-1].state is CLOSED))[-1]
            assert (ended.kind, ended.text) == (FindingKind.REPORTER_SILENT, "controller@here:1 is back")
            notifier.heard(ended)
            assert notifier.subjects(FindingKind.REPORTER_SILENT) == []

        await kept(notifier, log, one())

    on_a_log(tmp_path, story)


def test_what_is_told_for_a_time_ends_by_itself(tmp_path: Path) -> None:
    async def story(log: Watched) -> None:
        found = findings()

        async def meanwhile() -> None:
            tell(found, lasts=timedelta(seconds=0.2))
            await until_written(log, OPEN, CLOSED)

        await kept(found, log, meanwhile())

    on_a_log(tmp_path, story)


def test_what_a_process_of_that_name_left_open_ends_unless_its_follower_finds_it_and_nobody_elses_does(
    tmp_path: Path,
) -> None:
    async def story(log: Watched) -> None:
        dead, other = findings("controller@here:1"), findings("controller@there:1")

        async def both() -> None:
            tell(dead)
            dead.open(FindingKind.VANTAGE_CUT_OFF, "dc-west", Severity.WARNING, "it is cut off")
            await until_written(log, OPEN, OPEN)
            await kept(other, log, three())

        async def three() -> None:
            tell(other)
            await until_written(log, OPEN, OPEN, OPEN)

        await kept(dead, log, both())
        follower = findings("controller@here:1")

        async def meanwhile() -> None:
            tell(follower)  # it finds this one too, and not the other
            await until_all(log, lambda found: any(each.state is CLOSED for each in found))
            await asyncio.sleep(0.3)
            (ended,) = [each for each in log.seen if each.state is CLOSED]
            assert follower.subjects(FindingKind.VANTAGE_AWAY) == ["dc-east"]
            assert (ended.kind, ended.reporter) == (FindingKind.VANTAGE_CUT_OFF, "controller@here:1")

        await kept(follower, log, meanwhile())
        still = {(each.kind, each.reporter) for each in (await read(log.log)).values() if each.state is OPEN}
        assert still == {
            (FindingKind.VANTAGE_AWAY, "controller@here:1"),
            (FindingKind.VANTAGE_AWAY, "controller@there:1"),
        }

    on_a_log(tmp_path, story)


def test_what_the_follower_finds_too_is_the_same_finding_and_its_end_is_that_ones_end(tmp_path: Path) -> None:
    async def story(log: Watched) -> None:
        dead, follower = findings(), findings()

        async def first() -> None:
            tell(dead)
            await until_written(log, OPEN)

        async def second() -> None:
            await until_written(log, OPEN, OPEN)
            follower.close(FindingKind.VANTAGE_AWAY, "dc-east")
            found = await until_written(log, OPEN, OPEN, CLOSED)
            assert len({each.since for each in found}) == 1

        await kept(dead, log, first())
        tell(follower)
        await kept(follower, log, second())

    on_a_log(tmp_path, story)


def test_what_was_found_before_the_log_was_there_waits_for_it(tmp_path: Path) -> None:
    async def run() -> None:
        log = EmbeddedLog(tmp_path / "none" / "log.db", patience_seconds=0.2)
        found = findings()
        tell(found)
        keeping = asyncio.ensure_future(found.keep(log))
        await asyncio.sleep(0.5)
        assert not keeping.done()
        await log.prepare()
        async with asyncio.timeout(10):
            while not await read(log):  # noqa: ASYNC110 - another task's doing
                await asyncio.sleep(0.02)
        keeping.cancel()
        await asyncio.wait({keeping})
        await log.close()

    asyncio.run(run())


# --- read


def finding(state: FindingState = OPEN, reporter: str = "controller@here:1", minutes: float = 0) -> Finding:
    since = NOON + timedelta(minutes=minutes)
    origin = Origin(reporter, 1)
    return Finding(
        FindingKind.VANTAGE_AWAY, "dc-east", reporter, state, Severity.WARNING, since, since, "x", "", "", origin
    )


def at(minutes: float) -> Instant:
    return Instant(timedelta(minutes=minutes))


def test_what_is_open_and_renewed_is_listed_newest_first() -> None:
    known = OpenFindings()
    known.note(finding(reporter="a"), at(0))
    known.note(finding(reporter="b", minutes=1), at(1))
    known.note(finding(reporter="c", minutes=2), at(2))
    assert known.note(finding(CLOSED, "c", 2), at(2)) == finding(reporter="c", minutes=2)
    assert [each.reporter for each in known.listed(at(2))] == ["b", "a"]
    assert known.silent(at(2)) == []


def test_what_nobody_renews_is_silent_from_three_minutes_on_and_heard_again_when_renewed() -> None:
    known = OpenFindings()
    known.note(finding(), at(0))
    for second in range(0, 179, 4):
        assert known.silent(at(second / 60)) == []
    just_before = Instant(at(0) + SILENT_AFTER - timedelta(microseconds=1))
    assert (known.listed(just_before), known.silent(just_before)) == ([finding()], [])
    assert (known.listed(at(3)), known.silent(at(3))) == ([], [finding()])
    known.note(finding(), at(4))
    assert (known.listed(at(4)), known.silent(at(4))) == ([finding()], [])


def test_time_in_which_nobody_listened_is_nobodys_silence() -> None:
    known = OpenFindings()
    known.note(finding(), at(0))
    assert known.silent(at(0)) == []
    assert known.silent(at(60)) == [], "the machine slept for an hour"
    for second in range(0, 178, 4):
        assert known.silent(at(60 + second / 60)) == []
    assert known.silent(at(63)) == [finding()]


def test_another_reporters_silence_closes_its_finding_and_is_a_finding_itself(tmp_path: Path) -> None:
    async def story(log: Watched) -> None:
        found = findings("notifier@here:2")

        async def meanwhile() -> None:
            found.retire(finding())
            closed, told = await until_written(log, CLOSED, OPEN)
            assert (closed.key, "fell silent" in closed.text) == (finding().key, True)
            assert (told.kind, told.subject) == (FindingKind.REPORTER_SILENT, "controller@here:1")
            assert "x" in told.evidence

        await kept(found, log, meanwhile())

    on_a_log(tmp_path, story)
