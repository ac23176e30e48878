"""How fast the embedded log grows: 50 databases of two sites, three collectors, as they are configured by default.

Real collectors and ten real redis-servers under a load that differs, each of which stands for ten sites. What a topic keeps for less than a day (votes) stops
growing after that time; told is both: what is written in a day, and what the file holds after a day.

    python -m benchmarks.log_bytes [--databases 50] [--seconds 60] [--runs 5]
"""

import argparse
import asyncio
import json
import random
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import redis.asyncio

from benchmarks.figures import RUNS, shown
from redis_agent.topics import ALL, METRICS, OBSERVATIONS
from simulator.ports import free_ports
from simulator.redis_server import RedisServer

_ROOT = Path(__file__).parents[1]
_DATACENTERS = ("dc-east", "dc-west")
_VANTAGES = (*_DATACENTERS, "witness")
_SERVERS = 10
_SETTLE_SECONDS = 10.0
_DAY_SECONDS = 86_400
_GB = 1e9


def _sites(number: int, servers: Sequence[int]) -> list[dict[str, str]]:
    own = [servers[(number * len(_DATACENTERS) + offset) % len(servers)] for offset in range(len(_DATACENTERS))]
    return [
        {"datacenter": dc, "url": f"redis://127.0.0.1:{port}", "dns_value": f"{dc}.test."}
        for dc, port in zip(_DATACENTERS, own, strict=True)
    ]


def _configuration(directory: Path, vantage: str, databases: int, servers: Sequence[int], port: int) -> Path:
    fleet = {
        "log": {"embedded": {"path": str(directory / "log.db")}},
        "datacenters": [{"name": dc} for dc in _DATACENTERS],
        "instances": [
            {"id": f"database-{n:03}", "kind": "plain", "sites": _sites(n, servers)} for n in range(databases)
        ],
        "collector": {"vantage": vantage},
        "grpc": {"ports": {"collector": port}},
        "telemetry": {"log_level": "WARNING"},
    }
    path = directory / f"{vantage}.json"
    path.write_text(json.dumps(fleet))
    return path


@contextmanager
def _collector(path: Path) -> Iterator[None]:
    child = subprocess.Popen([sys.executable, "-m", "collector", "--config", str(path)], cwd=_ROOT)
    try:
        yield
    finally:
        child.terminate()
        child.wait(30)


def _bytes(path: Path) -> dict[str, int]:
    """Of each topic's records and of everything else in the file: bytes of the pages that they fill."""
    with sqlite3.connect(path) as db:
        page = int(db.execute("PRAGMA page_size").fetchone()[0])
        free = int(db.execute("PRAGMA freelist_count").fetchone()[0])
        whole = (int(db.execute("PRAGMA page_count").fetchone()[0]) - free) * page
        held = db.execute(
            "SELECT topics.name, sum(length(value) + length(headers) + length(key)) FROM records"
            " JOIN topics ON topics.id = records.topic GROUP BY topics.name"
        )
        return {**{name: int(size) for name, size in held}, "": whole}


def _daily(before: dict[str, int], after: dict[str, int], seconds: float) -> tuple[float, float, float]:
    """Bytes written in a day; bytes that the file holds after a day; records' own share of what was written."""
    grown = {name: after.get(name, 0) - before.get(name, 0) for name in after}
    written = grown.pop("") / seconds * _DAY_SECONDS
    own = sum(grown.values())
    kept = {str(topic.name): min(1.0, topic.kept.total_seconds() / _DAY_SECONDS) for topic in ALL}
    held = written * sum([size * kept[name] for name, size in grown.items()]) / own
    return written, held, own / seconds * _DAY_SECONDS


@dataclass(frozen=True)
class _Run:
    """`daily`: as `_daily` gives it; `grown`: bytes of each topic's records in the measured time."""

    daily: tuple[float, float, float]
    grown: dict[str, int]


async def _load(port: int, seed: int) -> None:
    """Some sets and gets of keys and values of any size, now and then, until cancelled."""
    dice = random.Random(seed)
    async with redis.asyncio.Redis(port=port) as client:
        while True:
            key = f"key-{dice.randrange(1000)}"
            if dice.random() < 0.3:
                await client.set(key, dice.randbytes(dice.randrange(1, 4000)))
            else:
                await client.get(key)
            await asyncio.sleep(dice.random() * 0.02 * seed)


async def _run(databases: int, seconds: float) -> _Run:
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as children:
        directory = Path(scratch)
        ports = free_ports(_SERVERS + len(_VANTAGES))
        redises, own = ports[:_SERVERS], ports[_SERVERS:]
        servers = [RedisServer(directory, "127.0.0.1", port) for port in redises]
        try:
            await asyncio.gather(*(server.start() for server in servers))
            loads = [asyncio.create_task(_load(port, number)) for number, port in enumerate(redises, 1)]
            for vantage, port in zip(_VANTAGES, own, strict=True):
                children.enter_context(_collector(_configuration(directory, vantage, databases, redises, port)))
            await asyncio.sleep(_SETTLE_SECONDS)
            before, began = _bytes(directory / "log.db"), time.monotonic()
            await asyncio.sleep(seconds)
            after = _bytes(directory / "log.db")
            daily = _daily(before, after, time.monotonic() - began)
            for load in loads:
                load.cancel()
            await asyncio.wait(loads)
        finally:
            await asyncio.gather(*(server.stop() for server in servers))
        return _Run(daily, {topic: after[topic] - before.get(topic, 0) for topic in after})


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--databases", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--runs", type=int, default=RUNS)
    given = parser.parse_args(arguments)
    found = [asyncio.run(_run(given.databases, given.seconds)) for _ in range(given.runs)]
    for what, number in (("written in a day", 0), ("held after a day", 1), ("the records' own bytes", 2)):
        print(f"{given.databases} databases, {what}: {shown([run.daily[number] / _GB for run in found], 'GB', 2)}")
    for topic in (METRICS.name, OBSERVATIONS.name):
        print(f"{topic}: {shown([run.grown[topic] / given.seconds / 1000 for run in found], 'kB/s', 1)}")


if __name__ == "__main__":
    main()
