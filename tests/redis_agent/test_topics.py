"""The data flow's table: names, partitions and how long records are kept are what other people's readers rely on."""

import re
import subprocess
from datetime import timedelta
from pathlib import Path

import pytest
from google.protobuf.message import Message
from hypothesis import given
from hypothesis import strategies as st

from redis_agent import topics
from redis_agent.v1 import alert_pb2, anomaly_pb2, control_pb2, failover_pb2, finding_pb2, observation_pb2

ROOT = Path(__file__).resolve().parents[2]


def test_the_topics_are_named_as_the_contract_names_them() -> None:
    assert [topic.name for topic in topics.ALL] == [
        "redis-agent.metrics.v1",
        "redis-agent.observations.v1",
        "redis-agent.findings.v1",
        "redis-agent.anomalies.v1",
        "redis-agent.failovers.v1",
        "redis-agent.alerts.v1",
        "redis-agent.control.v1",
        "redis-agent.deadletter.v1",
    ]
    assert list(topics.BY_NAME.values()) == list(topics.ALL)


def test_records_are_kept_as_long_as_the_table_says() -> None:
    kept = {topic.name.split(".")[1]: topic.kept for topic in topics.ALL}
    day = timedelta(days=1)
    assert kept == {
        "metrics": day,
        "observations": day / 24,
        "findings": 30 * day,
        "anomalies": 30 * day,
        "failovers": 400 * day,
        "alerts": 400 * day,
        "control": topics.FOREVER,
        "deadletter": 30 * day,
    }
    assert [topic for topic in topics.ALL if topic.compacted] == [topics.FINDINGS, topics.CONTROL]


def test_what_is_keyed_by_instance_has_as_many_partitions_as_the_log_was_made_with_and_the_rest_one() -> None:
    assert [topic for topic in topics.ALL if topic.partitions is None] == [
        topics.METRICS,
        topics.ANOMALIES,
        topics.FAILOVERS,
        topics.ALERTS,
    ]
    assert {topic.partitions for topic in topics.ALL} == {None, 1}


def test_the_schema_header_names_the_message_that_the_value_is() -> None:
    messages: dict[topics.Topic, type[Message]] = {
        topics.OBSERVATIONS: observation_pb2.Observations,
        topics.FINDINGS: finding_pb2.Finding,
        topics.CONTROL: control_pb2.ControlRecord,
        topics.ANOMALIES: anomaly_pb2.Anomaly,
        topics.FAILOVERS: failover_pb2.FailoverEvent,
        topics.ALERTS: alert_pb2.AlertEvent,
    }
    for topic, message in messages.items():
        assert topic.schema == message.DESCRIPTOR.full_name


@pytest.mark.parametrize("topic", topics.ALL, ids=lambda topic: topic.name)
def test_a_topic_is_found_by_its_full_and_by_its_short_name(topic: topics.Topic) -> None:
    assert topics.find(topic.name) is topic
    assert topics.find(topic.name.split(".")[1]) is topic


@pytest.mark.parametrize("name", ["", "metric", "redis-agent.metrics", "metrics.v1", "redis-agent.metrics.v2"])
def test_another_name_finds_nothing(name: str) -> None:
    assert topics.find(name) is None


def test_the_partition_of_a_key_is_the_same_for_ever() -> None:
    # CRC-32 as in zlib, Java, Go: a reader in another language must come to the same partition.
    assert [topics.partition_of(key, 8) for key in ("orders", "carts", "orders/dc-east", "")] == [6, 4, 4, 0]
    assert topics.partition_of("123456789", 2**32) == 0xCBF43926  # the check value of CRC-32/ISO-HDLC


@given(key=st.text(), partitions=st.integers(1, 64))
def test_every_key_has_a_partition_that_exists(key: str, partitions: int) -> None:
    assert 0 <= topics.partition_of(key, partitions) < partitions


def test_nothing_else_names_a_topic() -> None:
    tracked = subprocess.run(["git", "ls-files", "*.py"], cwd=ROOT, capture_output=True, text=True, check=True)
    ours = [name for name in tracked.stdout.split() if not name.startswith(("tests/", "examples/", "benchmarks/"))]
    named = re.compile(
        r"redis-agent\.(metrics|observations|findings|control|anomalies|failovers|alerts|deadletter)\.v\d"
    )
    found = [name for name in ours if (ROOT / name).exists() and named.search((ROOT / name).read_text())]
    assert found == ["redis_agent/topics.py"]
