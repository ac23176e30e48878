"""A stage for the acting half: two real Redis servers in step, Route 53 and its name server, the journal; no votes but ours.

Everything runs in the test's own process, so that a test can stop the play between any two lines.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import redis.asyncio
from pydantic import SecretStr

from controller.application.decisions import Decisions
from controller.application.driver import Driver
from controller.application.fleet_state import FleetState
from controller.application.orders import Orders
from controller.application.records import Records
from controller.application.switch import Switch
from controller.application.tasks import InstanceTasks
from controller.core.failover import CONTROLLER, Failover
from controller.core.journal import Journal
from controller.core.policy import Go, Request, decide
from controller.edges.access import Access
from controller.edges.journal import JournalLog
from controller.edges.zones import Zones
from controller.settings import Instance, Settings
from redis_agent import telemetry
from redis_agent.clock import instant, wall
from redis_agent.deadletters import DeadLetters
from redis_agent.findings import Findings
from redis_agent.fleet import DnsName, Route53Section, TelemetrySection
from redis_agent.log.embedded import EmbeddedLog
from redis_agent.model import EventKind, FailoverEvent, FailoverId, Kind, Observations, Plan, Stage, Verdict
from redis_agent.process import Origins
from redis_agent.telemetry import Telemetry
from redis_agent.wire import decode_failover_event
from simulator.dns_server import DnsServer
from simulator.records import RecordSet
from simulator.redis_server import RedisServer
from simulator.route53 import Route53Server
from simulator.zone import Zone
from tests.controller.faltering import FalteringLog, Falters, Fault
from tests.controller.values import EAST, EAST_SITE, ORDERS, POLICY, WEST, WEST_SITE, seconds, vote

NAME = "orders.example.com."
ZONE_ID = "Z0EXAMPLE"
QUICK = replace(POLICY, confirm=timedelta(), vote_max_age=seconds(3600), step=seconds(20), max_data_loss=seconds(3600))


def section_of(server: Route53Server, nameservers: tuple[str, ...] = ()) -> Route53Section:
    """How the controller is configured to use it."""
    return Route53Section(
        hosted_zone_id=ZONE_ID,
        endpoint_url=server.endpoint_url,
        nameservers=nameservers,
        access_key_id="x",
        secret_access_key=SecretStr("y"),
    )


@dataclass(slots=True)
class Play:
    """What stands on the stage."""

    east: RedisServer
    west: RedisServer
    zone: Zone
    dns: DnsServer
    route53: Route53Server
    instance: Instance
    state: FleetState
    decisions: Decisions
    driver: Driver
    orders: Orders
    log: FalteringLog

    @property
    def journal(self) -> JournalLog:
        return self.state.journal

    def say(self, east: Verdict, west: Verdict = Verdict.UP) -> None:
        """Every vantage says so, now, and the votes are counted."""
        now = instant()
        for site, verdict in ((EAST_SITE, east), (WEST_SITE, west)):
            for vantage in ("dc-west", "witness"):
                said = replace(vote(vantage, site, verdict, age=0), at=wall())
                self.state.votes.note(Observations(said.vantage, said.origin, (said,)), now, timedelta(), "")
        self.state.count(now)

    async def required_replicas(self, server: RedisServer) -> str:
        """What the server's fence option is."""
        async with client(server) as one:
            found = await one.config_get("min-replicas-to-write")
        return str(found["min-replicas-to-write"])

    async def plan(self, kind: Kind = Kind.EMERGENCY, *, unasked: bool = True) -> Plan:
        """The plan to move to dc-west. Raises AssertionError where policy refuses it."""
        await self.state.records.refresh(self.instance)
        view = self.state.view(self.instance, instant())
        verdict = decide(view, Request(WEST, kind, unasked=unasked), self.instance.policy)
        assert isinstance(verdict, Go), verdict
        return verdict.plan

    async def decide(self, actor: str = CONTROLLER, kind: Kind = Kind.EMERGENCY) -> FailoverId:
        """Decide to move to dc-west."""
        plan = await self.plan(kind, unasked=actor == CONTROLLER)
        return await self.decisions.act(self.instance, plan, Stage.FENCING, "as the test wants it", actor)

    def failover(self, failover_id: FailoverId) -> Failover:
        """As the journal has it."""
        return self.journal.journal.failovers[failover_id]

    def events(self, failover_id: FailoverId) -> list[FailoverEvent]:
        """What the journal says of it."""
        kept = self.journal.journal.kept(failover_id)
        return [decode_failover_event(entry) for entry in kept.entries] if kept is not None else []

    def kinds(self, failover_id: FailoverId) -> list[tuple[EventKind, Stage]]:
        """The same in short."""
        return [(event.kind, event.stage) for event in self.events(failover_id)]

    async def replayed(self) -> Journal:
        """The journal as a successor reads it. Fences this one."""
        successor = journal_of(telemetry.build("controller", TelemetrySection()))
        await successor.open(self.log)
        return successor.journal

    async def role(self, server: RedisServer) -> str:
        """master or slave."""
        async with client(server) as one:
            return str((await one.info("replication"))["role"])


