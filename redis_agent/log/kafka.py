"""The Kafka log: librdkafka's blocking clients, each on a thread of its own.

Only the blocking `Producer.produce` carries headers, hence no asyncio clients. A member owns a consumer and a
transactional producer on one thread: what it read and what it writes are committed in one Kafka transaction.
"""

import logging
import time
import uuid
from collections.abc import Sequence
from datetime import datetime

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from redis_agent.errors import AgentError, Fenced, LogUnavailable, Rebalanced
from redis_agent.log import Cursor, Delivered, Log, Member, Outgoing, Start, Writer
from redis_agent.log.balance import Slot
from redis_agent.log.kafka_client import KafkaSettings, Partitions, attempt, delivered, measure, place, translate
from redis_agent.log.thread import Lane
from redis_agent.topics import ALL, Topic

logger = logging.getLogger(__name__)


class KafkaLog(Log):
    """Opens readers and writers on one Kafka cluster."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._partitions = Partitions(settings)
        self._lane = Lane("kafka-admin")
        self._open: list[_Writer | _Member | _Cursor] = []

    async def prepare(self) -> None:
        await self._lane.run(self._partitions.prepare, ALL)

    async def writer(self, name: str | None = None) -> Writer:
        writer = _Writer(self._settings, self._partitions, name)
        self._open.append(writer)
        await writer.open()
        return writer

    async def member(self, group: str, topics: Sequence[Topic], start: Start, name: str) -> Member:
        await self._lane.run(self._partitions.slots, topics)
        member = _Member(Seat(self._settings, self._partitions, group, start, name))
        self._open.append(member)
        await member.open(topics)
        return member

    async def cursor(self, topics: Sequence[Topic], start: Start | datetime) -> Cursor:
        slots = await self._lane.run(self._partitions.slots, topics)
        cursor = _Cursor(self._settings)
        self._open.append(cursor)
        await cursor.open(slots, start)
        return cursor

    async def close(self) -> None:
        while self._open:
            await self._open.pop().close()
        self._lane.close()


class Sender:
    """A producer and the one way to hand it records. Blocking."""

    def __init__(self, settings: KafkaSettings, partitions: Partitions, name: str | None) -> None:
        self._partitions = partitions
        self._patience = settings.patience_seconds
        self._failed: list[KafkaError] = []
        self.named = name is not None
        self.producer = Producer(settings.producer(name))
        self._undecided = False
        if self.named:
            attempt(f"taking over writer {name}", self.producer.init_transactions, self._patience)

    def produce(self, records: Sequence[Outgoing]) -> None:
        """Hand all records to the producer; waits while its queue is full. Raises LogUnavailable, RecordTooLarge."""
        for record in records:
            self._produce(record)

    def _produce(self, record: Outgoing) -> None:
        deadline = time.monotonic() + self._patience
        while True:
            try:
                self.producer.produce(
                    record.topic.name,
                    record.value,
                    record.key.encode(),
                    self._partitions.of(record),
                    on_delivery=self._delivered,
                    headers=list(record.headers),
                )
                return
            except BufferError:
                if time.monotonic() > deadline:
                    raise LogUnavailable("kafka: the producer's queue stays full") from None
                self.producer.poll(0.05)
            except KafkaException as fault:
                raise translate(fault.args[0], f"appending to {record.topic.name}") from fault

    def _delivered(self, error: KafkaError | None, _message: Message) -> None:
        if error is not None:
            self._failed.append(error)

    def flush(self) -> None:
        """Wait until every record is acknowledged. Raises LogUnavailable."""
        left = self.producer.flush(self._patience + 1)
        failed, self._failed = self._failed, []
        if failed:
            raise translate(failed[0], "appending")
        if left:
            raise LogUnavailable(f"kafka: {left} records not acknowledged within {self._patience:.0f} s")

    def settle(self) -> bool:
        """End a transaction whose commit got no answer; True if it turns out committed. Raises as `conclude`."""
        if not self._undecided:
            return True
        return self.conclude()

    def conclude(self) -> bool:
        """Commit the open transaction; False when it had to be aborted. Raises Fenced, Rebalanced, LogUnavailable.

        A commit without an answer may have happened: it is asked again, here or at the next `settle`, never guessed.
        """
        self._undecided = True
        try:
            self.producer.commit_transaction(self._patience)
        except KafkaException as fault:
            self._fail(fault.args[0], "committing")
            return False
        self._undecided = False
        self._failed.clear()
        return True

    def _fail(self, error: KafkaError, doing: str) -> None:
        fault = translate(error, doing)
        if isinstance(fault, Fenced) or error.fatal():
            raise Fenced(str(fault))
        if error.txn_requires_abort():
            self.abort()
        raise fault

    def abort(self) -> None:
        """Undo the open transaction. Raises Fenced, LogUnavailable."""
        attempt("aborting", self.producer.abort_transaction, self._patience)
        self._undecided = False
        self._failed.clear()

    def transact(self, records: Sequence[Outgoing], offsets: list[TopicPartition], consumer: Consumer | None) -> None:
        """Records and read positions in one transaction. Raises as `conclude`; nothing is kept then."""
        attempt("beginning", self.producer.begin_transaction)
        try:
            self.produce(records)
            if consumer is not None and offsets:
                metadata = consumer.consumer_group_metadata()
                self.producer.send_offsets_to_transaction(offsets, metadata, self._patience)
        except KafkaException as fault:
            self._undo(translate(fault.args[0], "committing positions"))
        except AgentError as fault:
            self._undo(fault)
        self.conclude()

    def _undo(self, fault: AgentError) -> None:
        if not isinstance(fault, Fenced):
            self.abort()
        raise fault


class _Writer(Writer):
    def __init__(self, settings: KafkaSettings, partitions: Partitions, name: str | None) -> None:
        self._settings = settings
        self._partitions = partitions
        self._name = name
        self._lane = Lane(f"kafka-writer-{name or 'plain'}")
        self._sender: Sender | None = None

    async def open(self) -> None:
        self._sender = await self._lane.run(Sender, self._settings, self._partitions, self._name)

    async def append(self, records: Sequence[Outgoing]) -> None:
        await self._lane.run(self._append, records)

    def _append(self, records: Sequence[Outgoing]) -> None:
        sender = self._sender
        if sender is None:
            raise LogUnavailable("kafka: this writer is closed")
        measure(records)
        if sender.named:
            sender.settle()
            sender.transact(records, [], None)
        else:
            sender.produce(records)
            sender.flush()

    async def close(self) -> None:
        sender, self._sender = self._sender, None
        if sender is not None:
            await self._lane.run(sender.producer.flush, 2.0)
        self._lane.close()


class Seat:
    """A member's place in its group: consumer, transactional producer, and what was read since the last commit."""

    def __init__(self, settings: KafkaSettings, partitions: Partitions, group: str, start: Start, name: str) -> None:
        self._settings = settings
        self._partitions = partitions
        self._group = group
        self._start = start
        self._name = name
        self._consumer: Consumer | None = None
        self._sender: Sender | None = None
        self._begun: dict[Slot, int] = {}  # first offset read since the last commit
        self._next: dict[Slot, int] = {}  # offset after the last one read
        self._ahead: list[Message] = []  # read while joining
        self._assigned = False
        self._lost_work = False

    def join(self, topics: Sequence[Topic]) -> None:
        """Fence earlier holders of the name, join the group and wait for a share, but no longer than the patience."""
        self._sender = Sender(self._settings, self._partitions, self._name)
        self._consumer = Consumer(self._settings.member(self._group))
        self._consumer.subscribe(
            [topic.name for topic in topics],
            on_assign=self._on_assign,
            on_revoke=self._on_revoke,
            on_lost=self._on_revoke,
        )
        deadline = time.monotonic() + self._settings.patience_seconds
        while not self._assigned and time.monotonic() < deadline:
            message = self._consumer.poll(0.1)
            if message is not None and message.error() is None:
                self._ahead.append(message)

    def _on_assign(self, consumer: Consumer, gained: list[TopicPartition]) -> None:
        self._assigned = True
        if self._start is Start.NOW and gained:
            patience = self._settings.patience_seconds
            for partition in consumer.committed(gained, patience):
                if partition.offset < 0:
                    _, high = consumer.get_watermark_offsets(partition, patience)
                    partition.offset = high
                    consumer.commit(offsets=[partition], asynchronous=False)
        # Without an explicit assignment here, librdkafka assigns what it was given, from the committed positions.

    def _on_revoke(self, _consumer: Consumer, lost: list[TopicPartition]) -> None:
        gone = {(partition.topic, partition.partition) for partition in lost}
        self._lost_work |= bool(gone & set(self._begun))
        self._ahead = [m for m in self._ahead if (m.topic(), m.partition()) not in gone]
        for slot in gone:
            self._begun.pop(slot, None)
            self._next.pop(slot, None)

    def read(self, limit: int, timeout: float) -> list[Delivered]:
        """As `Member.read`."""
        consumer, sender = self._clients()
        if not sender.settle():
            self.rewind()
        messages, self._ahead = self._ahead[:limit], self._ahead[limit:]
        if not messages:
            messages = attempt("reading", consumer.consume, limit, timeout)
        found = []
        for message in messages:
            if (error := message.error()) is not None:
                self._complain(error)
                continue
            slot, offset = place(message)
            self._begun.setdefault(slot, offset)
            self._next[slot] = offset + 1
            found.append(delivered(message))
        return found

    def _complain(self, error: KafkaError) -> None:
        if error.fatal():
            raise translate(error, "reading")
        logger.warning("kafka: reading as %s: %s", self._name, error.str())

    def commit(self, outputs: Sequence[Outgoing]) -> None:
        """As `Member.commit`."""
        consumer, sender = self._clients()
        measure(outputs)
        if self._lost_work:
            self.rewind()
            raise Rebalanced(f"group {self._group}: partitions moved away from {self._name} before the commit")
        if not self._next and not outputs:
            return
        offsets = [TopicPartition(topic, partition, nxt) for (topic, partition), nxt in self._next.items()]
        try:
            sender.transact(outputs, offsets, consumer)
        except AgentError:
            self.rewind()
            raise
        self._begun.clear()
        self._next.clear()

    def rewind(self) -> None:
        """As `Member.rewind`."""
        consumer, _ = self._clients()
        self._lost_work = False
        held = {(p.topic, p.partition) for p in consumer.assignment()}
        for slot, offset in self._begun.items():
            if slot in held:
                attempt("rewinding", consumer.seek, TopicPartition(*slot, offset))
        self._ahead = [m for m in self._ahead if (m.topic(), m.partition()) not in self._begun]
        self._begun.clear()
        self._next.clear()

    def leave(self) -> None:
        """Leave the group and close both clients."""
        if self._consumer is not None:
            self._consumer.close()
            self._consumer = None
        if self._sender is not None:
            self._sender.producer.flush(0.5)
            self._sender = None

    def _clients(self) -> tuple[Consumer, Sender]:
        if self._consumer is None or self._sender is None:
            raise LogUnavailable("kafka: this member has left its group")
        return self._consumer, self._sender


