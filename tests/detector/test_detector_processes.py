"""The detector as it runs: a real redis-server, the embedded log, a collector and a detector, each its own process."""

import asyncio
import json
import random
import signal
import socket
import sqlite3
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from redis.asyncio import Redis

from redis_agent.log import Outgoing, Start
from redis_agent.log.embedded import EmbeddedLog
from redis_agent.testing_process import STOPPED_WITHIN_SECONDS
from redis_agent.topics import DEADLETTER, METRICS
from redis_agent.v1 import anomaly_pb2
from redis_agent.v1 import detector_service_pb2 as pb
from redis_agent.v1 import detector_service_pb2_grpc as pb_grpc
from simulator.redis_server import RedisServer

pytestmark = pytest.mark.tensorflow

HOST = "127.0.0.1"
INTERVAL = 0.1
CALM_SECONDS = 14
STORM_CLIENTS = 400
OPENED, CLOSED = anomaly_pb2.ANOMALY_STATE_OPENED, anomaly_pb2.ANOMALY_STATE_CLOSED
STORM_FEATURES = {
    "clients_connected",
    "connections_received_per_second",
    "memory_clients_bytes",
    "error_replies_per_second",
    "commands_per_second",
    "net_input_bytes_per_second",
}


@dataclass(frozen=True)
class Place:
    """One fleet of one database, and where its services are."""

    directory: Path
    redis: RedisServer
    detector_port: int
    instances: int = 1
    retrain_after_seconds: float = 0

    @property
    def config(self) -> Path:
        return self.directory / "fleet.json"

    @property
    def names(self) -> list[str]:
        return ["orders", *(f"orders-{number}" for number in range(1, self.instances))]

    def write(self) -> None:
        site = {"datacenter": "dc-east", "url": f"redis://{HOST}:{self.redis.port}", "dns_value": "localhost"}
        fleet = {
            "log": {"embedded": {"path": str(self.directory / "log.db")}},
            "datacenters": [{"name": "dc-east"}],
            "instances": [{"id": name, "sites": [site]} for name in self.names],
            "collector": {"vantage": "dc-east", "interval_seconds": INTERVAL},
            "detector": {
                "model_dir": str(self.directory / "models"),
                "retrain_after_seconds": self.retrain_after_seconds,
            },
            "grpc": {"ports": {"collector": free_port(), "detector": self.detector_port}},
        }
        self.config.write_text(json.dumps(fleet))

    async def spawn(self, service: str) -> asyncio.subprocess.Process:
        with (self.directory / f"{service}.log").open("ab") as told:
            return await asyncio.create_subprocess_exec(
                sys.executable, "-m", service, "--config", str(self.config), stderr=told, stdout=told
            )

    def told(self) -> str:
        return "".join(path.read_text() for path in sorted(self.directory.glob("*.log")))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


@asynccontextmanager
async def fleet(directory: Path, instances: int = 1, retrain_after_seconds: float = 0) -> AsyncIterator[Place]:
    """A redis-server under light load, watched by a collector, once or under several names."""
    redis = RedisServer(directory, HOST, 0)
    await redis.start()
    place = Place(directory, redis, free_port(), instances, retrain_after_seconds)
    place.write()
    collector = await place.spawn("collector")
    load = asyncio.ensure_future(light_load(redis.port))
    try:
        yield place
    finally:
        load.cancel()
        collector.terminate()
        await collector.wait()
        await redis.stop()


async def light_load(port: int) -> None:
    async with Redis(host=HOST, port=port) as client:
        dice = random.Random(1)
        while True:
            async with client.pipeline(transaction=False) as pipe:
                for _ in range(5):
                    pipe.set(f"key:{dice.randrange(500)}", "value")
                    pipe.get(f"key:{dice.randrange(700)}")
                await pipe.execute()
            await asyncio.sleep(0.02)


@asynccontextmanager
async def detector(place: Place) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await place.spawn("detector")
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def until(check: Callable[[], "asyncio.Future[bool] | object"], seconds: float, what: str, place: Place) -> None:
    """Ask again and again until the answer is true."""
    ends_at = time.monotonic() + seconds
    while time.monotonic() < ends_at:
        found = check()
        if await found if asyncio.iscoroutine(found) else found:
            return
        await asyncio.sleep(0.2)
    pytest.fail(f"{what}: not within {seconds} s\n{place.told()}")


