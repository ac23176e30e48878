"""A small world with real processes: two datacenters and a witness, a collector at each, and the controller."""

import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import grpc
import redis.asyncio

from controller.core.failover import Failover
from controller.core.journal import Entry, Journal
from redis_agent import topics
from redis_agent.clock import instant
from redis_agent.errors import LogUnavailable
from redis_agent.fleet import Fleet
from redis_agent.fleet_file import load
from redis_agent.log.opening import log_of
from redis_agent.model import FailoverEvent, FailoverId
from redis_agent.rpc.channel import answer, channel, metadata
from redis_agent.rpc.plain import plain
from redis_agent.testing import contents
from redis_agent.v1 import failover_service_pb2 as pb
from redis_agent.v1 import failover_service_pb2_grpc as pb_grpc
from redis_agent.wire import decode_failover_event
from simulator.world import EAST, VANTAGES, WEST, ZONE, Terms, World
from tests.e2e.child import PATIENCE_SECONDS, ROOT, Process, eventually
from tests.e2e.vantages import watch

QUICK = {"ttl": 1, "interval": 0.25, "confirm": 0.5, "cooldown": 0.0, "prometheus": False}


class ToldJournal(Journal):
    """With every event of every failover."""

    def __init__(self) -> None:
        super().__init__()
        self.events: dict[FailoverId, tuple[FailoverEvent, ...]] = {}

    def tell(self, event: FailoverEvent) -> None:
        """One more."""
        self.note(Entry(event, instant()))
        self.events[event.failover] = (*self.events.get(event.failover, ()), event)


@dataclass(frozen=True, slots=True)
class Scene:
    """The world, its configuration as the controller has it, and the processes that were started."""

    world: World
    configuration: Path
    fleet: Fleet
    processes: dict[str, Process]
    controller: "pb_grpc.FailoverServiceAsyncStub"

    def start(self, name: str, *command: str, variables: Mapping[str, str] = MappingProxyType({})) -> Process:
        """Run Python with that command line and these variables of the environment, as a child of that name."""
        started = self.processes[name] = Process(command, self.world.directory / f"{name}.log", variables)
        return started

    def start_controller(self, name: str = "controller", configuration: Path | None = None) -> Process:
        """Run a controller."""
        return self.start(name, "-m", "controller", "--config", str(configuration or self.configuration))

    def start_collectors(self) -> None:
        """Run one at each vantage."""
        for vantage in VANTAGES:
            own = self.world.write_configuration(vantage)
            self.start(f"collector-{vantage}", "-m", "collector", "--config", str(own))

    async def ready(self, *names: str) -> None:
        """Wait until these say so."""

        async def all_ready() -> bool:
            return all(self.processes[name].ready for name in names)

        await eventually(all_ready, bool)

    async def cli(self, *arguments: str, within: float = PATIENCE_SECONDS) -> tuple[int, str, str]:
        """Run `redis-agent` to its end: exit code, stdout, stderr."""
        command = [sys.executable, "-m", "redis_agent.cli", *arguments, "--config", str(self.configuration)]
        child = await asyncio.create_subprocess_exec(
            *command,
            env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "300"},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            async with asyncio.timeout(within):
                out, err = await child.communicate()
        finally:
            if child.returncode is None:
                child.kill()
                await child.wait()
        return child.returncode or 0, out.decode(), err.decode()

    def variant(self, name: str, **sections: Mapping[str, Any]) -> Path:
        """The configuration with some sections changed, in a file of its own."""
        fleet = json.loads(self.configuration.read_text())
        for section, changes in sections.items():
            fleet[section] = {**fleet.get(section, {}), **changes}
        path = self.world.directory / f"fleet-{name}.json"
        path.write_text(json.dumps(fleet))
        return path

    async def status(self) -> dict[str, Any]:
        """The instance as the controller sees it. Raises AgentError."""
        asked = pb.GetInstanceStatusRequest(instance=self.world.terms.instance)
        reply = await answer(self.controller.GetInstanceStatus(asked, timeout=5, metadata=metadata(self.fleet.grpc)))
        found: dict[str, Any] = plain(reply.status)
        return found

    async def all_up(self) -> None:
        """Wait until three vantages see both sites up and the client writes."""
        await eventually(self.status, all_counted_up)
        before = len(self.world.client.log.acks)

        async def writes() -> int:
            return len(self.world.client.log.acks)

        await eventually(writes, lambda acks: acks > before)

    async def journal(self) -> ToldJournal:
        """As it stands on the log; empty while nobody made the topic yet."""
        log = log_of(self.fleet.log)
        journal = ToldJournal()
        try:
            with suppress(LogUnavailable):
                for record in await contents(log, topics.FAILOVERS):
                    journal.tell(decode_failover_event(record.value))
            return journal
        finally:
            await log.close()

    async def ended(self) -> Failover:
        """The one failover, once it has ended."""
        journal = await eventually(self.journal, lambda j: any(f.stage.ended for f in j.failovers.values()))
        (failover,) = journal.failovers.values()
        return failover

    async def client_at(self, site: str) -> None:
        """Wait until a new write of the client is acknowledged by that site."""
        since = time.monotonic()

        async def acknowledged() -> int:
            return len(self.world.client.log.acknowledged(self.world.address(site), since))

        await eventually(acknowledged, lambda acks: acks > 0)

    async def role(self, site: str) -> str:
        """What its server calls itself: master or slave."""
        async with self.server(site) as client:
            return str((await client.info("replication"))["role"])

    async def required_replicas(self, site: str) -> int:
        """What its server asks for before it takes a write; a million and more is our fence."""
        async with self.server(site) as client:
            return int((await client.config_get("min-replicas-to-write"))["min-replicas-to-write"] or 0)

    async def replicate(self, site: str, source: str) -> None:
        """Make one site the replica of the other, as an operator would."""
        async with self.server(site) as client:
            await client.replicaof(*self.world.endpoint("replication", source))

    def server(self, site: str) -> "redis.asyncio.Redis":
        """A client of its server, past every link; a context manager."""
        server = self.world.servers[site]
        return redis.asyncio.Redis(host=server.host, port=server.port, protocol=2, driver_info=None, socket_timeout=5.0)

    @property
    def changes(self) -> int:
        """How many DNS changes were applied."""
        return len(self.world.zone.history)

    @property
    def record(self) -> str:
        """Where the name points, as the provider holds it."""
        return self._values(self.world.name, "CNAME")

    @property
    def epoch(self) -> str:
        """What stands beside it."""
        return self._values(f"_fo.{self.world.name}", "TXT")

    def _values(self, name: str, kind: str) -> str:
        found = [held.values for key, held in self.world.zone.accepted.items() if key == (name, kind)]
        return found[0][0] if found else ""

    def moved_once(self) -> None:
        """The name was moved to dc-west, once."""
        assert self.changes == 1
        assert self.record == f"{WEST}.{ZONE}"
        assert self.epoch.startswith('"epoch=1 ')

    def not_moved(self) -> None:
        """Nobody touched the name."""
        assert self.changes == 0
        assert self.record == f"{EAST}.{ZONE}"