class _Member(Member):
    def __init__(self, seat: Seat) -> None:
        self._seat = seat
        self._lane = Lane("kafka-member")
        self._closed = False

    async def open(self, topics: Sequence[Topic]) -> None:
        await self._lane.run(self._seat.join, topics)

    async def read(self, limit: int, timeout: float) -> list[Delivered]:
        return await self._lane.run(self._seat.read, limit, timeout)

    async def commit(self, outputs: Sequence[Outgoing] = ()) -> None:
        await self._lane.run(self._seat.commit, outputs)

    async def rewind(self) -> None:
        await self._lane.run(self._seat.rewind)

    async def close(self) -> None:
        if not self._closed:
            self._closed = True
            await self._lane.run(self._seat.leave)
            self._lane.close()


class _Cursor(Cursor):
    def __init__(self, settings: KafkaSettings) -> None:
        self._patience = settings.patience_seconds
        self._lane = Lane("kafka-cursor")
        self._consumer = Consumer(
            settings.consumer(f"redis-agent.cursor-{uuid.uuid4()}") | {"enable.partition.eof": True}
        )
        self._behind: set[Slot] = set()
        self._closed = False

    async def open(self, slots: list[Slot], start: Start | datetime) -> None:
        await self._lane.run(self._open, slots, start)

    def _open(self, slots: list[Slot], start: Start | datetime) -> None:
        partitions = [TopicPartition(topic, partition) for topic, partition in slots]
        highs = {
            (p.topic, p.partition): attempt("opening", self._consumer.get_watermark_offsets, p, self._patience)
            for p in partitions
        }
        if isinstance(start, datetime):
            for partition in partitions:
                partition.offset = int(start.timestamp() * 1000)
            partitions = attempt("opening", self._consumer.offsets_for_times, partitions, self._patience)
        for partition in partitions:
            low, high = highs[(partition.topic, partition.partition)]
            if start is Start.BEGINNING:
                partition.offset = low
            elif start is Start.NOW or partition.offset < 0:
                partition.offset = high
            if partition.offset < high:
                self._behind.add((partition.topic, partition.partition))
        self._consumer.assign(partitions)

    async def read(self, limit: int, timeout: float) -> list[Delivered]:
        return await self._lane.run(self._read, limit, timeout)

    def _read(self, limit: int, timeout: float) -> list[Delivered]:
        deadline = time.monotonic() + timeout
        found: list[Delivered] = []
        while not found:
            messages = attempt("reading", self._consumer.consume, limit, max(0.0, deadline - time.monotonic()))
            for message in messages:
                self._take(message, found)
            if not messages and time.monotonic() >= deadline:
                break
        found.sort(key=lambda record: record.at)
        return found

    def _take(self, message: Message, found: list[Delivered]) -> None:
        error = message.error()
        if error is None:
            found.append(delivered(message))
        elif error.code() == KafkaError._PARTITION_EOF:
            self._behind.discard(place(message)[0])
        elif error.fatal():
            raise translate(error, "reading")
        else:
            logger.warning("kafka: reading: %s", error.str())

    @property
    def caught_up(self) -> bool:
        return not self._behind

    async def close(self) -> None:
        if not self._closed:
            self._closed = True
            await self._lane.run(self._consumer.close)
            self._lane.close()
