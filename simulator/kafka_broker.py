"""A real Apache Kafka on this machine, for the tests and for `make kafka`.

Reads: `deploy/kafka/pom.xml` (which Kafka) and the jars that Maven brings for it. Writes: one directory with the
cluster's identity and, for each node, its properties, log and data. Every node is broker and controller in one JVM
(KRaft), on loopback ports that stay its own for as long as the cluster object lives.

    with KafkaCluster(directory, nodes=3, jars=ensure_jars()) as kafka:
        Producer({"bootstrap.servers": kafka.bootstrap_servers})
        kafka.kill(2)
"""

import argparse
import base64
import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import Self, TextIO

from redis_agent.errors import Permanent
from simulator.child import dying_with_parent
from simulator.kafka_jars import DEPLOY, ensure_jars, program
from simulator.ports import free_ports, is_free

READY = b"Kafka Server started"
START_SECONDS = 60.0
STOP_SECONDS = 10.0

log = logging.getLogger(__name__)


# ---- What can go wrong ----


class PortInUse(Permanent):
    """A port of the cluster belongs to somebody else."""


class WrongDirectory(Permanent):
    """The directory holds a cluster of another size."""


class NotStarted(Permanent):
    """A node ended, or said nothing in time, before it was ready. The message ends with its log's last lines."""


# ---- One node ----

PROPERTIES = """\
process.roles=broker,controller
node.id={node}
controller.quorum.voters={voters}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
log.dirs={data}
auto.create.topics.enable=false
default.replication.factor={replicas}
min.insync.replicas={in_sync}
offsets.topic.replication.factor={replicas}
offsets.topic.num.partitions=3
transaction.state.log.replication.factor={replicas}
transaction.state.log.min.isr={in_sync}
transaction.state.log.num.partitions=3
group.initial.rebalance.delay.ms=0
group.consumer.session.timeout.ms=6000
group.consumer.min.session.timeout.ms=6000
group.consumer.heartbeat.interval.ms=1000
group.consumer.min.heartbeat.interval.ms=1000
message.max.bytes=20971520
replica.fetch.max.bytes=20971520
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
controller.quorum.election.timeout.ms=500
controller.quorum.fetch.timeout.ms=1000
"""


@dataclass
class Node:
    """A broker and controller: its ports and folder, and the process that runs it now."""

    number: int
    port: int
    controller_port: int
    directory: Path
    process: subprocess.Popen[bytes] | None = None
    earlier_bytes: int = 0
    """How much of the log was written by earlier processes."""

    @property
    def properties(self) -> Path:
        return self.directory / "node.properties"

    @property
    def data(self) -> Path:
        return self.directory / "data"

    @property
    def log(self) -> Path:
        return self.directory / "server.log"

    @property
    def formatted(self) -> bool:
        return (self.data / "meta.properties").is_file()

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def output(self) -> bytes:
        """What the present process has logged."""
        with self.log.open("rb") as stream:
            stream.seek(self.earlier_bytes)
            return stream.read()

    def send(self, which: signal.Signals) -> None:
        if self.process is not None:
            self.process.send_signal(which)  # does nothing when the process has ended

    def gone(self, within_seconds: float) -> bool:
        """Waits for the process to end; whether it did."""
        try:
            if self.process is not None:
                self.process.wait(max(within_seconds, 0.0))
        except subprocess.TimeoutExpired:
            return False
        return True


# ---- The cluster ----


