"""The embedded log's sweep: what is past its time goes, compacted topics keep the newest of each key, offsets go on."""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from redis_agent.log import Outgoing, Start
from redis_agent.log.store import SWEEP_AT_MOST, Store
from redis_agent.testing import Bench, contents, read_until
from redis_agent.topics import Topic, TopicName

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
PLAIN = Topic(TopicName("plain"), 2, timedelta(days=1), "test")
COMPACTED = Topic(TopicName("compacted"), 2, timedelta(days=7), "test", compacted=True)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "log.db", 1.0)
    store.prepare([PLAIN, COMPACTED])
    yield store
    store.close()


def put(store: Store, topic: Topic, ago: timedelta, *values: str) -> None:
    """Each value is its key as well; a part after a colon is not."""
    store.append([Outgoing(topic, value.split(":")[0], value.encode()) for value in values], NOW - ago, None)


def held(store: Store, topic: Topic) -> list[str]:
    found = store.fetch(dict.fromkeys(store.slots([topic]), 0), 100_000)
    return sorted(record.value.decode() for record in found)


def test_records_past_their_topics_time_go_and_others_stay(store: Store) -> None:
    put(store, PLAIN, timedelta(days=1, seconds=1), "a", "b")
    put(store, PLAIN, timedelta(hours=23), "c")
    put(store, COMPACTED, timedelta(days=2), "d")
    assert store.sweep([PLAIN, COMPACTED], NOW) == 2
    assert held(store, PLAIN) == ["c"]
    assert held(store, COMPACTED) == ["d"]
    assert store.sweep([PLAIN, COMPACTED], NOW) == 0


def test_a_compacted_topic_keeps_the_newest_of_each_key_and_what_is_fresh(store: Store) -> None:
    put(store, COMPACTED, timedelta(hours=3), "a:1", "b:1", "a:2")
    put(store, COMPACTED, timedelta(hours=2), "a:3")
    put(store, COMPACTED, timedelta(minutes=2), "b:2")
    put(store, COMPACTED, timedelta(minutes=1), "b:3", "c:1")
    assert store.sweep([COMPACTED], NOW) == 3
    assert held(store, COMPACTED) == ["a:3", "b:2", "b:3", "c:1"]


def test_offsets_go_on_when_a_partition_was_swept_empty(store: Store) -> None:
    put(store, PLAIN, timedelta(days=2), "a", "a", "a")
    [slot] = [slot for slot in store.slots([PLAIN]) if store.head(slot)]
    store.sweep([PLAIN], NOW)
    assert held(store, PLAIN) == []
    assert store.head(slot) == 3
    put(store, PLAIN, timedelta(0), "a")
    assert [record.offset for record in store.fetch({slot: 0}, 10)] == [3]


def test_a_sweep_takes_no_more_than_its_share_at_once(store: Store) -> None:
    put(store, PLAIN, timedelta(days=2), *["a"] * (SWEEP_AT_MOST + 10))
    assert [store.sweep([PLAIN], NOW) for _ in range(3)] == [SWEEP_AT_MOST, 10, 0]


def test_readers_go_on_behind_a_gap_that_the_sweep_left(embedded_only: Bench) -> None:
    async def go() -> None:
        [topic] = await embedded_only.topics(partitions=1)
        log = embedded_only.open()
        store = Store(Path(embedded_only.address.split(":", 1)[1]), 1.0)
        old = datetime.now(UTC) - timedelta(days=2)
        store.append([Outgoing(topic, "key", b"%d" % n) for n in range(6)], old, None)
        early = await log.cursor([topic], Start.BEGINNING)
        member = await log.member("group", [topic], Start.BEGINNING, "member")
        assert len(await read_until(early, 2)) == len(await read_until(member, 2)) == 2
        store.sweep([topic], datetime.now(UTC))

        assert not early.caught_up
        assert await early.read(10, 0.1) == []
        assert early.caught_up
        assert (await log.cursor([topic], Start.BEGINNING)).caught_up
        assert await contents(log, topic) == []
        await (await log.writer()).append([Outgoing(topic, "key", b"new")])
        for reader in (early, member):
            assert [(record.offset, record.value) for record in await read_until(reader, 1)] == [(6, b"new")]
        await member.commit()
        store.close()
        await log.close()

    asyncio.run(go())


def test_order_and_instants_hold_when_the_clock_goes_back(store: Store) -> None:
    put(store, PLAIN, timedelta(minutes=1), "a:0")
    put(store, PLAIN, timedelta(minutes=9), "a:1")
    put(store, PLAIN, timedelta(minutes=3), "a:2")
    slots = store.slots([PLAIN])
    found = [record.value.decode() for record in store.fetch(dict.fromkeys(slots, 0), 10)]
    assert found == ["a:0", "a:1", "a:2"]
    [slot] = [slot for slot in slots if store.head(slot) == 3]
    assert store.first(slot, NOW - timedelta(minutes=4)) == 0
    assert store.first(slot, NOW - timedelta(seconds=50)) == 3
