"""Healthy traffic on real redis-servers, for recording what normal looks like.

    python -m benchmarks.healthy_load --out build/healthy --seconds 420

starts one redis-server a profile on loopback, writes the fleet's file (`OUT/fleet.json`, one instance a profile, embedded
log in OUT), plays each profile's clients with limited rates, and stops by itself. With `--record FILE` a real collector
watches meanwhile, and what it saw is written as Parquet, for `python -m detector.train`. Traffic is drawn from a seeded
generator; the servers' timing is their own.
"""

import argparse
import asyncio
import json
import math
import random
import socket
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from redis.asyncio import Redis

from simulator.redis_server import RedisServer

HOST = "127.0.0.1"
TURN_SECONDS = 0.1
LEAVE_EARLY_SECONDS = 10.0


@dataclass(frozen=True)
class Client:
    """One profile's hands: a connection pool, a generator of its own, and when it began."""

    redis: Redis
    port: int
    dice: random.Random
    began: float
    ends_at: float

    @property
    def going(self) -> bool:
        """Whether there is time left. Tasks end by themselves: a cancelled call may leave a client in pieces."""
        return asyncio.get_running_loop().time() < self.ends_at

    async def rest(self, seconds: float) -> None:
        """Sleep, but not beyond the end."""
        await asyncio.sleep(max(0.0, min(seconds, self.ends_at - asyncio.get_running_loop().time())))

    def swing(self, period_seconds: float, depth: float = 0.5) -> float:
        """A day's wave in small, around 1, with a little noise."""
        since = asyncio.get_running_loop().time() - self.began
        wave = 1 + depth * math.sin(2 * math.pi * since / period_seconds)
        return max(0.0, wave * self.dice.gauss(1.0, 0.08))

    def key(self, name: str, count: int) -> str:
        """A key of `count`, few of them hot."""
        return f"{name}:{int(count * self.dice.random() ** 3)}"


Turn = Callable[[Client], Awaitable[None]]


async def cache(client: Client) -> None:
    """Reads with misses that are filled; evicts."""
    keys = [client.key("page", 30_000) for _ in range(int(60 * client.swing(90)))]
    found = await client.redis.mget(keys) if keys else []
    async with client.redis.pipeline(transaction=False) as pipe:
        for key, value in zip(keys, found, strict=True):
            if value is None:
                pipe.set(key, b"x" * client.dice.randint(200, 2000))
        await pipe.execute()


async def sessions(client: Client) -> None:
    """Hashes that expire, on connections that come and go."""
    async with client.redis.pipeline(transaction=False) as pipe:
        for _ in range(int(20 * client.swing(150))):
            key = client.key("session", 5000)
            pipe.hset(key, mapping={"user": key, "seen": str(client.dice.random())})
            pipe.expire(key, client.dice.randint(5, 40))
            pipe.hgetall(key)
        await pipe.execute()
    if client.dice.random() < 0.3:
        async with Redis(host=HOST, port=client.port) as visitor:
            await visitor.ping()


async def queue(client: Client) -> None:
    """A list as a queue, filled in waves and drained by blocked workers."""
    jobs = [f"job {number}" for number in range(int(15 * client.swing(60, 0.8)))]
    if jobs:
        await client.redis.lpush("jobs", *jobs)
    for _ in jobs:
        await client.redis.rpop("jobs")


async def counters(client: Client) -> None:
    """Small increments at a steady pace."""
    async with client.redis.pipeline(transaction=False) as pipe:
        for _ in range(int(80 * client.swing(300, 0.2))):
            pipe.incr(client.key("count", 2000))
        await pipe.execute()


async def documents(client: Client) -> None:
    """Larger values, saved to disk now and then."""
    async with client.redis.pipeline(transaction=False) as pipe:
        for _ in range(int(4 * client.swing(120))):
            pipe.set(client.key("doc", 800), b"d" * client.dice.randint(2_000, 40_000))
            pipe.get(client.key("doc", 1000))
        await pipe.execute()
    if client.dice.random() < TURN_SECONDS / 45:
        await client.redis.bgsave()


async def idle(client: Client) -> None:
    """Next to nothing."""
    if client.dice.random() < TURN_SECONDS / 4:
        await client.redis.get("nothing")


async def office(client: Client) -> None:
    """Work and pauses by turns."""
    since = asyncio.get_running_loop().time() - client.began
    if since % 70 < 40:
        await cache(client)


async def primary(client: Client) -> None:
    """Writes that a replica follows."""
    async with client.redis.pipeline(transaction=False) as pipe:
        for _ in range(int(25 * client.swing(100))):
            pipe.set(client.key("row", 4000), b"r" * 100)
        pipe.get(client.key("row", 4000))
        await pipe.execute()


async def reader(client: Client) -> None:
    """Reads from a replica."""
    await client.redis.mget([client.key("row", 5000) for _ in range(1 + int(30 * client.swing(80)))])


async def nightly(client: Client) -> None:
    """Steady reads and writes; once a minute a sweep over the keys."""
    await primary(client)
    if client.dice.random() < TURN_SECONDS / 60:
        async for key in client.redis.scan_iter(match="row:1*", count=500):
            await client.redis.unlink(key)


@dataclass(frozen=True)
class Profile:
    """One database: its clients' turn, how many keep a connection, and its server's settings."""

    name: str
    turn: Turn
    connections: int
    blocked: int = 0
    follows: str = ""
    settings: Mapping[str, str] = field(default_factory=dict)