class KafkaCluster:
    """`nodes` brokers, numbered from 1 as in Kafka's own metadata, with their data under `directory`.

    Blocking, for use from one thread at a time. The ports are chosen once: `first_port`, the following ones for the
    other brokers, then as many for the controllers; without it, free ones. Data outlives the object and its ports;
    on Linux the nodes do not: they end with this process, however it ends, or when nobody holds the object any more.
    """

    def __init__(self, directory: Path, nodes: int = 1, *, jars: Path, first_port: int | None = None) -> None:
        if nodes != 1 and nodes < 3:
            raise ValueError(f"a cluster has 1 node, or 3 and more, not {nodes}: half of two is no majority")
        ports = free_ports(2 * nodes) if first_port is None else list(range(first_port, first_port + 2 * nodes))
        self._directory = directory.absolute()
        self._jars = jars.absolute()
        self._nodes = {
            number: Node(number, port, controller_port, self._directory / f"node-{number}")
            for number, port, controller_port in zip(range(1, nodes + 1), ports[:nodes], ports[nodes:], strict=True)
        }
        # The kernel ties a child's life to the thread that started it, so one thread, which lives as long as the
        # cluster, starts them all, whoever calls.
        self._starter = ThreadPoolExecutor(max_workers=1, thread_name_prefix="kafka-starter")

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def bootstrap_servers(self) -> str:
        """`host:port` of every broker, running or not, with commas between."""
        return ",".join(f"127.0.0.1:{node.port}" for node in self._nodes.values())

    @property
    def running(self) -> frozenset[int]:
        """The nodes whose process is alive (a frozen one is)."""
        return frozenset(number for number, node in self._nodes.items() if node.running)

    @property
    def _all(self) -> list[Node]:
        return list(self._nodes.values())

    def log_of(self, node: int) -> Path:
        return self._nodes[node].log

    def start(self) -> None:
        """Starts every node that isn't running and waits until all are ready.

        Raises NoKafka, PortInUse, WrongDirectory or NotStarted, with nothing left running.
        """
        try:
            self._launch([node for node in self._nodes.values() if not node.running])
        except BaseException:
            end(self._all, within_seconds=0.0)
            raise

    def start_node(self, node: int) -> None:
        """The same ports, the same data. Raises what `start` raises, NotStarted also when there is no majority:
        `start` brings several back together.
        """
        if not self._nodes[node].running:
            self._launch([self._nodes[node]])

    def stop(self) -> None:
        """SIGTERM to every node, SIGKILL to those still there after STOP_SECONDS. The data stays."""
        end(self._all, STOP_SECONDS)

    def stop_node(self, node: int) -> None:
        """SIGTERM: hands its partitions over, then ends."""
        end([self._nodes[node]], STOP_SECONDS)

    def kill(self, node: int) -> None:
        """SIGKILL: ends in the middle of whatever it does."""
        end([self._nodes[node]], within_seconds=0.0)

    def freeze(self, node: int) -> None:
        """Stands still with its connections open, as in a long collection of garbage. Returns once it does."""
        frozen = self._nodes[node]
        frozen.send(signal.SIGSTOP)
        if frozen.process is not None and sys.platform == "linux":
            await_stopped(frozen.process.pid)

    def thaw(self, node: int) -> None:
        self._nodes[node].send(signal.SIGCONT)

    def _launch(self, nodes: Sequence[Node]) -> None:
        for port in [port for node in nodes for port in (node.port, node.controller_port)]:
            if not is_free(port):
                raise PortInUse(f"port {port} on 127.0.0.1 is in use: pass another --port")
        cluster = self._identity()
        for node in nodes:
            node.data.mkdir(parents=True, exist_ok=True)
            node.properties.write_text(self._properties(node))
        with ThreadPoolExecutor() as formatters:
            list(formatters.map(self._format, [node for node in nodes if not node.formatted], repeat(cluster)))
        for node in nodes:
            self._starter.submit(self._spawn, node).result()
        deadline = time.monotonic() + START_SECONDS
        for node in nodes:
            await_ready(node, deadline)

    def _identity(self) -> str:
        """The cluster's id, made and written down before the first node is formatted with it."""
        path = self._directory / "cluster.json"
        if not path.is_file():
            self._directory.mkdir(parents=True, exist_ok=True)
            # Never a dash in front: Kafka's command line would take it for an option.
            new_id = "k" + base64.urlsafe_b64encode(os.urandom(16)).decode()[1:].rstrip("=")
            path.write_text(json.dumps({"id": new_id, "nodes": len(self._nodes)}))
        cluster = json.loads(path.read_text())
        if cluster["nodes"] != len(self._nodes):
            raise WrongDirectory(
                f"{self._directory} holds a cluster of {cluster['nodes']} node(s), not {len(self._nodes)}: "
                f"pass --nodes {cluster['nodes']} or another --directory, or delete this one"
            )
        return str(cluster["id"])

    def _properties(self, node: Node) -> str:
        every = self._all
        return PROPERTIES.format(
            node=node.number,
            voters=",".join(f"{each.number}@127.0.0.1:{each.controller_port}" for each in every),
            port=node.port,
            controller_port=node.controller_port,
            data=node.data,
            replicas=min(len(every), 3),
            in_sync=min(len(every), 2),
        )

    def _format(self, node: Node, cluster: str) -> None:
        arguments = ["kafka.tools.StorageTool", "format", "-t", cluster, "-c", str(node.properties)]
        done = subprocess.run([*self._java(), *arguments], check=False, capture_output=True, text=True)
        if done.returncode:
            raise NotStarted(f"Kafka could not format {node.data}: {(done.stdout + done.stderr).strip()}")

    def _spawn(self, node: Node) -> None:
        command = [*self._java(), "kafka.Kafka", str(node.properties)]
        with node.log.open("ab") as stream:
            node.earlier_bytes = stream.tell()
            node.process = subprocess.Popen(
                dying_with_parent(command),
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C in the terminal is for us, who then stop the nodes in order
            )

    def _java(self) -> list[str]:
        memory = ["-Xms96m", "-Xmx320m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
        logging_file = f"-Dlog4j2.configurationFile={DEPLOY / 'log4j2.properties'}"
        return [program("java"), *memory, logging_file, "-cp", f"{self._jars}/*"]


def await_ready(node: Node, deadline: float) -> None:
    while READY not in (output := node.output()):
        if not node.running or time.monotonic() > deadline:
            trouble = "was not ready in time" if node.running else "ended"
            tail = "\n".join(output.decode(errors="replace").splitlines()[-15:])
            raise NotStarted(f"Kafka node {node.number} {trouble}; the end of {node.log}:\n{tail}")
        time.sleep(0.05)


def await_stopped(pid: int) -> None:
    """Waits until every thread of the process stands still: on a busy machine some run on for a while. Linux only."""
    while any(state_of(thread) not in "TtZ" for thread in Path(f"/proc/{pid}/task").iterdir()):
        time.sleep(0.001)


def state_of(thread: Path) -> str:
    """The state of a thread in one letter, from proc(5); `Z` for one that has ended."""
    try:
        return (thread / "stat").read_text().rpartition(") ")[2][0]
    except OSError:
        return "Z"


def end(nodes: Sequence[Node], within_seconds: float) -> None:
    """SIGTERM to all at once, SIGKILL to those that are still there after `within_seconds` (0: to all, at once)."""
    deadline = time.monotonic() + within_seconds
    for node in nodes:
        if within_seconds:
            node.send(signal.SIGTERM)
            node.send(signal.SIGCONT)  # a frozen process hears the other signal only when it goes on
        else:
            node.send(signal.SIGKILL)
    for node in nodes:
        if not node.gone(within_seconds=deadline - time.monotonic()):
            node.send(signal.SIGKILL)
            node.gone(within_seconds=STOP_SECONDS)


# ---- python -m simulator.kafka_broker ----


def main() -> int:
    """Runs Kafka in the foreground. Exit code 0 after Ctrl-C or SIGTERM, 1 when all nodes ended, 2 without a start."""
    arguments = parse()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, signal.default_int_handler)
    try:
        jars = ensure_jars()
        with KafkaCluster(arguments.directory, arguments.nodes, jars=jars, first_port=arguments.port) as kafka:
            places = kafka.bootstrap_servers.replace("127.0.0.1", "localhost")
            say(sys.stdout, f"Kafka {version(jars)} with {arguments.nodes} node(s) at {places} — Ctrl-C stops it")
            return watch(kafka)
    except KeyboardInterrupt:
        return 0
    except Permanent as error:
        say(sys.stderr, str(error))
        return 2


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m simulator.kafka_broker", description=main.__doc__)
    parser.add_argument("--nodes", type=int, choices=(1, 3, 5), default=1, help="brokers (default 1)")
    parser.add_argument("--port", type=int, default=9092, help="the first broker's port; the others follow")
    parser.add_argument("--directory", type=Path, default=Path(".redis-agent/kafka"), help="data, kept between runs")
    arguments = parser.parse_args()
    if not 1024 <= arguments.port <= 65000:
        parser.error(f"--port {arguments.port} is not between 1024 and 65000")
    return arguments


def watch(kafka: KafkaCluster) -> int:
    """Says once of each node that it ended, and returns the exit code when none is left."""
    running = kafka.running
    while running:
        time.sleep(0.5)
        for node in running - kafka.running:
            say(sys.stderr, f"node {node} ended by itself; its log is {kafka.log_of(node)}")
        running &= kafka.running
    return 1


def say(stream: TextIO, line: str) -> None:
    stream.write(f"{line}\n")
    stream.flush()


def version(jars: Path) -> str:
    return next(jars.glob("kafka_2.13-*.jar")).stem.removeprefix("kafka_2.13-")


if __name__ == "__main__":
    sys.exit(main())
