"""The embedded log keeps what it must by its own time, in steps that hold its lock for a moment, and packs what is large."""

import asyncio
import os
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from redis_agent.errors import RecordTooLarge
from redis_agent.log import MAX_RECORD_BYTES, Outgoing, Start
from redis_agent.log import log_time as log_time_module
from redis_agent.log.embedded import EmbeddedLog
from redis_agent.log.retention import LOCKED_AT_MOST_SECONDS, Retention, Sweeper
from redis_agent.log.store import Store
from redis_agent.testing import Bench, contents, read_until
from redis_agent.topics import METRICS, OBSERVATIONS, Topic, TopicName

PLAIN = Topic(TopicName("plain"), 2, timedelta(days=1), "test")
COMPACTED = Topic(TopicName("compacted"), 2, timedelta(days=7), "test", compacted=True)
BOTH = Retention([PLAIN, COMPACTED])


@dataclass
class Machine:
    """A machine whose monotonic clock the test sets, with a log on it."""

    path: Path
    ticks: int = 5_000_000

    def pass_(self, span: timedelta) -> None:
        self.ticks += span // timedelta(microseconds=1)

    def open(self) -> Store:
        store = Store(self.path, 1.0, ticks=lambda: self.ticks, create=True)
        store.prepare([PLAIN, COMPACTED, METRICS, OBSERVATIONS], 2)
        return store


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path / "log.db")


@pytest.fixture
def store(machine: Machine) -> Iterator[Store]:
    store = machine.open()
    yield store
    store.close()


def put(store: Store, topic: Topic, *values: str) -> None:
    """Each value is its key as well; a part after a colon is not."""
    store.append([Outgoing(topic, value.split(":")[0], value.encode()) for value in values], None)


def held(store: Store, topic: Topic) -> list[str]:
    found = store.fetch(dict.fromkeys(store.slots([topic]), 0), 100_000)
    return [record.value.decode() for record in found]


def test_records_past_their_topics_time_go_and_others_stay(machine: Machine, store: Store) -> None:
    put(store, PLAIN, "a", "b")
    put(store, COMPACTED, "d")
    machine.pass_(timedelta(minutes=61))
    put(store, PLAIN, "c")
    machine.pass_(timedelta(hours=23))
    assert Sweeper(store, BOTH).sweep() == 2
    assert held(store, PLAIN) == ["c"]
    assert held(store, COMPACTED) == ["d"]
    assert Sweeper(store, BOTH).sweep() == 0
    machine.pass_(timedelta(days=7))
    assert Sweeper(store, BOTH).sweep() == 2
    assert held(store, COMPACTED) == []


def test_a_compacted_topic_holds_the_newest_of_each_key_and_no_other(store: Store) -> None:
    put(store, COMPACTED, "a:1", "b:1", "a:2")
    put(store, COMPACTED, "a:3")
    put(store, COMPACTED, "b:2", "c:1")
    assert sorted(held(store, COMPACTED)) == ["a:3", "b:2", "c:1"]


def test_a_key_that_was_swept_may_come_again(machine: Machine, store: Store) -> None:
    put(store, COMPACTED, "a:1")
    machine.pass_(timedelta(days=8))
    assert Sweeper(store, BOTH).sweep() == 1
    put(store, COMPACTED, "a:2")
    put(store, COMPACTED, "a:3")
    assert held(store, COMPACTED) == ["a:3"]


def test_offsets_are_never_given_twice(machine: Machine, store: Store) -> None:
    put(store, PLAIN, "a", "a", "a")
    machine.pass_(timedelta(days=2))
    assert Sweeper(store, BOTH).sweep() == 3
    assert held(store, PLAIN) == []
    put(store, PLAIN, "a")
    [record] = store.fetch(dict.fromkeys(store.slots([PLAIN]), 0), 10)
    assert record.offset == 4


def test_a_step_holds_the_lock_for_a_moment_however_much_is_old(machine: Machine, store: Store) -> None:
    store.append([Outgoing(PLAIN, f"key-{n}", os.urandom(6000)) for n in range(6000)], None)
    machine.pass_(timedelta(days=2))
    sweeper, other = Sweeper(store, BOTH), machine.open()
    steps = 0
    while sweeper.sweep():
        steps += 1
        assert steps < 1000
    assert steps > 2  # it did not take all at once
    assert held(other, PLAIN) == []
    other.close()
    assert LOCKED_AT_MOST_SECONDS < 0.02


