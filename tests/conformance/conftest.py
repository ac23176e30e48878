"""Both logs to test with: a new SQLite file for each test, and the worker's broker, on which each has topics of its own."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from redis_agent.testing import Bench, Starter, lines_of
from simulator.kafka_broker import KafkaCluster

ROOT = Path(__file__).resolve().parents[2]
WORKER = Path(__file__).with_name("worker.py")


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


@contextmanager
def bench_of(kind: str, request: pytest.FixtureRequest) -> Iterator[Bench]:
    """A bench for `embedded`, `kafka-classic` or `kafka-consumer`, in order again whatever the last test did to it."""
    if kind == "embedded":
        path: Path = request.getfixturevalue("tmp_path") / "log.db"
        bench = Bench(f"embedded:{path}", 1.0, partial(locked, path, request.getfixturevalue("start")))
    else:
        cluster: KafkaCluster = request.getfixturevalue("kafka")
        cluster.thaw(1)
        cluster.start()
        bench = Bench(f"{kind}:{cluster.bootstrap_servers}", 4.0, partial(frozen, cluster))
    yield bench
    bench.close()


@pytest.fixture(params=["embedded", "kafka-classic"])
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    with bench_of(request.param, request) as bench:
        yield bench


@pytest.fixture(params=["embedded", "kafka-classic", "kafka-consumer"])
def group_bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    """As `bench`, with both of Kafka's group protocols."""
    with bench_of(request.param, request) as bench:
        yield bench


@pytest.fixture
def kafka_only(request: pytest.FixtureRequest) -> Iterator[Bench]:
    with bench_of("kafka-classic", request) as bench:
        yield bench


@pytest.fixture
def embedded_only(request: pytest.FixtureRequest) -> Iterator[Bench]:
    with bench_of("embedded", request) as bench:
        yield bench
