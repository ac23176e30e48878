"""The write-ahead journal: read back, it is what it was; and what the log may or may not have taken is settled first."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.core.failover import CONTROLLER, STEPS, Failover
from controller.core.journal import Entry, Journal
from controller.edges.journal import WRITER, JournalLog
from redis_agent import telemetry, topics
from redis_agent.clock import instant
from redis_agent.errors import Fenced, LogUnavailable
from redis_agent.fleet import TelemetrySection
from redis_agent.instants import after
from redis_agent.log import Log, Outgoing
from redis_agent.log.embedded import EmbeddedLog
from redis_agent.model import EventKind, FailoverEvent, FailoverId, Fence, Origin, Phase, Stage
from redis_agent.testing import ForwardingLog, contents
from redis_agent.wire import decode_failover_event
from tests.controller.faltering import FalteringLog, Fault
from tests.controller.stage import journal_of
from tests.controller.values import FAILOVER, NOON, NOON_AT, ORDERS, PLAN, seconds

ID = FAILOVER.id
NO = FailoverId("no-1")


def event(kind: EventKind, stage: Stage, at: float, failover: FailoverId = ID) -> FailoverEvent:
    return FailoverEvent(
        failover=failover,
        instance=ORDERS,
        kind=kind,
        stage=stage,
        at=NOON_AT + seconds(at),
        reason=f"{kind.value} {stage.value}",
        origin=Origin("controller-1", int(at * 1000)),
        actor=CONTROLLER,
        plan=PLAN if kind is EventKind.DECIDED else None,
        phases=(Phase("decided", 4.0),),
    )


def a_failover() -> list[FailoverEvent]:
    """Every event of one that goes well: a decision, then an intent and an outcome a step."""
    events = [event(EventKind.DECIDED, Stage.FENCING, 0)]
    following = [*STEPS[1:], Stage.DONE]
    for number, (stage, moved) in enumerate(zip(STEPS, following, strict=True)):
        kind = EventKind.ENDED if moved.ended else EventKind.OUTCOME
        events += [event(EventKind.INTENT, stage, number + 0.2), event(kind, moved, number + 0.7)]
    return events


EVENTS = a_failover()


def told(events: list[FailoverEvent]) -> Journal:
    journal = Journal()
    for each in events:
        journal.note(Entry(each, after(NOON, each.at - NOON_AT), str(each).encode(), "trace"))
    return journal


def known(journal: Journal) -> tuple[object, ...]:
    """All that a journal tells."""
    return journal.failovers, journal.blocked, list(journal.places), [journal.kept(each) for each in journal.places]


# --- the fold


@pytest.mark.parametrize("length", range(2, len(EVENTS) + 1))
def test_after_any_event_the_journal_knows_the_stage(length: int) -> None:
    journal = told(EVENTS[:length])
    last = [each for each in EVENTS[:length] if each.kind is not EventKind.INTENT][-1]
    assert journal.failovers[ID].stage is last.stage
    assert (journal.open(ORDERS) is None) == last.stage.ended


@given(st.integers(0, 2**32))
def test_duplicates_change_nothing(seed: int) -> None:
    """The log gives at least once: again and late, but the first of each in order."""
    random = Random(seed)
    doubled: list[FailoverEvent] = []
    for number, each in enumerate(EVENTS):
        doubled.append(each)
        doubled += random.sample(EVENTS[: number + 1], random.randint(0, min(3, number + 1)))
    assert known(told(doubled)) == known(told(EVENTS))


def test_an_intent_says_that_something_may_have_been_done_and_starts_the_patience_anew() -> None:
    decided = told(EVENTS[:1]).failovers[ID]
    intended = told([*EVENTS[:1], event(EventKind.INTENT, Stage.FENCING, 500)]).failovers[ID]
    assert (decided.begun, intended.begun) == (False, True)
    assert intended.since == after(NOON, seconds(500))


def test_events_of_a_failover_that_was_never_decided_are_kept_and_change_nothing() -> None:
    journal = told(EVENTS[1:])
    assert not journal.failovers
    kept = journal.kept(ID)
    assert kept is not None
    assert len(kept.entries) == len(EVENTS) - 1


def test_a_failover_that_ended_stays_so() -> None:
    late = [event(EventKind.OUTCOME, Stage.PROMOTING, 90), event(EventKind.ENDED, Stage.FAILED, 91)]
    assert told([*EVENTS, *late]).failovers[ID] == told(EVENTS).failovers[ID]


def test_but_for_its_fence_which_is_put_up_late_or_lifted() -> None:
    late = replace(event(EventKind.FENCED_LATE, Stage.DONE, 90), fence=Fence.REFUSES_WRITES)
    lifted = replace(event(EventKind.UNFENCED, Stage.DONE, 91), fence=Fence.LIFTED)
    assert told([*EVENTS, late]).failovers[ID] == replace(told(EVENTS).failovers[ID], fence=Fence.REFUSES_WRITES)
    assert told([*EVENTS, late, lifted]).failovers[ID].fence is Fence.LIFTED


def test_a_failover_that_was_withdrawn_before_it_began_is_no_reason_to_cool_down() -> None:
    withdrawn = [event(EventKind.DECIDED, Stage.AWAITING_APPROVAL, 0), event(EventKind.ENDED, Stage.ABORTED, 9)]
    assert told(withdrawn).last_moved(ORDERS) is None
    assert told(EVENTS).last_moved(ORDERS) == after(NOON, EVENTS[-1].at - NOON_AT)


def test_a_decision_not_to_act_holds_until_it_ends() -> None:
    refused = event(EventKind.REFUSED, Stage.REFUSED, 0, NO)
    again = replace(event(EventKind.REFUSED, Stage.REFUSED, 5, NO), reason="another")
    ended = event(EventKind.ENDED, Stage.REFUSED, 9, NO)
    assert told([refused]).blocked == {ORDERS: refused}
    assert told([refused, again]).blocked == {ORDERS: again}
    assert told([refused, again, ended]).blocked == {}
    assert told([refused, *EVENTS]).blocked == {ORDERS: refused}


# --- on a log


Check = Callable[[Log], Awaitable[None]]


def on_a_log(directory: Path, check: Check) -> None:
    async def run() -> None:
        log = EmbeddedLog(directory / "log.db")
        try:
            await log.prepare()
            await check(log)
        finally:
            await log.close()

    asyncio.run(run())


async def opened(log: Log) -> JournalLog:
    journal = closed()
    await journal.open(log)
    return journal


def closed() -> JournalLog:
    return journal_of(telemetry.build("controller", TelemetrySection()))


async def write(journal: JournalLog, each: FailoverEvent) -> None:
    with journal.span("test", {}) as span:
        await journal.append([each], span)


def test_read_back_the_journal_is_what_it_was_while_it_was_written(tmp_path: Path) -> None:
    async def check(log: Log) -> None:
        live = await opened(log)
        for each in [*EVENTS, event(EventKind.REFUSED, Stage.REFUSED, 50, NO)]:
            await write(live, each)
        again = (await opened(log)).journal
        assert again.places.keys() == live.journal.places.keys()
        assert again.blocked.keys() == live.journal.blocked.keys() == {ORDERS}
        for id_ in again.places:
            was, kept = live.journal.kept(id_), again.kept(id_)
            assert was is not None
            assert kept is not None
            assert kept.entries == was.entries
        assert _untimed(again.failovers[ID]) == _untimed(live.journal.failovers[ID])
        assert live.journal.failovers[ID].stage is Stage.DONE
        assert live.journal.failovers[ID].traceparent

    on_a_log(tmp_path, check)


def _untimed(failover: Failover) -> Failover:
    """Without instants: they are the reader's own."""
    return replace(failover, since=NOON, seen_at=NOON, ended=None)


