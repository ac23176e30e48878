"""Which partitions Kafka's topics have, where each ends, and what the brokers' time is. Blocking."""

import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from confluent_kafka import (
    OFFSET_INVALID,
    TIMESTAMP_LOG_APPEND_TIME,
    IsolationLevel,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._listoffsets import OffsetSpec
from confluent_kafka.cimpl import NewTopic

from redis_agent.clock import boot_seconds
from redis_agent.errors import ConfigurationError, LogUnavailable
from redis_agent.log import Outgoing
from redis_agent.log.balance import Slot
from redis_agent.log.kafka_client import WIRE_BYTES, KafkaSettings, attempt, attempt_patiently, translate
from redis_agent.topics import ALL, Topic, partition_of

PARTITIONS = 24
"""Of what is keyed by instance, where the configuration doesn't say."""


class BrokerTime:
    """The brokers' clocks, as the times that they gave to records tell. For any thread.

    What they append for us now tells it, and corrects what was believed before. Else the latest record that was met does: it is
    no later than their clocks were, so it may be behind them, and is ahead only where one of them was set back since.
    """

    def __init__(self) -> None:
        self._known: tuple[float, float] | None = None  # seconds since 1970, and when that was so by `boot_seconds`

    def note(self, message: Message) -> None:
        """A message that was appended lately, or long ago."""
        at = _appended_at(message)
        if at is not None:
            self.heard(at)

    def note_own(self, message: Message) -> None:
        """A message of ours that was appended just now."""
        at = _appended_at(message)
        if at is not None:
            self._known = at, boot_seconds()

    def heard(self, at: float) -> None:
        """Somebody's clock was there."""
        known = self.now()
        if known is None or at > known:
            self._known = at, boot_seconds()

    def now(self) -> float | None:
        """Seconds since 1970; None when nothing was heard."""
        known = self._known
        return None if known is None else known[0] + boot_seconds() - known[1]


def _appended_at(message: Message) -> float | None:
    kind, milliseconds = message.timestamp()
    return milliseconds / 1000 if kind == TIMESTAMP_LOG_APPEND_TIME else None


class Partitions:
    """How many partitions each topic has, asked of the brokers once."""

    def __init__(self, settings: KafkaSettings) -> None:
        self.time = BrokerTime()
        self._settings = settings
        self._admin: AdminClient | None = None
        self._counts: dict[str, int] = {}
        self._keyed: list[Topic] = []

    def prepare(self, topics: Sequence[Topic]) -> None:
        """Create the topics that don't exist. Raises LogUnavailable, ConfigurationError for another number of partitions."""
        known = self._listed()
        self._keyed = [topic for topic in topics if topic.partitions is None]
        each = self._made_with(known)
        if missing := [topic for topic in topics if topic.name not in known]:
            self._create(missing, each)
            self._await(missing)

    def _made_with(self, known: Mapping[str, int]) -> int:
        """Partitions of what is keyed by instance, the same for all: an instance's records meet in one process."""
        wanted = self._settings.partitions
        made = {topic.name: known[topic.name] for topic in self._keyed if topic.name in known}
        counts = set(made.values()) | ({wanted} if wanted is not None else set())
        if len(counts) > 1:
            told = ", ".join(f"{name} has {count}" for name, count in made.items())
            right = "write the number that all of them have, or give them one number with your brokers' tools"
            raise ConfigurationError([f"log.kafka.partitions: {wanted or 'not given'}, but {told}; {right}"])
        return counts.pop() if counts else PARTITIONS

    def _create(self, missing: Sequence[Topic], each: int) -> None:
        for name, future in self._client().create_topics([self._declared(topic, each) for topic in missing]).items():
            try:
                future.result(self._settings.patience_seconds)
            except KafkaException as fault:
                if fault.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                    raise translate(fault.args[0], f"creating topic {name}") from fault
            except TimeoutError:
                raise LogUnavailable(f"kafka: creating topic {name}: no answer") from None

    def _await(self, created: Sequence[Topic]) -> None:
        # The controller created them; the brokers hear of it a moment later.
        deadline = time.monotonic() + self._settings.patience_seconds
        while not {topic.name for topic in created} <= self._listed().keys():
            if time.monotonic() > deadline:
                raise LogUnavailable("kafka: the brokers don't know the topics that were created")
            time.sleep(0.05)

    def count(self, topic: Topic) -> int:
        """Partitions of the topic. Raises LogUnavailable when it doesn't exist yet."""
        if topic.name not in self._counts:
            self._counts.update(self._listed())
        if topic.name not in self._counts:
            raise LogUnavailable(f"kafka: topic {topic.name} doesn't exist yet")
        return self._counts[topic.name]

    def of(self, record: Outgoing) -> int:
        """The partition that the record goes to."""
        return partition_of(record.key if record.spread is None else record.spread, self.count(record.topic))

    def slots(self, topics: Sequence[Topic]) -> list[Slot]:
        """Every partition of the topics."""
        return [(topic.name, p) for topic in topics for p in range(self.count(topic))]

    def now(self) -> datetime:
        """The brokers' time. Raises LogUnavailable."""
        if self.time.now() is None:
            self._ask_time()
        known = self.time.now()
        # Of a log in which nothing was ever appended nobody asks for an age.
        return datetime.now(UTC) if known is None else datetime.fromtimestamp(known, UTC)

    def _ask_time(self) -> None:
        slots = self.slots([topic for topic in ALL if topic.name in self._listed()])
        for newest in self._asked(slots, OffsetSpec.max_timestamp()).values():
            if newest.timestamp > 0:
                self.time.heard(newest.timestamp / 1000)

    def ends(self, slots: Sequence[Slot]) -> dict[Slot, tuple[int, int]]:
        """Of each partition its first offset and the one that the next record will have. Raises LogUnavailable.

        What stands before the end may be part of a transaction that isn't decided yet.
        """
        firsts = self._offsets(slots, OffsetSpec.earliest())
        lasts = self._offsets(slots, OffsetSpec.latest())
        return {slot: (firsts[slot], lasts[slot]) for slot in slots}

    def _offsets(self, slots: Sequence[Slot], which: OffsetSpec) -> dict[Slot, int]:
        return {slot: found.offset for slot, found in self._asked(slots, which).items()}

    def _asked(self, slots: Sequence[Slot], which: OffsetSpec) -> dict[Slot, Any]:
        patience = self._settings.patience_seconds / 2

        def ask() -> dict[Slot, Any]:
            asked = self._client().list_offsets(
                {TopicPartition(*slot): which for slot in slots},
                isolation_level=IsolationLevel.READ_UNCOMMITTED,
                request_timeout=patience,
            )
            try:
                found = {(each.topic, each.partition): future.result(patience + 1) for each, future in asked.items()}
            except KafkaException:
                self._listed()  # it may know the leaders as they were before a broker came back
                raise
            if any(each.offset == OFFSET_INVALID for each in found.values()):  # how a time-out is told
                raise LogUnavailable("kafka: asking for ends: no answer")
            return found

        return attempt_patiently("asking for ends", patience, ask) if slots else {}

    def _client(self) -> AdminClient:
        if self._admin is None:
            self._admin = AdminClient(self._settings.common())
        return self._admin

    def _listed(self) -> dict[str, int]:
        self._client().poll(0)  # lets it say what it logged meanwhile
        listed = attempt("listing topics", self._client().list_topics, None, self._settings.patience_seconds)
        return {name: len(topic.partitions) for name, topic in listed.topics.items() if topic.error is None}

    def _declared(self, topic: Topic, each: int) -> NewTopic:
        return NewTopic(
            topic.name,
            topic.partitions or each,
            self._settings.replication_factor,
            config={
                "retention.ms": str(int(topic.kept.total_seconds() * 1000)),
                "cleanup.policy": "compact,delete" if topic.compacted else "delete",
                "max.message.bytes": str(WIRE_BYTES),
                # What is acknowledged survives the loss of a broker, where there are several.
                "min.insync.replicas": str(max(1, self._settings.replication_factor - 1)),
                # The brokers' clocks: a producer's that is wrong must not decide what retention removes.
                "message.timestamp.type": "LogAppendTime",
            },
        )