async def anomalies(stub: "pb_grpc.DetectorServiceAsyncStub") -> list[anomaly_pb2.Anomaly]:
    try:
        found = await stub.ListAnomalies(pb.ListAnomaliesRequest(instance="orders"), timeout=2)
    except grpc.aio.AioRpcError:
        return []
    return list(found.anomalies)


@asynccontextmanager
async def storm(port: int) -> AsyncIterator[None]:
    """Many clients at once, each with a greeting; all gone at the end."""
    writers = []
    try:
        for _ in range(STORM_CLIENTS):
            _, writer = await asyncio.open_connection(HOST, port)
            writer.write(b"PING\r\n" * 10)
            writers.append(writer)
        yield
    finally:
        for writer in writers:
            writer.transport.abort()
        await asyncio.sleep(0.1)


def test_a_client_storm_opens_an_anomaly_that_says_so_and_closes_when_it_is_over(tmp_path: Path) -> None:
    async def run() -> None:
        async with fleet(tmp_path) as place, detector(place) as process:
            async with grpc.aio.insecure_channel(f"{HOST}:{place.detector_port}") as channel:
                stub = pb_grpc.DetectorServiceStub(channel)
                await calm_then_storm(place, stub)
                await history(place, pb_grpc.MetricsServiceStub(channel))
            began = time.monotonic()
            process.send_signal(signal.SIGTERM)
            assert await asyncio.wait_for(process.wait(), 20) == 0, place.told()
            assert time.monotonic() - began < STOPPED_WITHIN_SECONDS

    asyncio.run(run())


async def calm_then_storm(place: Place, stub: "pb_grpc.DetectorServiceAsyncStub") -> None:
    await until(lambda: "partitions warm" in place.told(), 40, "the detector reads", place)
    model = await stub.GetModel(pb.GetModelRequest(), timeout=5)
    assert model.origin == "base"
    await asyncio.sleep(CALM_SECONDS)
    assert await anomalies(stub) == [], place.told()

    async def opened() -> bool:
        return any(STORM_FEATURES & {c.feature for c in a.contributions} for a in await anomalies(stub))

    async with storm(place.redis.port):
        await until(opened, 20, "an anomaly opens", place)

    async def closed() -> bool:
        return all(a.state == CLOSED for a in await anomalies(stub))

    await until(closed, 30, "it closes", place)
    found = await anomalies(stub)
    assert len(found) <= 2, found  # the storm's end may be told on its own
    first = found[-1]
    assert first.peak_score > first.threshold
    assert "expected about" in first.explanation
    assert first.model == model.version


async def history(place: Place, stub: "pb_grpc.MetricsServiceAsyncStub") -> None:
    names = ["clients_connected", "commands_processed_total"]
    reply = await stub.QueryMetrics(pb.QueryMetricsRequest(instance="orders", metrics=names), timeout=10)
    assert [(s.datacenter, s.vantage, s.metric) for s in reply.series] == [("dc-east", "dc-east", n) for n in names]
    clients = reply.series[0]
    assert max(clients.value) > STORM_CLIENTS / 4  # it is over as soon as it was noticed
    assert len(clients.at) == len(clients.value) > CALM_SECONDS / INTERVAL / 2
    coarse = await stub.QueryMetrics(
        pb.QueryMetricsRequest(instance="orders", metrics=names, step_seconds=5), timeout=10
    )
    assert 3 <= len(coarse.series[0].value) < len(clients.value) / 10
    with pytest.raises(grpc.aio.AioRpcError) as absent:
        await stub.QueryMetrics(pb.QueryMetricsRequest(instance="nobody"), timeout=10)
    assert absent.value.code() is grpc.StatusCode.NOT_FOUND
    with pytest.raises(grpc.aio.AioRpcError) as unknown:
        await stub.QueryMetrics(pb.QueryMetricsRequest(instance="orders", metrics=["nonsense"]), timeout=10)
    assert unknown.value.code() is grpc.StatusCode.FAILED_PRECONDITION