def test_whoever_opens_it_last_is_the_only_one_who_writes(tmp_path: Path) -> None:
    async def check(log: Log) -> None:
        first = await opened(log)
        second = await opened(log)
        with pytest.raises(Fenced):
            await write(first, EVENTS[0])
        assert not first.journal.failovers
        await write(second, EVENTS[0])
        assert len(await contents(log, topics.FAILOVERS)) == 1

    on_a_log(tmp_path, check)


def test_what_cannot_be_read_goes_to_the_dead_letters_and_stops_nothing(tmp_path: Path) -> None:
    async def check(log: Log) -> None:
        writer = await log.writer(WRITER)
        await writer.append([Outgoing(topics.FAILOVERS, ORDERS, b"\xffnonsense")])
        await write(await opened(log), EVENTS[0])
        assert (await opened(log)).journal.failovers.keys() == {ID}
        assert [record.value for record in await contents(log, topics.DEADLETTER)][:1] == [b"\xffnonsense"]

    on_a_log(tmp_path, check)


def test_an_event_that_the_log_did_not_take_is_not_believed(tmp_path: Path) -> None:
    async def check(log: Log) -> None:
        journal = await opened(FalteringLog(log, lambda _: Fault.LOST))
        with pytest.raises(LogUnavailable):
            await write(journal, EVENTS[0])
        assert not journal.journal.places

    on_a_log(tmp_path, check)