def test_a_writer_that_sweeps_takes_one_step_with_each_append_and_one_writer_at_a_time(
    machine: Machine, store: Store
) -> None:
    put(store, PLAIN, *["a"] * 5000)
    machine.pass_(timedelta(days=2))
    first, second = Sweeper(store, BOTH), Sweeper(machine.open(), BOTH)
    for sweeper in (first, second):
        sweeper._look_at = 0.0
    first.step()
    left = len(held(store, PLAIN))
    assert 0 < left < 5000
    second.step()
    assert len(held(store, PLAIN)) == left
    for _ in range(100):
        first.step()
    assert held(store, PLAIN) == []


def test_a_log_that_is_too_large_gives_up_its_oldest_samples_and_votes_and_nothing_else(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(20):
        store.append(
            [Outgoing(PLAIN, "kept", os.urandom(50_000)), Outgoing(METRICS, "orders", os.urandom(50_000))], None
        )
    sweeper = Sweeper(store, Retention([PLAIN, METRICS, OBSERVATIONS], max_bytes=1_500_000))
    for _ in range(100):
        sweeper.sweep()
    left = [record.topic for record in store.fetch(dict.fromkeys(store.slots([PLAIN, METRICS]), 0), 100)]
    assert left.count(PLAIN.name) == 20
    assert left.count(METRICS.name) < 12
    assert "over log.embedded.max_bytes: its oldest samples and votes go" in caplog.text


def test_readers_go_on_behind_a_gap_that_the_sweep_left(embedded_only: Bench) -> None:
    async def go() -> None:
        [topic] = await embedded_only.topics(partitions=1)
        log = embedded_only.open()
        path = Path(embedded_only.address.split(":", 1)[1])
        store = Store(path, 1.0, create=True)
        store.append([Outgoing(topic, "key", b"%d" % n) for n in range(6)], None)
        early = await log.cursor([topic], Start.BEGINNING)
        member = await log.member("group", [topic], Start.BEGINNING, "member")
        assert len(await read_until(early, 2)) == len(await read_until(member, 2)) == 2
        later = Store(path, 1.0, ticks=lambda: time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1000 + 2 * 86_400_000_000)
        assert Sweeper(later, Retention([topic])).sweep() == 6

        assert not early.caught_up
        assert await early.read(10, 0.1) == []
        assert early.caught_up
        assert (await log.cursor([topic], Start.BEGINNING)).caught_up
        assert await contents(log, topic) == []
        await (await log.writer()).append([Outgoing(topic, "key", b"new")])
        for reader in (early, member):
            assert [(record.offset, record.value) for record in await read_until(reader, 1)] == [(7, b"new")]
        await member.commit()
        store.close()
        later.close()
        await log.close()

    asyncio.run(go())


# --- the log's own time


def test_a_reader_begins_so_long_ago_by_the_logs_own_time(machine: Machine, store: Store) -> None:
    for name in ("a", "b", "c"):
        put(store, PLAIN, name)
        machine.pass_(timedelta(minutes=1))
    assert [store.first(timedelta(minutes=ago)) for ago in (0, 1, 2, 3, 99)] == [4, 3, 2, 0, 0]
    assert store.first(timedelta(seconds=90)) == 3
    assert store.first(Start.NOW) == 4


@pytest.mark.parametrize("year", [1970, 2100])
def test_a_wall_clock_that_stands_anywhere_ages_nothing(
    machine: Machine, store: Store, monkeypatch: pytest.MonkeyPatch, year: int
) -> None:
    put(store, PLAIN, "a")
    before = store.now()
    monkeypatch.setattr(log_time_module, "wall", lambda: datetime(year, 1, 1, tzinfo=UTC))
    machine.pass_(timedelta(hours=1))
    again = machine.open()
    assert again.now() - before == timedelta(hours=1) // timedelta(microseconds=1)
    put(again, PLAIN, "b")
    assert Sweeper(again, BOTH).sweep() == 0
    assert held(again, PLAIN) == ["a", "b"]
    again.close()


def test_after_a_start_of_the_machine_time_goes_on_from_the_newest_record(
    machine: Machine, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(store, PLAIN, "a")
    written = store.now()
    monkeypatch.setattr(log_time_module, "boot_id", lambda: "another start")
    machine.ticks = 1_000_000
    again = machine.open()
    assert again.now() == written
    machine.pass_(timedelta(hours=23))
    put(again, PLAIN, "b")
    assert Sweeper(again, BOTH).sweep() == 0
    machine.pass_(timedelta(hours=2))
    assert Sweeper(again, BOTH).sweep() == 1
    assert held(again, PLAIN) == ["b"]
    again.close()


# --- size


def test_what_is_over_a_kilobyte_is_kept_smaller_and_comes_back_whole(tmp_path: Path) -> None:
    values = [b"x" * size for size in (0, 1, 1024, 1025, 200_000)] + [os.urandom(5000)]

    async def go() -> None:
        log = EmbeddedLog(tmp_path / "log.db")
        await log.prepare([PLAIN])
        await (await log.writer()).append([Outgoing(PLAIN, "key", value) for value in values])
        assert [record.value for record in await contents(log, PLAIN)] == values
        await log.close()
        store = Store(tmp_path / "log.db", 1.0, create=True)
        kept = [row[0] for row in store.rows("SELECT length(value) FROM records ORDER BY seq")]
        store.close()
        assert kept[:3] == [0, 1, 1024]
        assert kept[3] < 100
        assert kept[4] < 1000
        assert kept[5] == 5000

    asyncio.run(go())


COMMON = os.urandom(4000)


def alike(number: int) -> bytes:
    """A record like its neighbours: what differs is a tenth of it. Neither part compresses by itself."""
    return f"{number} ".encode() + COMMON + os.urandom(400)


def kept_bytes(path: Path) -> list[int]:
    with sqlite3.connect(path) as db:
        return [size for (size,) in db.execute("SELECT length(value) FROM records ORDER BY seq")]


def test_records_that_are_like_the_topics_first_are_kept_as_what_differs(machine: Machine) -> None:
    first, second = machine.open(), machine.open()
    values = [alike(number) for number in range(6)]
    for number, value in enumerate(values):
        (first, second)[number % 2].append([Outgoing(PLAIN, "a", value), Outgoing(METRICS, "a", value[::-1])], None)
    packed = kept_bytes(machine.path)
    assert max(packed[2:]) < 600 < 4000 < min(packed[:2])
    for reader in (first, second, machine.open()):
        assert [r.value for r in reader.fetch(dict.fromkeys(reader.slots([PLAIN]), 0), 100)] == values
        assert [r.value for r in reader.fetch(dict.fromkeys(reader.slots([METRICS]), 0), 100)] == [
            v[::-1] for v in values
        ]
        reader.close()


def test_what_a_transaction_that_was_rolled_back_knew_spoils_nothing(machine: Machine, store: Store) -> None:
    lost, kept = alike(0), [alike(number) for number in range(1, 4)]
    with pytest.raises(RecordTooLarge):
        too_large = Outgoing(PLAIN, "a", bytes(MAX_RECORD_BYTES + 1))
        store.append([Outgoing(PLAIN, "a", lost), Outgoing(PLAIN, "a", lost[::-1]), too_large], None)
    other = machine.open()
    other.append([Outgoing(METRICS, "a", kept[0][::-1]), Outgoing(METRICS, "a", kept[0][::-1])], None)
    for value in kept:
        store.append([Outgoing(PLAIN, "a", value)], None)
    for reader in (store, other):
        assert [r.value for r in reader.fetch(dict.fromkeys(reader.slots([PLAIN]), 0), 100)] == kept
    other.close()


def test_a_value_that_was_damaged_is_given_as_it_stands_and_stops_no_reader(machine: Machine, store: Store) -> None:
    values = [alike(number) for number in range(4)]
    for value in values:
        store.append([Outgoing(PLAIN, "a", value)], None)
    with store.transaction() as db:
        db.execute("UPDATE records SET value = x'00ff' WHERE seq = (SELECT min(seq) + 1 FROM records)")
        db.execute("UPDATE records SET codec = 99 WHERE seq = (SELECT min(seq) + 2 FROM records)")
    first, damaged, unknown, last = (r.value for r in store.fetch(dict.fromkeys(store.slots([PLAIN]), 0), 100))
    assert (first, last) == (values[0], values[3])
    assert damaged == b"\x00\xff" and unknown not in values
