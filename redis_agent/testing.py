"""What tests of several packages share: logs to test with, and how to read them to the end."""

import asyncio
import time
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from subprocess import Popen
from typing import IO, TypeVar

from tenacity import AsyncRetrying, retry_if_exception_type, wait_fixed

from redis_agent.errors import LogUnavailable, Rebalanced
from redis_agent.log import Cursor, Delivered, Log, Member, Outgoing, Start, Writer
from redis_agent.log.embedded import EmbeddedLog
from redis_agent.topics import ALL, Topic, TopicName

T = TypeVar("T")
Starter = Callable[..., Popen[str]]
"""Starts a child process of a test with these arguments."""


def log_at(address: str) -> Log:
    """The log at `embedded:PATH`, or at `kafka-classic:SERVERS` or `kafka-consumer:SERVERS`, with short deadlines.

    A text, so that a test can hand it to a child process.
    """
    kind, where = address.split(":", 1)
    if kind == "embedded":
        return EmbeddedLog(Path(where), patience_seconds=1.0, session_seconds=2.0)
    # Imported here: a child process of a test on the embedded log starts in half the time.
    from redis_agent.log.kafka import KafkaLog
    from redis_agent.log.kafka_client import KafkaSettings

    protocol = kind.removeprefix("kafka-")
    return KafkaLog(KafkaSettings(where, group_protocol=protocol, patience_seconds=4.0, session_seconds=6.0))


@dataclass(frozen=True)
class Bench:
    """A log under test. `cut()` takes it away for as long as the context lasts."""

    address: str
    patience_seconds: float
    cut: Callable[[], AbstractContextManager[None]]
    opened: list[Log] = field(default_factory=list)

    def open(self) -> Log:
        """As a process of its own would open it."""
        self.opened.append(log_at(self.address))
        return self.opened[-1]

    def close(self) -> None:
        """Close what a test that failed left open. Not within an event loop."""
        for log in self.opened:
            asyncio.run(log.close())

    async def topics(self, count: int = 1, partitions: int = 3) -> list[Topic]:
        """New topics that no other test knows."""
        made = [
            Topic(TopicName(f"test.{uuid.uuid4().hex[:12]}"), partitions, timedelta(days=1), "test")
            for _ in range(count)
        ]
        log = self.open()
        await until_available(lambda: log.prepare(made))
        await log.close()
        return made


class ForwardingLog(Log):
    """A log that does as the one below; for tests that change one thing of it."""

    def __init__(self, below: Log) -> None:
        self.below = below

    async def prepare(self, topics: Sequence[Topic] = ALL) -> None:
        await self.below.prepare(topics)

    async def partitions(self, topic: Topic) -> int:
        return await self.below.partitions(topic)

    async def now(self) -> datetime:
        return await self.below.now()

    async def writer(self, name: str | None = None, patience: timedelta | None = None) -> Writer:
        return await self.below.writer(name, patience)

    async def member(self, group: str, topics: Sequence[Topic], start: Start, name: str) -> Member:
        return await self.below.member(group, topics, start, name)

    async def cursor(self, topics: Sequence[Topic], start: Start | timedelta) -> Cursor:
        return await self.below.cursor(topics, start)

    async def close(self) -> None:
        await self.below.close()


async def until_available(call: Callable[[], Awaitable[T]]) -> T:
    """Call until the log is there."""
    async for attempt in AsyncRetrying(retry=retry_if_exception_type(LogUnavailable), wait=wait_fixed(0.05)):
        with attempt:
            return await call()
    raise AssertionError("it is tried until it is there")


async def read_until(reader: Member | Cursor, count: int, within_seconds: float = 30.0) -> list[Delivered]:
    """`count` records, or fewer when they don't come in time."""
    found: list[Delivered] = []
    deadline = time.monotonic() + within_seconds
    while len(found) < count and time.monotonic() < deadline:
        found += await reader.read(count - len(found), 0.2)
    return found


async def contents(log: Log, topic: Topic) -> list[Delivered]:
    """Everything that the topic holds now."""
    cursor = await log.cursor([topic], Start.BEGINNING)
    found: list[Delivered] = []
    while not cursor.caught_up:
        found += await cursor.read(1000, 1.0)
    await cursor.close()
    return found


def copies(records: list[Delivered], sink: Topic) -> list[Outgoing]:
    """What a relay writes for what it read: each output names the input it came from."""
    return [Outgoing(sink, record.key, source_of(record).encode()) for record in records]


def source_of(record: Delivered) -> str:
    """Where a record stands, as text."""
    return f"{record.topic}/{record.partition}/{record.offset}"


async def not_once(log: Log, source: Topic, sink: Topic) -> dict[str, int]:
    """Records of the source that the sink does not hold one copy of, and how many it does hold; strangers, too."""
    copied = Counter(record.value.decode() for record in await contents(log, sink))
    expected = {source_of(record) for record in await contents(log, source)}
    return {each: copied[each] for each in expected | copied.keys() if (each in expected) + copied[each] != 2}


async def relay(member: Member, sink: Topic, until: Callable[[int], bool], batch: int = 2) -> int:
    """Read, copy and commit until `until(copied)` says so; how many it copied. Goes on after what is transient."""
    copied = 0
    while not until(copied):
        try:
            records = await member.read(batch, 0.1)
            if records:
                await member.commit(copies(records, sink))
                copied += len(records)
        except (LogUnavailable, Rebalanced):
            await asyncio.sleep(0.05)
    return copied


async def relay_all(log: Log, group: str, name: str, source: Topic, sink: Topic, within_seconds: float = 90.0) -> None:
    """Relay until the sink holds a copy of everything in the source, and a moment longer, so that doubles would show."""
    member = await until_available(lambda: log.member(group, [source], Start.BEGINNING, name))
    total = len(await contents(log, source))
    deadline = time.monotonic() + within_seconds
    quiet = 0
    while quiet < 2 and time.monotonic() < deadline:
        window = time.monotonic() + 0.25
        copied = await relay(member, sink, lambda _, end=window: time.monotonic() > end, 20)  # type: ignore[misc]
        quiet = quiet + 1 if copied == 0 and len(await contents(log, sink)) >= total else 0
    await member.close()


def lines_of(child: Popen[str]) -> IO[str]:
    """What a child process says."""
    if child.stdout is None:
        raise ValueError("a child that was started without a pipe says nothing")
    return child.stdout
