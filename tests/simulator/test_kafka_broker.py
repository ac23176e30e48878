"""A real Kafka starts, keeps what it acknowledged, survives a leader's death, and says in a line why it can't run."""

import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, KafkaError, Message, Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from simulator.kafka_broker import KafkaCluster, NotStarted, PortInUse, WrongDirectory
from simulator.kafka_jars import DEPLOY, NoKafka, ensure_jars
from simulator.ports import free_ports, is_free

ROOT = Path(__file__).resolve().parents[2]
TOPIC = "told"
QUIET = logging.getLogger("kafka-clients-of-a-test")


def settings(kafka: KafkaCluster) -> dict[str, Any]:
    def ignore(error: KafkaError) -> None:
        QUIET.debug("%s", error)

    return {"bootstrap.servers": kafka.bootstrap_servers, "logger": QUIET, "error_cb": ignore}


def create_topic(kafka: KafkaCluster, replicas: int) -> None:
    admin = AdminClient(settings(kafka))
    topic = NewTopic(TOPIC, num_partitions=1, replication_factor=replicas)
    admin.create_topics([topic])[TOPIC].result(20)


def leader(kafka: KafkaCluster) -> int:
    return int(AdminClient(settings(kafka)).list_topics(TOPIC, timeout=20).topics[TOPIC].partitions[0].leader)


def produce(kafka: KafkaCluster, values: list[bytes]) -> None:
    """Returns when every one of `values` is acknowledged by all replicas in sync."""
    refused: list[KafkaError] = []

    def delivered(error: KafkaError | None, _: Message) -> None:
        refused.extend([error] if error else [])

    producer = Producer(settings(kafka) | {"enable.idempotence": True, "message.max.bytes": 20_000_000})
    for value in values:
        producer.produce(TOPIC, value, on_delivery=delivered)
    assert producer.flush(25) == 0
    assert refused == []


def consume(kafka: KafkaCluster, count: int) -> list[bytes]:
    """The first `count` values of the topic, or those that came within 20 s."""
    group = {"group.id": os.urandom(8).hex(), "group.protocol": "consumer", "auto.offset.reset": "earliest"}
    consumer = Consumer(settings(kafka) | group)
    consumer.subscribe([TOPIC])
    values: list[bytes] = []
    deadline = time.monotonic() + 20
    while len(values) < count and time.monotonic() < deadline:
        message = consumer.poll(0.2)
        if message is not None and message.error() is None:
            values.append(message.value() or b"")
    consumer.close()
    return values


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "simulator.kafka_broker", *arguments]


@pytest.fixture(scope="module")
def one_node(tmp_path_factory: pytest.TempPathFactory, jars: Path) -> Iterator[KafkaCluster]:
    with KafkaCluster(tmp_path_factory.mktemp("kafka"), jars=jars) as kafka:
        create_topic(kafka, replicas=1)
        yield kafka


@pytest.mark.long
def test_a_node_keeps_its_records_over_a_stop_and_a_kill(one_node: KafkaCluster) -> None:
    produce(one_node, [b"before"])

    one_node.stop()
    assert one_node.running == frozenset()
    one_node.start()
    produce(one_node, [b"between"])
    one_node.kill(1)
    one_node.start_node(1)

    assert consume(one_node, 2) == [b"before", b"between"]


def test_data_outlives_the_ports_it_was_written_through(tmp_path: Path, jars: Path) -> None:
    with KafkaCluster(tmp_path, jars=jars) as earlier:
        create_topic(earlier, replicas=1)
        produce(earlier, [b"kept"])
    with KafkaCluster(tmp_path, jars=jars) as later:
        assert later.bootstrap_servers != earlier.bootstrap_servers
        assert consume(later, 1) == [b"kept"]


def test_topics_are_never_made_by_asking_for_them(one_node: KafkaCluster) -> None:
    topics = AdminClient(settings(one_node)).list_topics("nobody-made-this", timeout=20).topics
    error = topics["nobody-made-this"].error
    assert error is not None
    assert error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART


def test_a_record_of_fifteen_megabytes_is_taken(one_node: KafkaCluster) -> None:
    produce(one_node, [os.urandom(15_000_000)])


def test_a_frozen_node_takes_nothing_until_it_thaws(one_node: KafkaCluster) -> None:
    producer = Producer(settings(one_node))
    one_node.freeze(1)
    producer.produce(TOPIC, b"patience")
    assert producer.flush(1.5) == 1
    one_node.thaw(1)
    assert producer.flush(20) == 0


def test_a_cluster_started_in_a_thread_outlives_the_thread(tmp_path: Path, jars: Path) -> None:
    kafka = KafkaCluster(tmp_path, jars=jars)
    starter = threading.Thread(target=kafka.start)
    starter.start()
    starter.join()
    time.sleep(0.3)
    assert kafka.running == {1}
    kafka.stop()


@pytest.mark.long
def test_killing_the_leader_of_three_loses_nothing_that_was_acknowledged(tmp_path: Path, jars: Path) -> None:
    with KafkaCluster(tmp_path, nodes=3, jars=jars) as kafka:
        create_topic(kafka, replicas=3)
        told = [b"%d" % number for number in range(100)]
        produce(kafka, told)

        lost = leader(kafka)
        kafka.kill(lost)
        assert kafka.running == {1, 2, 3} - {lost}
        produce(kafka, [b"after the kill"])

        assert consume(kafka, 101) == [*told, b"after the kill"]
        assert leader(kafka) != lost
        for node in kafka.running:
            kafka.kill(node)