PROFILES = (
    Profile("cache", cache, 12, settings={"maxmemory": "16mb", "maxmemory-policy": "allkeys-lru"}),
    Profile("sessions", sessions, 30),
    Profile("queue", queue, 8, blocked=5),
    Profile("counters", counters, 20),
    Profile("documents", documents, 6, settings={"maxmemory": "200mb"}),
    Profile("idle", idle, 1),
    Profile("office", office, 15, settings={"maxmemory": "64mb", "maxmemory-policy": "allkeys-lfu"}),
    Profile("primary", primary, 10),
    Profile("reader", reader, 10, follows="primary"),
    Profile("nightly", nightly, 5),
)


async def play(profile: Profile, port: int, seed: int, ends_at: float) -> None:
    """One profile's traffic until then."""
    dice = random.Random(f"{profile.name}/{seed}")
    loop = asyncio.get_running_loop()
    async with Redis(host=HOST, port=port) as redis, asyncio.TaskGroup() as group:
        client = Client(redis, port, dice, loop.time() - 1000 * dice.random(), ends_at)
        group.create_task(_keep_connections(profile, client))
        for _ in range(profile.blocked):
            group.create_task(_wait_in_line(client))
        while client.going:
            await profile.turn(client)
            await client.rest(TURN_SECONDS * dice.uniform(0.7, 1.3))


async def _keep_connections(profile: Profile, client: Client) -> None:
    """Hold about `connections` open: they wander by a quarter, a few a minute."""
    held: list[Redis] = []
    while client.going:
        wanted = max(1, round(profile.connections * client.dice.uniform(0.85, 1.25)))
        while len(held) < wanted:
            held.append(Redis(host=HOST, port=client.port, single_connection_client=True))
            await held[-1].ping()
        while len(held) > wanted:
            await held.pop().aclose()
        await client.rest(client.dice.expovariate(1 / 12))
    for redis in held:
        await redis.aclose()


async def _wait_in_line(client: Client) -> None:
    async with Redis(host=HOST, port=client.port, socket_timeout=None) as redis:
        while client.going:
            await redis.brpop(["orders"], timeout=client.dice.uniform(1, 5))


def fleet_of(ports: Mapping[str, int], out: Path, interval_seconds: float) -> dict[str, object]:
    """The configuration that watches those servers."""
    free = [_free_port() for _ in range(2)]
    return {
        "log": {"embedded": {"path": str(out / "log.db")}},
        "datacenters": [{"name": "dc-loopback"}],
        "instances": [
            {
                "id": name,
                "sites": [{"datacenter": "dc-loopback", "url": f"redis://{HOST}:{port}", "dns_value": "localhost"}],
            }
            for name, port in ports.items()
        ],
        "collector": {"vantage": "dc-loopback", "interval_seconds": interval_seconds},
        "detector": {"model_dir": str(out / "models")},
        "grpc": {"ports": {"collector": free[0], "detector": free[1]}},
    }


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


async def _watch(out: Path, seconds: float, record: Path) -> None:
    """Run the real collector on that fleet, stop it before the clients do, and write what it saw."""
    words = ["-m", "collector", "--config", str(out / "fleet.json")]
    watcher = await asyncio.create_subprocess_exec(sys.executable, *words)
    await asyncio.sleep(seconds - LEAVE_EARLY_SECONDS)
    watcher.terminate()
    await watcher.wait()
    words = ["-m", "detector.record", "--config", str(out / "fleet.json"), "--seconds", str(seconds), "--past"]
    words += ["--out", str(record)]
    recorder = await asyncio.create_subprocess_exec(sys.executable, *words)
    await recorder.wait()


async def run(out: Path, seconds: float, seed: int, interval_seconds: float, record: Path | None) -> None:
    """Start the servers, write the file, play, stop."""
    servers: dict[str, RedisServer] = {}
    try:
        for profile in PROFILES:
            follows = (HOST, servers[profile.follows].port) if profile.follows else None
            server = RedisServer(out / "servers", HOST, 0, replica_of=follows, extra=profile.settings)
            await server.start()
            servers[profile.name] = server
        ports = {name: server.port for name, server in servers.items()}
        (out / "fleet.json").write_text(json.dumps(fleet_of(ports, out, interval_seconds), indent=2))
        print(
            f"playing {len(PROFILES)} profiles for {seconds:g} s; watch with --config {out / 'fleet.json'}", flush=True
        )
        ends_at = asyncio.get_running_loop().time() + seconds
        async with asyncio.TaskGroup() as group:
            for profile in PROFILES:
                group.create_task(play(profile, ports[profile.name], seed, ends_at))
            if record is not None:
                await _watch(out, seconds, record)
    finally:
        for server in reversed(servers.values()):
            await server.stop()


def main() -> int:
    """Read the arguments and play."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.healthy_load", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder for the servers, the log and fleet.json")
    parser.add_argument("--seconds", type=float, default=420.0)
    parser.add_argument("--interval-seconds", type=float, default=0.5, help="the collector's")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--record", type=Path, help="watch it with a collector, and write the samples to this Parquet file"
    )
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    record = arguments.record.resolve() if arguments.record else None
    asyncio.run(run(arguments.out.resolve(), arguments.seconds, arguments.seed, arguments.interval_seconds, record))
    return 0


if __name__ == "__main__":
    sys.exit(main())