def all_counted_up(status: Mapping[str, Any]) -> bool:
    """Whether three vantages' votes count, for each site, and say UP."""
    sites = status["sites"]
    return bool(status["active_datacenter"]) and all(
        site["health"] == "up" and [vote["counted"] for vote in site["votes"]] == ["up"] * 3 for site in sites
    )


def votes_on(status: Mapping[str, Any], datacenter: str) -> dict[str, str]:
    """By vantage: what its vote counts as."""
    (site,) = (site for site in status["sites"] if site["datacenter"] == datacenter)
    return {vote["vantage"]: vote["counted"] for vote in site["votes"]}


@asynccontextmanager
async def scene(
    directory: Path, *, collectors: bool = True, looking: bool = True, **terms: Any
) -> AsyncIterator[Scene]:
    """The world with its vantages and its client; the controller is the test's to start.

    `collectors`: a process at each vantage, as in real life; else the test itself looks from there, if `looking`.
    """
    world = World(directory, Terms(**{**QUICK, **terms}))
    processes: dict[str, Process] = {}
    watching: asyncio.Task[None] | None = None
    opened: grpc.aio.Channel | None = None
    try:
        await world.start()
        configuration = world.write_configuration("controller")
        fleet = load(configuration)
        opened = channel(fleet.grpc, "controller")
        set_ = Scene(world, configuration, fleet, processes, pb_grpc.FailoverServiceStub(opened))
        if collectors:
            set_.start_collectors()
        elif looking:
            watching = asyncio.create_task(watch(world, set_.fleet))
        await world.client.start()
        yield set_
    finally:
        if watching is not None:
            watching.cancel()
            await asyncio.wait([watching])
        if opened is not None:
            await opened.close()
        for process in processes.values():
            process.kill()
        await world.stop()


def play(story: Callable[[Scene], Awaitable[None]], directory: Path, within: float = 150.0, **terms: Any) -> None:
    """Run a story in its scene."""

    async def run() -> None:
        async with asyncio.timeout(within), scene(directory, **terms) as set_:
            await story(set_)

    asyncio.run(run())
