"""Apache Kafka through confluent-kafka: settings, errors and topics. Blocking; `kafka` runs it on threads of its own."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeVar

from confluent_kafka import (
    KafkaError,
    KafkaException,
    Message,
)
from tenacity import Retrying, retry_if_exception_type, stop_before_delay, wait_fixed

from redis_agent.errors import AgentError, ConfigurationError, Fenced, LogUnavailable, Rebalanced, RecordTooLarge
from redis_agent.log import MAX_RECORD_BYTES, Delivered, Outgoing
from redis_agent.log.balance import Slot
from redis_agent.topics import TopicName

R = TypeVar("R")
_AGAIN_SECONDS = 0.1

# Room for a record's key, headers and framing beside its value.
WIRE_BYTES = MAX_RECORD_BYTES + 1024 * 1024

_FENCED = frozenset(
    {KafkaError._FENCED, KafkaError.PRODUCER_FENCED, KafkaError.INVALID_PRODUCER_EPOCH, KafkaError.FENCED_INSTANCE_ID}
)
_MOVED = frozenset(
    {
        KafkaError.ILLEGAL_GENERATION,
        KafkaError.UNKNOWN_MEMBER_ID,
        KafkaError.REBALANCE_IN_PROGRESS,
        KafkaError.FENCED_MEMBER_EPOCH,
        KafkaError.STALE_MEMBER_EPOCH,
        KafkaError._ASSIGNMENT_LOST,
    }
)


@dataclass(frozen=True, slots=True)
class KafkaSettings:
    """How to reach the brokers. `security` is in librdkafka's property names (`security.protocol`, `sasl.username`, …).

    `group_protocol` is `classic` (cooperative-sticky; any broker) or `consumer` (KIP-848; brokers from 4.0 on).
    """

    bootstrap_servers: str
    security: Mapping[str, str] = field(default_factory=dict)
    replication_factor: int = 1
    partitions: int | None = None  # of what is keyed by instance; None: as the log was made
    group_protocol: str = "classic"
    session_seconds: float = 6.0
    patience_seconds: float = 10.0

    def common(self) -> dict[str, Any]:
        """Properties that every client has."""
        return {
            "bootstrap.servers": self.bootstrap_servers,
            "client.id": "redis-agent",
            "reconnect.backoff.ms": 50,
            "reconnect.backoff.max.ms": 1000,
            "retry.backoff.ms": 10,
            "socket.keepalive.enable": True,
            "socket.timeout.ms": max(2000, int(self.patience_seconds * 1000)),
            "error_cb": _say,
            "logger": _LIBRDKAFKA,
            **self.security,
        }

    def producer(self, name: str | None, patience_seconds: float | None = None) -> dict[str, Any]:
        """Properties of an idempotent producer; transactional when named."""
        patience = int((patience_seconds or self.patience_seconds) * 1000)
        properties = self.common() | {
            "enable.idempotence": True,
            "acks": "all",
            "linger.ms": 0,
            "compression.type": "zstd",
            "message.max.bytes": WIRE_BYTES,
            "message.timeout.ms": patience,
        }
        if name is not None:
            properties |= {"transactional.id": f"redis-agent.{name}", "transaction.timeout.ms": max(patience, 30_000)}
        return properties

    def consumer(self, group: str) -> dict[str, Any]:
        """Properties of a consumer that sees committed records only and commits nothing by itself."""
        return self.common() | {
            "group.id": group,
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
            "auto.offset.reset": "earliest",
            "fetch.message.max.bytes": WIRE_BYTES,
            "fetch.max.bytes": 2 * WIRE_BYTES,
            "receive.message.max.bytes": 3 * WIRE_BYTES,
            "queued.max.messages.kbytes": 8 * 1024,
            "fetch.wait.max.ms": 100,
            "fetch.error.backoff.ms": 50,
            "topic.metadata.refresh.interval.ms": 10_000,
        }

    def member(self, group: str) -> dict[str, Any]:
        """Properties of a member of a group."""
        properties = self.consumer(f"redis-agent.{group}") | {
            "group.protocol": self.group_protocol,
            # Also how long a rebalance waits for a member that is there and doesn't answer.
            "max.poll.interval.ms": 60_000,
        }
        if self.group_protocol == "classic":
            properties |= {
                "partition.assignment.strategy": "cooperative-sticky",
                "session.timeout.ms": int(self.session_seconds * 1000),
                "heartbeat.interval.ms": int(self.session_seconds * 1000 / 3),
            }
        return properties


_LIBRDKAFKA = logging.getLogger("librdkafka")


def _say(error: KafkaError) -> None:
    # Without a callback librdkafka prints these on stderr. What they lead to is raised where it matters.
    _LIBRDKAFKA.info("kafka: %s", error.str())


def translate(error: KafkaError, doing: str) -> AgentError:
    """A Kafka error as ours."""
    text = f"kafka: {doing}: {error.str()}"
    if error.code() in _FENCED:
        return Fenced(text + " (a newer process took this name over)")
    if error.fatal() and error.code() != KafkaError.INVALID_TXN_STATE:
        return Fenced(text + " (start this process anew)")
    if error.code() in _MOVED:
        return Rebalanced(text)
    if error.code() == KafkaError.MSG_SIZE_TOO_LARGE:
        return RecordTooLarge(text)
    if error.code() in (KafkaError._INVALID_ARG, KafkaError._UNKNOWN_PROTOCOL):
        return ConfigurationError([f"log.kafka: {error.str()}"])
    return LogUnavailable(text)


def attempt(doing: str, call: Callable[..., R], *args: Any) -> R:
    """Call Kafka; its errors as ours."""
    try:
        return call(*args)
    except KafkaException as fault:
        raise translate(fault.args[0], doing) from fault


def attempt_patiently(doing: str, patience_seconds: float, call: Callable[..., R], *args: Any) -> R:
    """As `attempt`, again and again for as long as the patience lasts: leaders move, and brokers come back."""
    again = Retrying(
        retry=retry_if_exception_type(LogUnavailable),
        wait=wait_fixed(_AGAIN_SECONDS),
        stop=stop_before_delay(patience_seconds),
        reraise=True,
    )
    found: R = again(attempt, doing, call, *args)
    return found


def measure(records: Sequence[Outgoing]) -> None:
    """Raises RecordTooLarge before anything is sent."""
    for record in records:
        if len(record.value) > MAX_RECORD_BYTES:
            raise RecordTooLarge(
                f"a record of {len(record.value)} bytes for {record.topic.name} exceeds the limit of"
                f" {MAX_RECORD_BYTES} bytes"
            )


def delivered(message: Message) -> Delivered:
    """A Kafka message as ours."""
    _, millis = message.timestamp()
    (topic, partition), offset = place(message)
    headers: Any = message.headers() or ()
    return Delivered(
        topic=TopicName(topic),
        partition=partition,
        offset=offset,
        at=datetime.fromtimestamp(millis / 1000, UTC),
        key=_text(message.key()),
        value=message.value() or b"",
        headers=tuple((name, value or b"") for name, value in headers),
    )


def place(message: Message) -> tuple[Slot, int]:
    """Where a message that was read stands: its partition and its offset."""
    topic, partition, offset = message.topic(), message.partition(), message.offset()
    if topic is None or partition is None or offset is None:
        raise LogUnavailable("kafka: a message without a place")
    return (topic, partition), offset


def _text(key: bytes | str | None) -> str:
    # Keys of ours are text; what another program wrote stays recognisable.
    return key.decode(errors="backslashreplace") if isinstance(key, bytes) else key or ""
