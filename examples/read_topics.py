"""Reads redis-agent's topics from Kafka with nothing of redis-agent: confluent-kafka and pyarrow are enough.

    python examples/read_topics.py --bootstrap localhost:9092 --limit 10

A record of the metrics topic is one Arrow IPC stream: the samples of one tick. Its schema carries its version, and each
column its unit. A record of the observations topic is a protobuf message, `Observations` of
`proto/redis_agent/v1/observation.proto`: what one vantage says in one tick; who wrote it, in which order and in which trace
stands in its headers, as in every topic's.
"""

import argparse
import sys
import time
from collections.abc import Iterator

import pyarrow as pa
from confluent_kafka import OFFSET_BEGINNING, Consumer, Message, TopicPartition

METRICS = "redis-agent.metrics.v1"
OBSERVATIONS = "redis-agent.observations.v1"
COLUMNS = ("at", "instance", "datacenter", "role", "ping_seconds", "commands_processed_total", "memory_used_bytes")


def main() -> int:
    """Print up to `--limit` records, or what came in `--seconds`."""
    parser = argparse.ArgumentParser(description="Read redis-agent's topics with plain Kafka and Arrow libraries.")
    parser.add_argument("--bootstrap", default="localhost:9092", help="Kafka's address (default: %(default)s)")
    parser.add_argument("--topic", choices=["metrics", "observations"], help="one of the two; else both")
    parser.add_argument("--limit", type=int, default=20, help="end after so many records (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=30, help="end after so long (default: %(default)s)")
    given = parser.parse_args()
    topics = {"metrics": [METRICS], "observations": [OBSERVATIONS]}.get(given.topic, [METRICS, OBSERVATIONS])
    consumer = Consumer(
        {
            "bootstrap.servers": given.bootstrap,
            "group.id": "redis-agent-example",  # asked for, and not used: nothing is committed
            "enable.auto.commit": False,
        }
    )
    try:
        consumer.assign(partitions(consumer, topics))
        count = 0
        for message in messages(consumer, given.limit, given.seconds):
            count += 1
            print(metrics(message) if message.topic() == METRICS else observation(message), flush=True)
    finally:
        consumer.close()
    print(f"{count} records", file=sys.stderr)
    return 0 if count else 1


def partitions(consumer: Consumer, topics: list[str]) -> list[TopicPartition]:
    """Every partition of the topics, from its beginning."""
    known = consumer.list_topics(timeout=10).topics
    missing = [topic for topic in topics if topic not in known]
    if missing:
        sys.exit(f"no topic {', '.join(missing)} there: has redis-agent written to this Kafka?")
    return [TopicPartition(topic, n, OFFSET_BEGINNING) for topic in topics for n in known[topic].partitions]


def messages(consumer: Consumer, limit: int, seconds: float) -> Iterator[Message]:
    """Records as they come, up to so many and so long."""
    until = time.monotonic() + seconds
    while limit > 0 and time.monotonic() < until:
        message = consumer.poll(0.5)
        if message is None:
            continue
        if (fault := message.error()) is not None:
            sys.exit(f"Kafka: {fault.str()}")
        limit -= 1
        yield message


def metrics(message: Message) -> str:
    """A batch as a table: the version above, units in the heading, `-` where the target gave nothing."""
    batch = pa.ipc.open_stream(message.value() or b"").read_all()
    told = {key.decode(): value.decode() for key, value in (batch.schema.metadata or {}).items()}
    heading = [titled(batch.schema.field(name)) for name in COLUMNS]
    rows = [[shown(row[name]) for name in COLUMNS] for row in batch.to_pylist()]
    widths = [max(len(line[n]) for line in [heading, *rows]) for n in range(len(COLUMNS))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in [heading, *rows]
    ]
    return "\n".join(
        [f"{place(message)}: {told['schema']} version {told['version']}", *(f"  {line.rstrip()}" for line in lines)]
    )


def titled(field: pa.Field) -> str:
    """A column's name and its unit."""
    unit = (field.metadata or {}).get(b"unit", b"").decode()
    return f"{field.name} [{unit}]" if unit else str(field.name)


def shown(value: object) -> str:
    """A cell."""
    return "-" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)


def observation(message: Message) -> str:
    """What the headers say."""
    told = "  ".join(f"{name}={text(value)}" for name, value in dict(message.headers() or []).items())
    return f"{place(message)}: {told}"


def place(message: Message) -> str:
    """Where the record stands, and its key."""
    return f"{message.topic()}/{message.partition()}/{message.offset()} {text(message.key())}"


def text(value: str | bytes | None) -> str:
    """Keys and header values are UTF-8."""
    return value.decode() if isinstance(value, bytes) else value or ""


if __name__ == "__main__":
    sys.exit(main())
