"""The Kafka log: librdkafka's blocking clients, each on a thread of its own.

Only the blocking `Producer.produce` carries headers, hence no asyncio clients. A member owns a consumer and a
transactional producer on one thread: what it read and what it writes are committed in one Kafka transaction.
"""

import uuid
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import TypeVar

from confluent_kafka import Consumer

from redis_agent.errors import LogUnavailable
from redis_agent.log import Cursor, Delivered, Log, Member, Outgoing, Start, Writer
from redis_agent.log.kafka_client import KafkaSettings, attempt
from redis_agent.log.kafka_member import KafkaMember, Membership
from redis_agent.log.kafka_partitions import Partitions
from redis_agent.log.kafka_reader import Reader
from redis_agent.log.kafka_sender import Sender
from redis_agent.log.order import in_time
from redis_agent.topics import ALL, Topic
from redis_agent.worker_thread import WorkerThread

Opened = TypeVar("Opened", "KafkaWriter", KafkaMember, "KafkaCursor")
R = TypeVar("R")


class KafkaLog(Log):
    """Opens readers and writers on one Kafka cluster."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._partitions = Partitions(settings)
        self._thread = WorkerThread("kafka-admin")
        self._open: list[KafkaWriter | KafkaMember | KafkaCursor] = []
        self._opening: dict[str, Sender] = {}  # got no answer yet; whoever asks for the name again goes on with it

    async def prepare(self, topics: Sequence[Topic] = ALL) -> None:
        await self._thread.run(self._partitions.prepare, topics)

    async def partitions(self, topic: Topic) -> int:
        return await self._thread.run(self._partitions.count, topic)

    async def now(self) -> datetime:
        return await self._thread.run(self._partitions.now)

    async def writer(self, name: str | None = None, patience: timedelta | None = None) -> Writer:
        thread = WorkerThread(f"kafka-writer-{name or 'plain'}")
        return self._kept(KafkaWriter(await _begun(thread, lambda: self._sender(name, patience), Sender.close), thread))

    async def member(self, group: str, topics: Sequence[Topic], start: Start, name: str) -> Member:
        def begin() -> Membership:
            membership = Membership(self._settings, group, name, self._sender(name))
            try:
                membership.join(topics, self._partitions, start)
            except BaseException:
                membership.leave()
                raise
            return membership

        thread = WorkerThread(f"kafka-member-{name}")
        return self._kept(KafkaMember(await _begun(thread, begin, Membership.leave), thread))

    def _sender(self, name: str | None, patience: timedelta | None = None) -> Sender:
        seconds = None if patience is None else patience.total_seconds()
        sender = self._opening.pop(name or "", None) or Sender(self._settings, self._partitions, name, seconds)
        try:
            sender.open()
        except LogUnavailable:
            self._opening[name or ""] = sender
            raise
        return sender

    async def cursor(self, topics: Sequence[Topic], start: Start | timedelta) -> Cursor:
        thread = WorkerThread("kafka-cursor")
        reader = await _begun(thread, lambda: self._placed(topics, start), Reader.close)
        return self._kept(KafkaCursor(reader, thread))

    def _placed(self, topics: Sequence[Topic], start: Start | timedelta) -> Reader:
        ends = self._partitions.ends(self._partitions.slots(topics))
        properties = self._settings.consumer(f"redis-agent.cursor-{uuid.uuid4()}") | {"enable.partition.eof": True}
        consumer = attempt("opening", Consumer, properties)
        reader = Reader(consumer, topics[0].name, self._settings.patience_seconds, self._partitions.time)
        try:
            reader.place(ends, start if isinstance(start, Start) else self._partitions.now() - start)
        except BaseException:
            reader.close()
            raise
        return reader

    def _kept(self, opened: Opened) -> Opened:
        self._open = [each for each in self._open if not each.closed]
        self._open.append(opened)
        return opened

    async def close(self) -> None:
        while self._open:
            await self._open.pop().close()
        self._thread.close()


async def _begun(thread: WorkerThread, begin: Callable[[], R], close: Callable[[R], None]) -> R:
    """What `begin` opens on the thread. Nothing stays open when it raises or the caller is cancelled.

    A consumer that is forgotten unclosed would block the interpreter when it is collected.
    """
    opened: list[R] = []

    def open_() -> R:
        opened.append(begin())
        return opened[0]

    def undo() -> None:
        for each in opened:
            close(each)

    try:
        return await thread.run_or_undo(open_, undo)
    except BaseException:
        thread.close()
        raise


class KafkaWriter(Writer):
    """A `Sender` on its thread."""

    def __init__(self, sender: Sender, thread: WorkerThread) -> None:
        self._sender = sender
        self._thread = thread
        self.closed = False

    async def append(self, records: Sequence[Outgoing]) -> None:
        await self._thread.run(self._sender.append, records)

    async def close(self) -> None:
        if not self.closed:
            self.closed = True
            await self._thread.run(self._sender.close)
            self._thread.close()


class KafkaCursor(Cursor):
    """A `Reader` on its thread."""

    def __init__(self, reader: Reader, thread: WorkerThread) -> None:
        self._reader = reader
        self._thread = thread
        self._last: list[Delivered] = []
        self._ahead: list[Delivered] = []  # undone reads, to be given again
        self.closed = False

    async def read(self, limit: int, timeout: float) -> list[Delivered]:
        return await self._thread.run_or_undo(lambda: self._read(limit, timeout), self._unread)

    def _read(self, limit: int, timeout: float) -> list[Delivered]:
        self._last = []
        if not self._ahead:
            self._ahead = in_time(self._reader.take(limit, timeout))
        self._last, self._ahead = self._ahead[:limit], self._ahead[limit:]
        return self._last

    def _unread(self) -> None:
        self._last, self._ahead = [], self._last + self._ahead

    @property
    def caught_up(self) -> bool:
        return not self._reader.behind and not self._ahead

    async def close(self) -> None:
        if not self.closed:
            self.closed = True
            await self._thread.run(self._reader.close)
            self._thread.close()