def test_a_directory_of_another_size_is_refused(tmp_path: Path) -> None:
    (tmp_path / "cluster.json").write_text('{"id": "Iw0lYYgcSMGqXZYwHZuXFg", "nodes": 3}')
    with pytest.raises(WrongDirectory, match=r"holds a cluster of 3 node\(s\), not 1: pass --nodes 3 or another"):
        KafkaCluster(tmp_path, jars=tmp_path).start()


def test_a_node_that_ends_at_once_is_told_with_the_end_of_its_log(tmp_path: Path, jars: Path) -> None:
    kafka = KafkaCluster(tmp_path, jars=jars)
    kafka.start()
    kafka.stop()
    (tmp_path / "node-1" / "data" / "meta.properties").write_text("version=1\nnode.id=7\ncluster.id=another\n")
    with pytest.raises(
        NotStarted, match=r"(?s)node 1 ended; the end of .*server\.log:\n.*Stored node id 7 doesn't match"
    ):
        kafka.start()
    assert kafka.running == frozenset()


def test_two_nodes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="1 node, or 3 and more, not 2"):
        KafkaCluster(tmp_path, nodes=2, jars=tmp_path)


def test_free_ports_are_different_and_below_those_of_outgoing_connections() -> None:
    ports = free_ports(50)
    assert len(set(ports)) == 50
    assert max(ports) < 32768
    assert all(is_free(port) for port in ports)


def test_a_port_that_is_listened_on_is_not_free(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert not is_free(port)
        with pytest.raises(PortInUse, match=f"port {port} on 127.0.0.1 is in use"):
            KafkaCluster(tmp_path, jars=tmp_path, first_port=port).start()


def test_the_command_names_the_port_that_is_in_use(tmp_path: Path, jars: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        arguments = command("--port", str(port), "--directory", str(tmp_path))
        done = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == f"port {port} on 127.0.0.1 is in use: pass another --port\n"


def test_without_java_one_line_says_what_to_install(tmp_path: Path) -> None:
    arguments = command("--directory", str(tmp_path))
    done = subprocess.run(arguments, cwd=ROOT, env={"PATH": ""}, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert done.stderr == (
        "Kafka needs java, which is not on the PATH: apt-get install default-jre-headless maven, or make setup-test\n"
    )


def program_folder(folder: Path, **scripts: str) -> str:
    """A folder for PATH that holds these programs and nothing else."""
    for name, script in scripts.items():
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)
    return str(folder)


def pom_in(folder: Path) -> Path:
    folder.mkdir()
    (folder / "pom.xml").write_bytes((DEPLOY / "pom.xml").read_bytes())
    return folder


def test_without_maven_only_missing_jars_are_a_trouble(
    tmp_path: Path, jars: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", program_folder(tmp_path, java="exit 0"))
    assert ensure_jars() == jars
    with pytest.raises(NoKafka, match=r"^Kafka needs mvn, which is not on the PATH: apt-get install .*$"):
        ensure_jars(pom_in(tmp_path / "deploy"))


# A Maven that takes a moment, brings two jars, and leaves a line for each time it was called.
MAVEN = """
for argument; do case $argument in -DoutputDirectory=*) lib=${argument#*=};; esac; done
echo called >> "$lib/../calls"; echo first > "$lib/a.jar"; /bin/sleep 0.3; echo second > "$lib/b.jar"
"""


def test_jars_are_fetched_once_and_again_when_one_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", program_folder(tmp_path, java="exit 0", mvn=MAVEN))
    deploy = pom_in(tmp_path / "deploy")
    callers = [threading.Thread(target=ensure_jars, args=(deploy,)) for _ in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert (deploy / "calls").read_text() == "called\n"

    (deploy / "lib" / "b.jar").unlink()
    assert sorted(jar.name for jar in ensure_jars(deploy).glob("*.jar")) == ["a.jar", "b.jar"]
    assert (deploy / "calls").read_text() == "called\ncalled\n"


def test_another_pom_leaves_no_jar_of_the_earlier_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", program_folder(tmp_path, java="exit 0", mvn=MAVEN))
    deploy = pom_in(tmp_path / "deploy")
    (ensure_jars(deploy) / "kafka-0.1.jar").write_text("of an earlier pom")
    (deploy / "pom.xml").write_text("<project/>")
    assert not (ensure_jars(deploy) / "kafka-0.1.jar").exists()


def test_a_maven_that_fails_is_told_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mvn = "echo '[ERROR] could not resolve kafka_2.13'; echo '[ERROR] more'; exit 1"
    monkeypatch.setenv("PATH", program_folder(tmp_path, java="exit 0", mvn=mvn))
    with pytest.raises(NoKafka, match=r"^mvn could not bring Kafka's jars \(\[ERROR\] could not resolve kafka_2.13\)"):
        ensure_jars(pom_in(tmp_path / "deploy"))


def two_free_ports() -> int:
    """A free port whose successor is free too."""
    return next(port for port in free_ports(200) if is_free(port + 1))


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_the_command_says_one_line_and_leaves_nothing_running(tmp_path: Path, jars: Path, end: signal.Signals) -> None:
    port = two_free_ports()
    arguments = command("--port", str(port), "--directory", str(tmp_path))
    with subprocess.Popen(arguments, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        said = running.stdout.readline()
        assert said == f"Kafka 4.3.1 with 1 node(s) at localhost:{port} — Ctrl-C stops it\n"
        running.send_signal(end)
        out, err = running.communicate(timeout=30)
    assert (out, err) == ("", "")
    assert running.returncode == (-signal.SIGKILL if end is signal.SIGKILL else 0)
    deadline = time.monotonic() + 5
    while not is_free(port) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert is_free(port)