def journal_of(tracing: Telemetry) -> JournalLog:
    """A journal that isn't open yet."""
    origins = Origins("controller")
    return JournalLog(tracing, origins.next, DeadLetters(tracing, Findings("controller@test:1", origins.next)))


def client(server: RedisServer) -> "redis.asyncio.Redis":
    """A client to use as a context manager."""
    return redis.asyncio.Redis(host=server.host, port=server.port, protocol=2, driver_info=None, socket_timeout=5.0)


def access(server: RedisServer) -> Access:
    """How the controller reaches it."""
    return Access(server.host, server.port)


@asynccontextmanager
async def replicated(directory: Path) -> AsyncIterator[tuple[RedisServer, RedisServer]]:
    """A primary and its replica, in step. The replica listens on another address with the same port, as sites do."""
    primary = RedisServer(directory / "east", "127.0.0.1", 0)
    await primary.start()
    replica = RedisServer(directory / "west", "127.0.0.2", primary.port, replica_of=(primary.host, primary.port))
    try:
        await replica.start()
        async with asyncio.timeout(20), client(replica) as one:
            while (await one.info("replication"))["master_link_status"] != "up":  # noqa: ASYNC110 - another process's state
                await asyncio.sleep(0.05)
        yield primary, replica
    finally:
        await replica.stop()
        await primary.stop()


@asynccontextmanager
async def play(directory: Path, falters: Falters = lambda _: Fault.NONE) -> AsyncIterator[Play]:
    """Set the stage, with a journal that falters so."""
    sites = [
        RecordSet("east.example.com.", "A", 60, ("127.0.0.1",)),
        RecordSet("west.example.com.", "A", 60, ("127.0.0.2",)),
    ]
    record = RecordSet(NAME, "CNAME", 30, ("east.example.com.",))
    zone = Zone("example.com", ZONE_ID, propagation_seconds=0.1, records=[*sites, record])
    async with replicated(directory) as (east, west):
        dns = DnsServer(zone, "127.0.0.1")
        route53 = Route53Server([zone], "127.0.0.1")
        await dns.start()
        await route53.start()
        log = FalteringLog(EmbeddedLog(directory / "log.db"), falters)
        await log.prepare()
        section = section_of(route53, (f"127.0.0.1:{dns.port}",))
        instance = Instance(
            id=ORDERS,
            promotes=True,
            dns=DnsName(provider="main", record=NAME, ttl=30),
            preferred=None,
            values={EAST: "east.example.com.", WEST: "west.example.com."},
            access={EAST: access(east), WEST: access(west)},
            policy=QUICK,
        )
        settings = Settings({ORDERS: instance}, {"main": section}, directory / "pause", QUICK.vote_max_age)
        settings.pause_dir.mkdir()
        tracing = telemetry.build("controller", TelemetrySection())
        journal = journal_of(tracing)
        switch = Switch(settings.pause_dir, Origins("controller"), frozenset(settings.instances))
        zones = Zones(settings.zones)
        state = FleetState(settings, journal, Records(settings.instances, zones), switch, tracing.registry)
        decisions = Decisions(journal, state)
        driver = Driver(journal, state, zones, tracing.registry)
        tasks = InstanceTasks()
        orders = Orders(state, decisions, driver, tasks)
        try:
            await journal.open(log)
            switch.use(await log.writer())
            async with tasks:
                yield Play(east, west, zone, dns, route53, instance, state, decisions, driver, orders, log)
        finally:
            await zones.close()
            await log.close()
            await route53.stop()
            await dns.stop()
