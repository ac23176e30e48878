"""Three vantages within the test's own process: for stories with many scenes, where three more processes each would be slow.

They really ask, each through its own links, and write what a collector would. Stories about the vantages use collectors.
"""

import asyncio
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from itertools import count

from redis_agent import topics
from redis_agent.clock import instant, wall
from redis_agent.errors import LogUnavailable
from redis_agent.fleet import Fleet
from redis_agent.log import Outgoing
from redis_agent.log.opening import log_of, wait_for
from redis_agent.model import (
    Datacenter,
    InstanceId,
    Observation,
    Observations,
    Origin,
    Reason,
    Replication,
    Role,
    SiteId,
    Vantage,
    Verdict,
)
from redis_agent.wire import observations_to
from simulator.world import SITES, VANTAGES, World

_INTERVAL_SECONDS = 0.25
_TIMEOUT_SECONDS = 0.4


async def watch(world: World, fleet: Fleet) -> None:
    """Ask every site from every vantage and write what they say, until cancelled."""
    numbers = count(1)
    log = log_of(fleet.log)
    try:
        await wait_for(log)
        writer = await log.writer()
        while True:
            began = instant()
            said = await asyncio.gather(*(_said(world, Vantage(name), next(numbers)) for name in VANTAGES))
            age = instant() - began
            with suppress(LogUnavailable):
                await writer.append([_record(each, age) for each in said])
            await asyncio.sleep(_INTERVAL_SECONDS)
    finally:
        await log.close()


async def _said(world: World, vantage: Vantage, number: int) -> Observations:
    origin = Origin(f"test@{vantage}", number)
    votes = await asyncio.gather(*(_vote(world, vantage, site, origin) for site in SITES))
    return Observations(vantage, origin, tuple(votes))


async def _vote(world: World, vantage: Vantage, site: str, origin: Origin) -> Observation:
    fields: dict[str, str] | None = None
    with suppress(OSError, ValueError, asyncio.IncompleteReadError):  # TimeoutError is an OSError
        async with asyncio.timeout(_TIMEOUT_SECONDS):
            fields = await _info(*world.endpoint(vantage, site))
    return Observation(
        site=SiteId(InstanceId(world.terms.instance), Datacenter(site)),
        vantage=vantage,
        at=wall(),
        verdict=Verdict.UP if fields is not None else Verdict.DOWN,
        reason=Reason.ANSWERED if fields is not None else Reason.TIMEOUT,
        evidence="asked by the test",
        origin=origin,
        role=_role(fields),
        replication=_replication(fields),
    )


async def _info(host: str, port: int) -> dict[str, str]:
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(b"INFO replication\r\n")
        size = int((await reader.readline()).strip()[1:])
        lines = (await reader.readexactly(size)).decode().splitlines()
        return dict(line.split(":", 1) for line in lines if ":" in line)
    finally:
        writer.transport.abort()


def _role(fields: dict[str, str] | None) -> Role:
    return {"master": Role.PRIMARY, "slave": Role.REPLICA}.get((fields or {}).get("role", ""), Role.UNKNOWN)


def _replication(fields: dict[str, str] | None) -> Replication | None:
    if fields is None or _role(fields) is not Role.REPLICA:
        return None
    link_up = fields["master_link_status"] == "up"
    since = "master_last_io_seconds_ago" if link_up else "master_link_down_since_seconds"
    return Replication(link_up, int(fields.get(since, "-1")), int(fields["slave_repl_offset"]))


def _record(said: Observations, age: timedelta) -> Outgoing:
    aged = replace(said, observations=tuple(replace(each, age=age) for each in said.observations))
    return Outgoing(topics.OBSERVATIONS, said.vantage, observations_to(aged).SerializeToString())
