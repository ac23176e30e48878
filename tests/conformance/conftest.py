"""Both logs to test with: a new SQLite file for each test, and one Kafka for all, whose tests use topics of their own."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from redis_agent.testing import Bench, Starter, lines_of
from simulator.kafka_broker import KafkaCluster
from simulator.kafka_jars import ensure_jars

ROOT = Path(__file__).resolve().parents[2]
WORKER = Path(__file__).with_name("worker.py")


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaCluster]:
    with KafkaCluster(tmp_path_factory.mktemp("kafka"), jars=ensure_jars()) as cluster:
        yield cluster


@pytest.fixture
def start() -> Iterator[Starter]:
    """Starts `worker.py` with arguments; what still runs at the end of the test is killed."""
    running: list[subprocess.Popen[str]] = []

    def begin(*arguments: object) -> "subprocess.Popen[str]":
        child = subprocess.Popen(
            [sys.executable, str(WORKER), *map(str, arguments)],
            env={"PYTHONPATH": str(ROOT), "PATH": ""},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        running.append(child)
        return child

    yield begin
    for child in running:
        child.kill()
        child.communicate()


@contextmanager
def locked(path: Path, start: Starter) -> Iterator[None]:
    """Another process holds the file's write lock."""
    holder = start("hold", path)
    assert lines_of(holder).readline() == "held\n"
    try:
        yield
    finally:
        holder.kill()
        holder.wait()


@contextmanager
def frozen(cluster: KafkaCluster) -> Iterator[None]:
    """The broker stands still with its connections open."""
    cluster.freeze(1)
    try:
        yield
    finally:
        cluster.thaw(1)


def embedded_bench(path: Path, start: Starter) -> Bench:
    return Bench(f"embedded:{path}", 1.0, partial(locked, path, start))


def kafka_bench(protocol: str, cluster: KafkaCluster) -> Bench:
    cluster.start()
    return Bench(f"kafka-{protocol}:{cluster.bootstrap_servers}", 4.0, partial(frozen, cluster))


@pytest.fixture(params=["embedded", "kafka"])
def bench(request: pytest.FixtureRequest, tmp_path: Path, start: Starter) -> Bench:
    if request.param == "embedded":
        return embedded_bench(tmp_path / "log.db", start)
    return kafka_bench("classic", request.getfixturevalue("kafka"))


@pytest.fixture(params=["embedded", "kafka-classic", "kafka-consumer"])
def group_bench(request: pytest.FixtureRequest, tmp_path: Path, start: Starter) -> Bench:
    """As `bench`, with both of Kafka's group protocols."""
    kind, _, protocol = str(request.param).partition("-")
    if kind == "embedded":
        return embedded_bench(tmp_path / "log.db", start)
    return kafka_bench(protocol, request.getfixturevalue("kafka"))


@pytest.fixture
def kafka_only(kafka: KafkaCluster) -> Bench:
    return kafka_bench("classic", kafka)


@pytest.fixture
def embedded_only(tmp_path: Path, start: Starter) -> Bench:
    return embedded_bench(tmp_path / "log.db", start)
