"""A Kafka consumer that is waited on. Blocking."""

import logging
import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta

from confluent_kafka import Consumer, KafkaError, Message, TopicPartition

from redis_agent.clock import boot_seconds
from redis_agent.log import Delivered, Start
from redis_agent.log.balance import Slot
from redis_agent.log.kafka_client import attempt, attempt_patiently, delivered, place, translate
from redis_agent.log.kafka_partitions import BrokerTime

logger = logging.getLogger(__name__)
_SLICE_SECONDS = 0.5


class Reader:
    """Takes what came, and finds out whether silence means that nothing was written or that nobody is there.

    librdkafka says nothing to a reader whose brokers are gone, or stand still with their connections open. So after
    half the patience without a record the brokers are asked for a topic's metadata, and given the other half to answer.
    """

    def __init__(self, consumer: Consumer, topic: str, patience_seconds: float, broker_time: BrokerTime) -> None:
        self.consumer = consumer
        self._time = broker_time
        self._at_end: dict[Slot, float] = {}  # when a partition's end was last seen, by `boot_seconds`
        self._topic = topic
        self._patience = patience_seconds
        self._heard = time.monotonic()
        self._first: Message | None = None
        self._looked_at = self._queued_from = boot_seconds()
        self.behind: dict[Slot, int] = {}
        """Partitions that weren't read to the end that they had when the reader was placed, and that end."""

    def take(self, limit: int, timeout: float) -> list[Delivered]:
        """Up to `limit` records; waits up to `timeout` seconds for the first, or until nothing is `behind` any more.

        Raises LogUnavailable.
        """
        deadline = time.monotonic() + timeout
        behind = bool(self.behind)
        while True:
            left = max(0.0, deadline - time.monotonic())
            # What is fetched now was queued since the last look, an end that is told among it may be as old as that.
            self._queued_from, self._looked_at = self._looked_at, boot_seconds()
            found = self._records(self._batch(limit, min(left, _SLICE_SECONDS)))
            if found or left == 0.0 or (behind and not self.behind):
                return found

    def _batch(self, limit: int, timeout: float) -> list[Message]:
        # `consume` waits until it has all `limit` messages; so it may only fetch what is there behind the first one.
        self._first = attempt("reading", self.consumer.poll, timeout)
        if self._first is None:
            self._ask()
            return []
        self._heard = time.monotonic()
        more = attempt("reading", self.consumer.consume, limit - 1, 0.0) if limit > 1 else []
        return more if self._first is None else [self._first, *more]

    def drop(self, slots: Collection[Slot]) -> None:
        """These partitions moved away while the consumer was being asked: what it gave of them before is others' work."""
        if self._first is not None and place(self._first)[0] in slots:
            self._first = None

    def _ask(self) -> None:
        if time.monotonic() - self._heard > self._patience / 2:
            attempt("waiting for records", self.consumer.list_topics, self._topic, self._patience / 2)
            self._heard = time.monotonic()

    def _records(self, messages: Iterable[Message]) -> list[Delivered]:
        return [self._record(message) for message in messages if self._is_record(message)]

    def _record(self, message: Message) -> Delivered:
        self._time.note(message)
        record = delivered(message)
        slot = (record.topic, record.partition)
        if record.offset + 1 >= self.behind.get(slot, record.offset + 2):
            del self.behind[slot]
        if (at_end := self._at_end.get(slot)) is None:
            return record
        return replace(record, unread=timedelta(seconds=boot_seconds() - at_end))

    def _is_record(self, message: Message) -> bool:
        error = message.error()
        if error is None:
            return True
        if error.code() == KafkaError._PARTITION_EOF:
            slot, offset = place(message)
            self._at_end[slot] = self._queued_from
            # What stands before the end may still be undecided: a reader of committed records is told of an earlier one.
            if offset >= self.behind.get(slot, 0):
                self.behind.pop(slot, None)
        elif error.fatal():
            raise translate(error, "reading")
        else:
            logger.warning("kafka: reading: %s", error.str())
        return False

    def close(self) -> None:
        """Leave the group, if it is in one, and end."""
        self.consumer.close()

    def place(self, ends: Mapping[Slot, tuple[int, int]], start: Start | datetime) -> None:
        """Begin reading these partitions, whose ends are as given, from `start` on. Raises LogUnavailable."""
        partitions = [TopicPartition(topic, partition) for topic, partition in ends]
        if isinstance(start, datetime):
            for partition in partitions:
                partition.offset = int(start.timestamp() * 1000)
            asked = self.consumer.offsets_for_times
            partitions = attempt_patiently("placing", self._patience, asked, partitions, self._patience)
        for partition in partitions:
            slot = (partition.topic, partition.partition)
            low, high = ends[slot]
            if start is Start.BEGINNING:
                partition.offset = low
            elif start is Start.NOW or partition.offset < 0:
                partition.offset = high
            if partition.offset < high:
                self.behind[slot] = high
        self.consumer.assign(partitions)