def test_a_record_that_cannot_be_read_goes_to_dead_letter_and_the_partition_goes_on(tmp_path: Path) -> None:
    async def run() -> None:
        log = EmbeddedLog(tmp_path / "log.db")
        async with fleet(tmp_path) as place, detector(place):
            await until(lambda: "partitions warm" in place.told(), 40, "the detector reads", place)
            poison = Outgoing(METRICS, "dc-east", b"no arrow at all", spread="orders/dc-east")
            await (await log.writer()).append([poison])
            cursor = await log.cursor([DEADLETTER], Start.BEGINNING)
            dead = await cursor.read(10, 10)
            assert [record.value for record in dead] == [poison.value]
            assert "not an Arrow IPC stream" in (dead[0].header("deadletter-reason") or "")
            metrics = await log.cursor([METRICS], Start.NOW)
            assert await metrics.read(10, 5)
            moved = asyncio.ensure_future(
                committed_beyond(tmp_path / "log.db", int(dead[0].header("deadletter-offset") or 0))
            )
            assert await asyncio.wait_for(moved, 10)
        await log.close()

    asyncio.run(run())


async def committed_beyond(path: Path, offset: int) -> bool:
    """Wait until the group's position is well behind that offset."""
    with sqlite3.connect(path) as db:
        while True:
            rows = db.execute("SELECT max(next) FROM positions WHERE grp = 'detector'").fetchone()
            if rows[0] is not None and rows[0] > offset + 5:
                return True
            await asyncio.sleep(0.1)


@pytest.mark.long
def test_an_open_anomaly_survives_a_restart_and_is_closed_under_its_own_id(tmp_path: Path) -> None:
    async def run() -> None:
        async with fleet(tmp_path) as place:
            async with detector(place) as first, storm_soon(place) as name:
                first.kill()
                await first.wait()
            async with detector(place), grpc.aio.insecure_channel(f"{HOST}:{place.detector_port}") as channel:
                stub = pb_grpc.DetectorServiceStub(channel)

                async def closed() -> bool:
                    return {a.id: a.state for a in await anomalies(stub)}.get(name) == CLOSED

                await until(closed, 60, "it closes after the restart", place)

    asyncio.run(run())


@pytest.mark.long
def test_the_fleets_own_windows_teach_a_new_version_which_is_kept_and_used(tmp_path: Path) -> None:
    async def run() -> None:
        async with fleet(tmp_path, instances=12, retrain_after_seconds=16) as place:
            async with detector(place), grpc.aio.insecure_channel(f"{HOST}:{place.detector_port}") as channel:
                await until(lambda: "held-out loss" in place.told(), 80, "it learns", place)
                model = await pb_grpc.DetectorServiceStub(channel).GetModel(pb.GetModelRequest(), timeout=5)
            assert model.origin == "fleet"
            assert (tmp_path / "models" / model.version / "weights.npz").is_file()
            async with detector(place):
                loaded = f"model {model.version}, trained on"
                await until(lambda: loaded in place.told(), 40, "it is loaded", place)

    asyncio.run(run())


@pytest.mark.parametrize("seconds", [0.0, 1.5])
def test_a_detector_that_is_still_starting_ends_at_once_when_asked(tmp_path: Path, seconds: float) -> None:
    """`seconds` after it began to heed signals, which it does before it loads TensorFlow."""

    async def run() -> None:
        redis = RedisServer(tmp_path, HOST, 0)
        place = Place(tmp_path, redis, free_port())
        redis.port = free_port()
        place.write()
        async with detector(place) as process:
            await until(lambda: heeds(process.pid, signal.SIGTERM), 40, "it heeds signals", place)
            await asyncio.sleep(seconds)
            began = time.monotonic()
            process.terminate()
            assert await asyncio.wait_for(process.wait(), 20) == 0, place.told()
            assert time.monotonic() - began < STOPPED_WITHIN_SECONDS

    asyncio.run(run())


def heeds(pid: int, number: signal.Signals) -> bool:
    """Whether the process has a handler of its own for that signal, by proc(5)."""
    status = Path(f"/proc/{pid}/status").read_text()
    caught = next(line for line in status.splitlines() if line.startswith("SigCgt:"))
    return bool(int(caught.split()[1], 16) >> (number - 1) & 1)


@asynccontextmanager
async def storm_soon(place: Place) -> AsyncIterator[str]:
    """A storm after a calm, once the detector told of it: the anomaly's id."""
    async with grpc.aio.insecure_channel(f"{HOST}:{place.detector_port}") as channel:
        stub = pb_grpc.DetectorServiceStub(channel)
        await until(lambda: "partitions warm" in place.told(), 40, "the detector reads", place)
        await asyncio.sleep(CALM_SECONDS)

        async def opened() -> bool:
            return bool(await anomalies(stub))

        async with storm(place.redis.port):
            await until(opened, 20, "an anomaly opens", place)
            yield (await anomalies(stub))[-1].id
