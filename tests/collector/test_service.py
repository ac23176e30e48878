"""The collector as a process: real Redis servers and links on one side, an embedded log on the other."""

import asyncio
import signal
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import grpc
import pyarrow as pa
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from redis_agent import topics
from redis_agent.log import Delivered
from redis_agent.log.embedded import EmbeddedLog
from redis_agent.model import Observation, Observations, Reason, Role, Verdict
from redis_agent.testing import contents
from redis_agent.testing_process import until
from redis_agent.v1 import collector_service_pb2 as pb
from redis_agent.v1 import collector_service_pb2_grpc as pb_grpc
from redis_agent.v1 import types_pb2
from redis_agent.wire import decode_observations, observation_from
from simulator.ports import free_ports
from simulator.proxy import Link, LinkMode

from .conftest import HOST, Collecting, Serving

DEADLINE = 10.0


class Reading:
    """What the collector has written so far."""

    def __init__(self, log: EmbeddedLog) -> None:
        self._log = log

    async def partitions(self) -> int:
        """Of the metrics topic."""
        return await self._log.partitions(topics.METRICS)

    async def said(self) -> list[tuple[datetime, Observations]]:
        """All that it said, and when the log took it."""
        return [(r.at, decode_observations(r.value)) for r in await contents(self._log, topics.OBSERVATIONS)]

    async def observations(self, datacenter: str = "east") -> list[Observation]:
        """What it said of one site, one after the other."""
        every = [observation for _, said in await self.said() for observation in said.observations]
        return [observation for observation in every if observation.site.datacenter == datacenter]

    async def rows(self) -> list[dict[str, Any]]:
        """Of the metrics topic, all partitions."""
        return [row for record in await self.metrics() for row in _table(record).to_pylist()]

    async def metrics(self) -> list[Delivered]:
        """The records of the metrics topic."""
        return await contents(self._log, topics.METRICS)

    async def first(self, wanted: Callable[[Observation], bool], datacenter: str = "east") -> Observation:
        """The first observation that is wanted, as soon as it is there."""
        for _ in range(1500):
            if found := [o for o in await self.observations(datacenter) if wanted(o)]:
                return found[0]
            await asyncio.sleep(0.02)
        raise AssertionError(f"not among {[(o.verdict, o.reason) for o in await self.observations(datacenter)]}")


def _table(record: Delivered) -> pa.Table:
    with pa.ipc.open_stream(record.value) as stream:
        return stream.read_all()


@asynccontextmanager
async def reading(directory: Path) -> AsyncIterator[Reading]:
    log = EmbeddedLog(directory / "log.db")
    await log.prepare()
    try:
        yield Reading(log)
    finally:
        await log.close()


@asynccontextmanager
async def linked(port: int) -> AsyncIterator[Link]:
    link = Link(HOST, 0, HOST, port)
    await link.start()
    try:
        yield link
    finally:
        await link.stop()


def test_metrics_and_observations_of_every_site_are_written(
    serving: Serving, collecting: Collecting, tmp_path: Path
) -> None:
    async def run() -> None:
        async with serving("east") as east, serving("west") as west, reading(tmp_path) as log:
            (port,) = free_ports(1)
            collector = collecting({"east": east.port, "west": west.port}, port)
            await collector.start()
            for site in ("east", "west"):
                up = await log.first(lambda o: o.verdict is Verdict.UP, site)
                assert (up.vantage, up.reason, up.role) == ("witness", Reason.ANSWERED, Role.PRIMARY)
                assert up.round_trip is not None
            await asyncio.sleep(1.0)
            assert await collector.stop() == 0
            rows = await log.rows()
            assert {row["datacenter"] for row in rows} == {"east", "west"}
            assert all(row["memory_used_bytes"] for row in rows)
            assert len({(row["datacenter"], row["at"]) for row in rows}) == len(rows), "no row twice"
            for record in await log.metrics():
                assert record.partition == topics.partition_of("orders", await log.partitions())
                assert record.header("schema") == topics.METRICS.schema
                assert record.header("traceparent")
                assert record.header("source")
                assert record.header("sequence")

    asyncio.run(run())


