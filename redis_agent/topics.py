"""The data flow as a table. Nothing else names a topic.

| topic              | key → partition                   | value                             | written by | read by                         |
| ------------------ | --------------------------------- | --------------------------------- | ---------- | ------------------------------- |
| metrics.v1         | vantage, partition by site's hash | one Arrow IPC stream of samples   | collector  | detector, any Arrow reader      |
| observations.v1    | site@vantage, partition by instance | `Observation`                     | collector  | controller                      |
| anomalies.v1       | instance id                       | `Anomaly`                         | detector   | controller, notifier            |
| failovers.v1       | instance id                       | `FailoverEvent`                   | controller | controller (replay), notifier   |
| alerts.v1          | alert group                       | `AlertEvent`                      | notifier   | notifier (replay), gateway      |
| deadletter.v1      | as it came                        | the bytes as they came            | all        | people                          |
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import NewType
from zlib import crc32

TopicName = NewType("TopicName", str)


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic: its name, how it is spread, and how long its records are kept."""

    name: TopicName
    partitions: int
    kept: timedelta
    schema: str
    compacted: bool = False


METRICS = Topic(TopicName("redis-agent.metrics.v1"), 8, timedelta(hours=24), "redis-agent.samples.v1+arrow")
OBSERVATIONS = Topic(
    TopicName("redis-agent.observations.v1"), 4, timedelta(hours=24), "redis_agent.v1.Observation", compacted=True
)
ANOMALIES = Topic(TopicName("redis-agent.anomalies.v1"), 4, timedelta(days=30), "redis_agent.v1.Anomaly")
FAILOVERS = Topic(TopicName("redis-agent.failovers.v1"), 4, timedelta(days=400), "redis_agent.v1.FailoverEvent")
ALERTS = Topic(TopicName("redis-agent.alerts.v1"), 4, timedelta(days=400), "redis_agent.v1.AlertEvent")
DEADLETTER = Topic(TopicName("redis-agent.deadletter.v1"), 1, timedelta(days=30), "bytes")

ALL = (METRICS, OBSERVATIONS, ANOMALIES, FAILOVERS, ALERTS, DEADLETTER)
BY_NAME = {topic.name: topic for topic in ALL}


def partition_of(key: str, partitions: int) -> int:
    """Partition of a key: CRC-32 modulo the count, the same for every log and every language."""
    return crc32(key.encode()) % partitions


def find(name: str) -> Topic | None:
    """The topic of that full or short name (`failovers` for `redis-agent.failovers.v1`), or None."""
    for topic in ALL:
        if name in (topic.name, topic.name.removeprefix("redis-agent.").removesuffix(".v1")):
            return topic
    return None
