"""Story 6: how each service starts, waits and ends. The contract's exit codes, one line on what is wrong, NOT_SERVING before the end."""

import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from redis_agent.rpc.probe import ask
from simulator.kafka_broker import KafkaCluster
from simulator.kafka_jars import ensure_jars
from simulator.ports import free_ports, ports_in_a_row
from tests.e2e.child import eventually
from tests.e2e.scene import Scene, play

WITH_GRPC = ["collector", "detector", "controller", "notifier"]
SERVICES = [*WITH_GRPC, "gateway"]
STOP_SECONDS = 5.0
"""The contract's; a little more is allowed for the ends of process and test to meet."""


def serving(scene: Scene, service: str) -> str:
    try:
        return ask(scene.fleet.grpc.address(service), 2.0)
    except grpc.RpcError:
        return "unreachable"


@pytest.mark.parametrize("service", SERVICES)
def test_asked_to_stop_it_ends_well_within_five_seconds(service: str, tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        process = scene.start(service, "-m", service, "--config", str(scene.configuration))
        await scene.ready(service)
        began = time.monotonic()
        process.signal(signal.SIGTERM)
        assert await process.code() == 0, process.said
        assert time.monotonic() - began < STOP_SECONDS + 1
        assert "Traceback" not in process.said

    play(story, tmp_path, collectors=False)


@pytest.mark.parametrize("service", WITH_GRPC)
def test_it_is_serving_once_ready_and_says_not_serving_before_it_ends(service: str, tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        process = scene.start(service, "-m", service, "--config", str(scene.configuration))
        await scene.ready(service)
        async with grpc.aio.insecure_channel(scene.fleet.grpc.address(service)) as channel:
            stub: health_pb2_grpc.HealthStub = health_pb2_grpc.HealthStub(channel)
            watched = stub.Watch(health_pb2.HealthCheckRequest())
            seen = [(await watched.read()).status]
            process.signal(signal.SIGTERM)
            try:
                while (answer := await watched.read()) is not grpc.aio.EOF:
                    seen.append(answer.status)
            except grpc.aio.AioRpcError:
                pass  # the connection ends with the process
        status = health_pb2.HealthCheckResponse
        assert seen == [status.SERVING, status.NOT_SERVING]
        assert await process.code() == 0

    play(story, tmp_path, collectors=False)


@pytest.mark.parametrize("service", SERVICES)
def test_a_port_in_use_is_named_in_one_line(service: str, tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        port = scene.fleet.api.port if service == "gateway" else scene.fleet.grpc.port(service)
        with socket.create_server(("127.0.0.1", port)):
            process = scene.start(service, "-m", service, "--config", str(scene.configuration))
            assert await process.code() == 2, process.said
        (line,) = [line for line in process.said.splitlines() if str(port) in line]
        assert "in use" in line
        assert "Traceback" not in process.said

    play(story, tmp_path, collectors=False)


@pytest.mark.parametrize("service", SERVICES)
def test_a_configuration_that_is_wrong_is_told_with_the_key(service: str, tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        wrong = scene.variant("wrong", failover={"quorum": "many"})
        process = scene.start(service, "-m", service, "--config", str(wrong))
        assert await process.code() == 2, process.said
        assert "failover.quorum" in process.said
        assert "Traceback" not in process.said

    play(story, tmp_path, collectors=False)


# --- Kafka comes late


@pytest.fixture
def late_kafka(tmp_path: Path) -> Iterator[KafkaCluster]:
    """A cluster that isn't there yet: its ports are known, and nobody listens."""
    cluster = KafkaCluster(tmp_path / "kafka", jars=ensure_jars(), first_port=ports_in_a_row(2))
    yield cluster
    cluster.stop()


@pytest.mark.timeout(240)
@pytest.mark.long
def test_services_wait_for_a_log_that_is_away_say_so_and_become_ready_when_it_comes(
    late_kafka: KafkaCluster, tmp_path: Path
) -> None:
    waiting = ["collector", "controller", "notifier"]
    log = {"kafka": {"bootstrap_servers": late_kafka.bootstrap_servers}}

    async def story(scene: Scene) -> None:
        for service in waiting:
            scene.start(service, "-m", service, "--config", str(scene.configuration))

        async def said() -> list[bool]:
            return ["waiting for the log" in scene.processes[service].said for service in waiting]

        await eventually(said, all)
        assert [serving(scene, service) for service in waiting] == ["NOT_SERVING"] * 3
        late_kafka.start()
        await scene.ready(*waiting)
        assert [serving(scene, service) for service in waiting] == ["SERVING"] * 3
        for service in waiting:
            assert "the log answers again" in scene.processes[service].said
            scene.processes[service].signal(signal.SIGTERM)
        assert [await scene.processes[service].code() for service in waiting] == [0, 0, 0]

    play(story, tmp_path, within=200, collectors=False, looking=False, log=log)


def test_asked_to_stop_while_it_waits_for_the_log_it_ends(tmp_path: Path) -> None:
    (nobody,) = free_ports(1)
    log = {"kafka": {"bootstrap_servers": f"127.0.0.1:{nobody}"}}

    async def story(scene: Scene) -> None:
        process = scene.start_controller()

        async def said() -> bool:
            return "waiting for the log" in process.said

        await eventually(said, bool)
        began = time.monotonic()
        process.signal(signal.SIGTERM)
        assert await process.code() == 0
        assert time.monotonic() - began < STOP_SECONDS + 1

    play(story, tmp_path, collectors=False, looking=False, log=log)