def test_each_tick_says_that_all_holds_and_in_full_only_what_is_new(
    serving: Serving, collecting: Collecting, tmp_path: Path
) -> None:
    async def run() -> None:
        async with serving("east") as east, serving("west") as west, reading(tmp_path) as log:
            (port,) = free_ports(1)
            collector = collecting({"east": east.port, "west": west.port}, port, interval_seconds=0.5)
            await collector.start()
            await asyncio.sleep(6)
            assert await collector.stop() == 0
            ticks = [(at, said) for at, said in await log.said() if said.holding is not None]
            gaps = sorted((later - earlier).total_seconds() for (earlier, _), (later, _) in pairwise(ticks))
            assert len(gaps) >= 6
            assert gaps[len(gaps) // 2] < 0.75, "one every interval, not every other"
            assert all(timedelta() <= said.holding < timedelta(seconds=1.3) for _, said in ticks if said.holding)
            again = [len(said.observations) for _, said in ticks[2:]]
            assert set(again) <= {0, 1}, "a share of the sites is said anew, for listeners that came late"
            assert sum(again) >= 1

    asyncio.run(run())


def test_a_change_is_written_at_once_and_does_not_wait_for_the_tick(
    serving: Serving, collecting: Collecting, tmp_path: Path
) -> None:
    async def run() -> None:
        async with serving() as server, reading(tmp_path) as log:
            (port,) = free_ports(1)
            # Ticks are 5 s apart here, and so are the polls: news that waited for a tick would come seconds late.
            collector = collecting({"east": server.port}, port, interval_seconds=5.0)
            await collector.start()
            await log.first(lambda o: o.verdict is Verdict.UP)
            await server.kill()
            async with channel(port) as stub:
                await stub.ProbeNow(pb.ProbeNowRequest(site=EAST), timeout=DEADLINE)
                asked = len(await log.observations())
                await until_written(log, asked)
            down = await log.first(lambda o: o.verdict is Verdict.DOWN)
            assert down.reason in {Reason.REFUSED, Reason.RESET}

    asyncio.run(run())


async def until_written(log: Reading, at_least: int) -> None:
    """The observation of a DOWN arrives within a second or so: far less than the tick of 5 s."""
    for _ in range(75):
        found = await log.observations()
        if len(found) >= at_least and found[-1].verdict is Verdict.DOWN:
            return
        await asyncio.sleep(0.02)
    raise AssertionError("the change was not written at once")


def test_a_frozen_server_and_a_cut_link_are_told_apart(
    serving: Serving, collecting: Collecting, tmp_path: Path
) -> None:
    async def run() -> None:
        async with serving() as server, linked(server.port) as link, reading(tmp_path) as log:
            (port,) = free_ports(1)
            collector = collecting({"direct": server.port, "east": link.port}, port)
            await collector.start()
            await log.first(lambda o: o.verdict is Verdict.UP)
            await link.set_mode(LinkMode.CUT)
            await log.first(lambda o: o.reason is Reason.RESET)
            assert {o.verdict for o in await log.observations("direct")} == {Verdict.UP}, "the server is well"
            server.freeze()
            await log.first(lambda o: o.reason is Reason.TIMEOUT, "direct")
            server.thaw()
            down = (await log.first(lambda o: o.verdict is Verdict.DOWN, "direct")).at
            await log.first(lambda o: o.verdict is Verdict.UP and o.at > down, "direct")

    asyncio.run(run())


def test_a_collector_that_stood_still_itself_says_nothing_against_a_site(
    serving: Serving, collecting: Collecting, tmp_path: Path
) -> None:
    async def run() -> None:
        async with serving() as server, linked(server.port) as link, reading(tmp_path) as log:
            (port,) = free_ports(1)
            # Round trips of 0.1 s, one after the other: a stop of the process finds a poll on its way.
            link.delay_seconds = 0.05
            collector = collecting({"east": link.port}, port, interval_seconds=0.11)
            await collector.start()
            await log.first(lambda o: o.verdict is Verdict.UP)
            for _ in range(5):
                collector.signal(signal.SIGSTOP)
                await asyncio.sleep(1.2)
                collector.signal(signal.SIGCONT)
                await asyncio.sleep(1.1)
            told = await log.observations()
            assert {o.verdict for o in told} <= {Verdict.UP, Verdict.CANNOT_TELL}
            assert Reason.OWN_STALL in {o.reason for o in told}

    asyncio.run(run())


def test_while_the_log_is_away_samples_are_held_and_of_votes_only_the_newest_is_said_later(
    serving: Serving, collecting: Collecting, tmp_path: Path
) -> None:
    async def run() -> None:
        async with serving("east") as east, serving("west") as west, reading(tmp_path) as log:
            (port,) = free_ports(1)
            collector = collecting({"east": east.port, "west": west.port}, port)
            await collector.start()
            await log.first(lambda o: o.verdict is Verdict.UP)
            with locked(tmp_path / "log.db"):
                await until(lambda: "the log is away" in collector.said, 30)
                before = len(await log.said())
                await east.kill()
                await asyncio.sleep(3)
            await until(lambda: "the log answers again" in collector.said, 30)
            await log.first(lambda o: o.verdict is Verdict.DOWN)
            assert await collector.stop() == 0
            late = [o for _, said in (await log.said())[before:] for o in said.observations]
            assert max(o.age for o in late) < timedelta(seconds=1), "old news is not told"
            west_rows = sorted(row["at"] for row in await log.rows() if row["datacenter"] == "west")
            gaps = [(later - earlier).total_seconds() for earlier, later in pairwise(west_rows)]
            assert max(gaps) < 1, "of the seconds that it was away no sample is missing"

    asyncio.run(run())


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Somebody else holds the log's file."""
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        holder.execute("ROLLBACK")
        holder.close()


def test_what_was_gathered_is_written_before_the_end(serving: Serving, collecting: Collecting, tmp_path: Path) -> None:
    async def run() -> None:
        async with serving() as server, reading(tmp_path) as log:
            (port,) = free_ports(1)
            collector = collecting({"east": server.port}, port, interval_seconds=30.0)
            await collector.start()
            async with channel(port) as stub:
                await stub.ProbeNow(pb.ProbeNowRequest(site=EAST), timeout=DEADLINE)
            assert await collector.stop() == 0
            assert len(await log.rows()) >= 1, "a sample, seconds before its tick"

    asyncio.run(run())


# --- gRPC

EAST = types_pb2.Site(instance="orders", datacenter="east")


@asynccontextmanager
async def channel(port: int) -> AsyncIterator["pb_grpc.CollectorServiceAsyncStub"]:
    async with grpc.aio.insecure_channel(f"{HOST}:{port}") as opened:
        yield pb_grpc.CollectorServiceStub(opened)


async def health(port: int) -> int:
    async with grpc.aio.insecure_channel(f"{HOST}:{port}") as opened:
        reply = await health_pb2_grpc.HealthStub(opened).Check(
            health_pb2.HealthCheckRequest(), timeout=DEADLINE, wait_for_ready=True
        )
        return int(reply.status)


def test_the_targets_are_listed_and_a_probe_is_fresh(serving: Serving, collecting: Collecting) -> None:
    async def run() -> None:
        async with serving() as server:
            (port,) = free_ports(1)
            collector = collecting({"east": server.port}, port, interval_seconds=30.0)
            await collector.start()
            async with channel(port) as stub:
                first = await stub.ProbeNow(pb.ProbeNowRequest(site=EAST), timeout=DEADLINE)
                second = await stub.ProbeNow(pb.ProbeNowRequest(site=EAST), timeout=DEADLINE)
                asked = [observation_from(reply.observation) for reply in (first, second)]
                assert [o.verdict for o in asked] == [Verdict.UP, Verdict.UP]
                assert asked[0].at < asked[1].at, "asked anew, though nothing changed and no tick was due"
                listed = await stub.ListTargets(pb.ListTargetsRequest(), timeout=DEADLINE)
                assert (listed.vantage, listed.paused) == ("witness", False)
                (target,) = listed.targets
                assert (target.site, target.endpoint) == (EAST, f"{HOST}:{server.port}")
                assert observation_from(target.last) == asked[1]

    asyncio.run(run())


def test_a_site_that_nobody_knows_is_not_found(serving: Serving, collecting: Collecting) -> None:
    async def run() -> None:
        async with serving() as server:
            (port,) = free_ports(1)
            await collecting({"east": server.port}, port).start()
            async with channel(port) as stub:
                with pytest.raises(grpc.aio.AioRpcError) as fault:
                    nowhere = types_pb2.Site(instance="orders", datacenter="north")
                    await stub.ProbeNow(pb.ProbeNowRequest(site=nowhere), timeout=DEADLINE)
                assert fault.value.code() is grpc.StatusCode.NOT_FOUND
                assert "orders/north" in (fault.value.details() or "")

    asyncio.run(run())


def test_a_paused_collector_cannot_tell_and_a_resumed_one_tells_again(
    serving: Serving, collecting: Collecting, tmp_path: Path
) -> None:
    async def run() -> None:
        async with serving() as server, reading(tmp_path) as log:
            (port,) = free_ports(1)
            await collecting({"east": server.port}, port).start()
            await log.first(lambda o: o.verdict is Verdict.UP)
            async with channel(port) as stub:
                await stub.PauseCollection(pb.PauseCollectionRequest(), timeout=DEADLINE)
                paused = await log.first(lambda o: o.reason is Reason.PAUSED)
                assert paused.verdict is Verdict.CANNOT_TELL
                assert (await stub.ListTargets(pb.ListTargetsRequest(), timeout=DEADLINE)).paused
                await stub.ResumeCollection(pb.ResumeCollectionRequest(), timeout=DEADLINE)
                await log.first(lambda o: o.verdict is Verdict.UP and o.at > paused.at)

    asyncio.run(run())


def test_it_serves_only_once_it_has_its_log(serving: Serving, collecting: Collecting, tmp_path: Path) -> None:
    async def run() -> None:
        async with serving() as server, reading(tmp_path):
            (port,) = free_ports(1)
            collector = collecting({"east": server.port}, port)
            with locked(tmp_path / "log.db"):
                collector.begin()
                assert await health(port) == health_pb2.HealthCheckResponse.NOT_SERVING
                await until(lambda: "waiting for the log" in collector.said, 30)
                assert await health(port) == health_pb2.HealthCheckResponse.NOT_SERVING
            await until(lambda: " ready\n" in collector.said, 30)
            assert await health(port) == health_pb2.HealthCheckResponse.SERVING
            assert await collector.stop() == 0

    asyncio.run(run())
