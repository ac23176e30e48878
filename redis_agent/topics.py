"""The data flow as a table. Nothing else names a topic.

| topic           | key → partition             | value                                     | written by   | read by                             |
| --------------- | --------------------------- | ----------------------------------------- | ------------ | ----------------------------------- |
| metrics.v1      | instance                    | one Arrow IPC stream: the samples of one tick of a partition's sites | collector | detector, any Arrow reader |
| observations.v1 | sender (vantage)            | `Observations`: all that it says in one tick; at once, alone, what is news | collector | controller |
| findings.v1     | kind, subject, reporter     | `Finding`, the newest of each key          | every service | notifier, controller                |
| anomalies.v1    | instance                    | `Anomaly`                                  | detector     | controller, notifier, detector      |
| failovers.v1    | instance                    | `FailoverEvent`                            | controller   | controller (replay), notifier       |
| alerts.v1       | alert group                 | `AlertEvent`                               | notifier     | notifier (replay), gateway          |
| control.v1      | what it is, see CONTROL_KEYS | `ControlRecord`, the newest of each key    | as listed    | the services that it concerns       |
| deadletter.v1   | as it came                  | the bytes as they came                     | all          | people                              |

What is keyed by instance is spread over as many partitions as the log was made with; the others have one.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from types import MappingProxyType
from typing import NewType
from zlib import crc32

TopicName = NewType("TopicName", str)
FOREVER = timedelta(days=36_500)


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic: its name, how it is spread, and how long its records are kept. A compacted one keeps the newest of a key."""

    name: TopicName
    partitions: int | None
    """None: of what is keyed by instance, as many as the log was made with."""
    kept: timedelta
    schema: str
    compacted: bool = False


METRICS = Topic(TopicName("redis-agent.metrics.v1"), None, timedelta(hours=24), "redis-agent.samples.v1+arrow")
OBSERVATIONS = Topic(TopicName("redis-agent.observations.v1"), 1, timedelta(hours=1), "redis_agent.v1.Observations")
FINDINGS = Topic(TopicName("redis-agent.findings.v1"), 1, timedelta(days=30), "redis_agent.v1.Finding", compacted=True)
ANOMALIES = Topic(TopicName("redis-agent.anomalies.v1"), None, timedelta(days=30), "redis_agent.v1.Anomaly")
FAILOVERS = Topic(TopicName("redis-agent.failovers.v1"), None, timedelta(days=400), "redis_agent.v1.FailoverEvent")
ALERTS = Topic(TopicName("redis-agent.alerts.v1"), None, timedelta(days=400), "redis_agent.v1.AlertEvent")
CONTROL = Topic(TopicName("redis-agent.control.v1"), 1, FOREVER, "redis_agent.v1.ControlRecord", compacted=True)
DEADLETTER = Topic(TopicName("redis-agent.deadletter.v1"), 1, timedelta(days=30), "bytes")

ALL = (METRICS, OBSERVATIONS, FINDINGS, ANOMALIES, FAILOVERS, ALERTS, CONTROL, DEADLETTER)
BY_NAME = {topic.name: topic for topic in ALL}

FLEET = "@fleet"
"""The subject, or the part of a key, that stands for all instances: no instance is called so."""

CONTROL_KEYS: Mapping[str, str] = MappingProxyType(
    {
        # first part of the key: who writes it
        "pause": "controller; `redis-agent pause` and `resume` where none answers",  # pause/@fleet, pause/INSTANCE
    }
)


def pause_key(instance: str | None) -> str:
    """The control key of the pause of one instance, or of the whole fleet."""
    return f"pause/{instance or FLEET}"


def partition_of(key: str, partitions: int) -> int:
    """Partition of a key: CRC-32 modulo the count, the same for every log and every language."""
    return crc32(key.encode()) % partitions


def find(name: str) -> Topic | None:
    """The topic of that full or short name (`failovers` for `redis-agent.failovers.v1`), or None."""
    for topic in ALL:
        if name in (topic.name, topic.name.removeprefix("redis-agent.").removesuffix(".v1")):
            return topic
    return None
