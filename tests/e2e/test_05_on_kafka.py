"""Story 5: the same on a real Kafka, from the outside: the demo ends as it should, and its journal is there to read."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from simulator.kafka_broker import KafkaCluster
from simulator.ports import free_ports
from tests.e2e.child import ROOT

WITHIN_SECONDS = 200


def redis_agent(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "redis_agent.cli", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=WITHIN_SECONDS)


@pytest.mark.long
@pytest.mark.timeout(WITHIN_SECONDS + 150)
def test_the_demo_ends_as_it_should_on_kafka_and_the_journal_can_be_read_afterwards(
    fleet_kafka: KafkaCluster, tmp_path: Path
) -> None:
    (port,) = free_ports(1)
    where = ("--kafka", fleet_kafka.bootstrap_servers, "--port", str(port), "--keep", str(tmp_path))
    ended = redis_agent("demo", "--headless", *where)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "FAIL" not in ended.stdout

    config = str(tmp_path / "fleet-controller.json")
    read = redis_agent("tail", "failovers", "--from", "beginning", "--limit", "12", "--json", "--config", config)
    assert read.returncode == 0, read.stderr
    records = [json.loads(line) for line in read.stdout.splitlines()]
    kinds = [record["value"]["kind"] for record in records]
    assert kinds == ["decided", *["intent", "outcome"] * 4, "intent", "ended", "fenced_late"]
    assert len({record["value"]["failover"] for record in records}) == 1
    assert records[10]["value"]["stage"] == "done"
    assert all(record["headers"]["schema"] and record["headers"]["traceparent"] for record in records)