def test_before_it_is_open_nothing_can_be_written() -> None:
    journal = closed()
    with pytest.raises(LogUnavailable):
        asyncio.run(write(journal, EVENTS[0]))


@pytest.mark.parametrize("fault", [Fault.LOST, Fault.ANSWER_LOST])
def test_append_at_last_writes_an_event_until_the_log_says_so_and_it_counts_once(tmp_path: Path, fault: Fault) -> None:
    faults = [fault, fault, Fault.NONE]

    async def check(log: Log) -> None:
        journal = await opened(FalteringLog(log, lambda _: faults.pop(0)))
        with journal.span("test", {}) as span:
            await journal.append_at_last([EVENTS[0]], span)
        assert not faults
        kept = journal.journal.kept(ID)
        assert kept is not None
        assert len(kept.entries) == 1
        assert (await opened(log)).journal.kept(ID) is not None

    on_a_log(tmp_path, check)


def test_a_watcher_hears_every_event_from_then_on(tmp_path: Path) -> None:
    async def check(log: Log) -> None:
        journal = await opened(log)
        await write(journal, EVENTS[0])
        async with journal.watch() as heard:
            await write(journal, EVENTS[1])
            await write(journal, EVENTS[2])
        await write(journal, EVENTS[3])
        assert [heard.get_nowait() for _ in range(heard.qsize())] == EVENTS[1:3]

    on_a_log(tmp_path, check)


# --- over a restart


class Later(ForwardingLog):
    """The log, so much later by its own time."""

    def __init__(self, below: Log, by: timedelta) -> None:
        super().__init__(below)
        self._by = by

    async def now(self) -> datetime:
        return await self.below.now() + self._by


@pytest.mark.parametrize("year", [1970, 2026, 2100])
def test_how_long_ago_a_failover_ended_is_the_logs_to_say_whatever_any_wall_clock_said(
    year: int, tmp_path: Path
) -> None:
    async def check(log: Log) -> None:
        live = await opened(log)
        for each in EVENTS:
            await write(live, replace(each, at=each.at.replace(year=year)))
        before = instant()
        for minutes in (0, 7, 700):
            again = (await opened(Later(log, timedelta(minutes=minutes)))).journal
            moved = again.last_moved(ORDERS)
            assert moved is not None
            ago = before - moved
            assert timedelta(minutes=minutes) - seconds(5) < ago <= timedelta(minutes=minutes) + seconds(5)

    on_a_log(tmp_path, check)


def test_of_failovers_long_ended_memory_keeps_the_last_and_the_log_tells_of_all(tmp_path: Path) -> None:
    async def check(log: Log) -> None:
        live = await opened(log)
        ids = [FailoverId(f"fo-{number}") for number in range(5)]
        for id_ in ids:
            for each in EVENTS:
                await write(live, replace(each, failover=id_))
        for journal in (live, await opened(log)):
            assert set(journal.journal.failovers) == {ids[-1]}
            history = await journal.history([*ids, FailoverId("never")])
            assert list(history) and set(history) == set(ids)
            for id_ in ids:
                events = [decode_failover_event(value) for value in history[id_]]
                assert [(each.kind, each.stage) for each in events] == [(each.kind, each.stage) for each in EVENTS]
                assert {each.failover for each in events} == {id_}

    on_a_log(tmp_path, check)
