"""What the log stands on may be wrong: made otherwise than it is configured, or full. It says so, and nothing is lost."""

import asyncio
import subprocess
import sys
import uuid
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from redis_agent.errors import ConfigurationError
from redis_agent.log import Log
from redis_agent.log.embedded import EmbeddedLog
from redis_agent.log.kafka import KafkaLog
from redis_agent.log.kafka_client import KafkaSettings
from redis_agent.testing import Bench
from redis_agent.topics import Topic, TopicName

ROOT = Path(__file__).resolve().parents[2]
FILL = Path(__file__).with_name("fill_disk.py")
Opener = Callable[[int | None], Log]


def keyed() -> Topic:
    """A new topic that is keyed by instance."""
    return Topic(TopicName(f"test.{uuid.uuid4().hex[:12]}"), None, timedelta(days=1), "test")


def opener(bench: Bench) -> Opener:
    """Opens the bench's log as one configured with that many partitions."""
    kind, where = bench.address.split(":", 1)
    if kind == "embedded":
        return lambda count: EmbeddedLog(Path(where), patience_seconds=1.0, partitions=count)
    return lambda count: KafkaLog(KafkaSettings(where, partitions=count, patience_seconds=10.0))


async def prepared(open_as: Opener, count: int | None, topics: list[Topic]) -> list[int]:
    """Prepare the topics as configured with `count`; how many partitions each has then."""
    log = open_as(count)
    try:
        await log.prepare(topics)
        return [await log.partitions(topic) for topic in topics]
    finally:
        await log.close()


def test_a_log_made_with_another_number_of_partitions_is_refused_with_both_numbers(bench: Bench) -> None:
    async def go() -> None:
        open_as, first, second = opener(bench), keyed(), keyed()
        assert await prepared(open_as, 3, [first]) == [3]
        with pytest.raises(ConfigurationError) as refused:
            await prepared(open_as, 5, [first, second])
        (fault,) = refused.value.faults
        assert fault.startswith(("log.embedded.partitions: 5, but", "log.kafka.partitions: 5, but"))
        assert "3" in fault and (
            "write 3 or leave it out" in fault or "write the number that all of them have" in fault
        )
        # Where it isn't configured, what comes later is made as the log was.
        assert await prepared(open_as, None, [first, second]) == [3, 3]
        assert await prepared(open_as, 3, [first, second]) == [3, 3]

    asyncio.run(go())


def test_topics_that_somebody_made_with_different_numbers_are_refused_by_name(kafka_only: Bench) -> None:
    async def go() -> None:
        open_as, first, second = opener(kafka_only), keyed(), keyed()
        await prepared(open_as, 2, [first])
        await prepared(open_as, 4, [second])
        with pytest.raises(ConfigurationError) as refused:
            await prepared(open_as, None, [first, second])
        (fault,) = refused.value.faults
        assert f"{first.name} has 2" in fault and f"{second.name} has 4" in fault

    asyncio.run(go())


def mounting() -> bool:
    """Whether we may mount a file system of our own, seen by our children alone."""
    return subprocess.run(["unshare", "-rm", "true"], capture_output=True).returncode == 0


@pytest.mark.skipif(not mounting(), reason="needs a mount namespace: unshare -rm")
@pytest.mark.parametrize("kib", [300, 1500], ids=["while it is made", "while it is written"])
def test_a_full_disk_is_named_and_what_was_acknowledged_is_there_when_there_is_space_again(
    kib: int, tmp_path: Path
) -> None:
    mount = f"mount -t tmpfs -o size={kib}k tmpfs {tmp_path} && exec {sys.executable} {FILL} {tmp_path}"
    done = subprocess.run(
        ["unshare", "-rm", "bash", "-c", mount],
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    fault, kept, expected = done.stdout.splitlines()
    assert f"{tmp_path}/log.db" in fault and "the disk is full: free some space there" in fault
    assert kept == expected
