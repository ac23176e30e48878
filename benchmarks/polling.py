"""PING and INFO a second a core: our collector's connection, redis-py's asyncio client, Debian's redis exporter.

Each asks the same real redis-servers from one process pinned to one core, the servers pinned to the other, in turn in one
run. The exporter is asked through its `/scrape?target=` by a client on the servers' core; its own CPU time is what counts.

    python -m benchmarks.polling [--servers 8] [--seconds 4]
"""

import argparse
import asyncio
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import httpx
import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from benchmarks.figures import RUNS, cpu_seconds, shown
from collector.core.info import parse
from collector.core.verdict import Answer
from collector.edges.resp import Connection, Endpoint
from simulator.ports import free_ports
from simulator.redis_server import RedisServer

_CONCURRENCY = 32
_CORE = 0
_OTHER = 1


@dataclass(frozen=True, slots=True)
class Rate:
    """Polls done, and the CPU seconds that the polling process used for them."""

    polls: int
    seconds: float
    cpu: float

    @property
    def per_core(self) -> float:
        """Polls for each second of one core's time."""
        return self.polls / self.cpu


Poll = Callable[[int], Awaitable[None]]


async def _drive(poll: Poll, targets: int, seconds: float, cpu: Callable[[], float]) -> Rate:
    """Keep 32 polls in flight for that long."""
    done = 0
    until = time.monotonic() + seconds
    began, used = time.monotonic(), cpu()

    async def worker(first: int) -> None:
        nonlocal done
        turn = first
        while time.monotonic() < until:
            await poll(turn % targets)
            done += 1
            turn += _CONCURRENCY

    await asyncio.gather(*(worker(number) for number in range(_CONCURRENCY)))
    return Rate(done, time.monotonic() - began, cpu() - used)


async def _ours(ports: list[int], seconds: float) -> Rate:
    connections = [Connection(Endpoint("127.0.0.1", port), 0.5) for port in ports for _ in range(_CONCURRENCY)]

    async def poll(turn: int) -> None:
        outcome = await connections[turn].poll()
        if not isinstance(outcome, Answer) or outcome.info is None:
            raise RuntimeError(str(outcome))
        parse(outcome.info)

    try:
        return await _drive(poll, len(connections), seconds, time.process_time)
    finally:
        for connection in connections:
            connection.close()


async def _redis_py(ports: list[int], seconds: float) -> Rate:
    clients = [
        redis.asyncio.Redis(port=port, retry=Retry(NoBackoff(), 0), socket_timeout=0.5, single_connection_client=True)
        for port in ports
        for _ in range(_CONCURRENCY)
    ]

    async def poll(turn: int) -> None:
        await clients[turn].ping()
        await clients[turn].info()

    try:
        return await _drive(poll, len(clients), seconds, time.process_time)
    finally:
        for client in clients:
            await client.aclose()


async def _exporter(pid: int, at: int, ports: list[int], seconds: float) -> Rate:
    limits = httpx.Limits(max_connections=_CONCURRENCY)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{at}", limits=limits, timeout=10) as client:

        async def poll(turn: int) -> None:
            target = f"redis://127.0.0.1:{ports[turn]}"
            answer = await client.get("/scrape", params={"target": target})
            if "redis_up 1" not in answer.text:
                raise RuntimeError(answer.text[:200])

        return await _drive(poll, len(ports), seconds, lambda: cpu_seconds(pid))


def _child(kind: str, ports: list[int], seconds: float) -> Rate:
    """One client in a fresh process on its core."""
    arguments = [kind, ",".join(map(str, ports)), str(seconds)]
    command = ["taskset", "-c", str(_CORE), sys.executable, "-m", "benchmarks.polling", "--child", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[1])
    polls, took, cpu = done.stdout.split()
    return Rate(int(polls), float(took), float(cpu))


async def _bench(servers: int, seconds: float) -> None:
    os.sched_setaffinity(0, {_OTHER})
    exporter = shutil.which("prometheus-redis-exporter")
    *ports, at = free_ports(servers + 1)
    with tempfile.TemporaryDirectory() as scratch:
        running = [RedisServer(Path(scratch) / str(port), "127.0.0.1", port) for port in ports]
        for server, port in zip(running, ports, strict=True):
            (Path(scratch) / str(port)).mkdir()
            await server.start()
        rates: dict[str, list[Rate]] = {"redis-agent": [], "redis-py asyncio": [], "prometheus-redis-exporter": []}
        process = None
        if exporter is not None:
            command = ["taskset", "-c", str(_CORE), exporter, "-web.listen-address", f"127.0.0.1:{at}"]
            process = await asyncio.create_subprocess_exec(
                *command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            await asyncio.sleep(1)
        try:
            for _ in range(RUNS):
                rates["redis-agent"].append(await asyncio.to_thread(_child, "ours", ports, seconds))
                rates["redis-py asyncio"].append(await asyncio.to_thread(_child, "redis-py", ports, seconds))
                if process is not None:
                    rates["prometheus-redis-exporter"].append(await _exporter(process.pid, at, ports, seconds))
        finally:
            if process is not None:
                process.terminate()
                await process.wait()
            for server in running:
                await server.stop()
    _print(rates)


def _print(rates: dict[str, list[Rate]]) -> None:
    ours = statistics.median(rate.per_core for rate in rates["redis-agent"])
    for name, found in rates.items():
        if not found:
            print(f"{name:28} not installed")
            continue
        wall = shown([rate.polls / rate.seconds for rate in found], "polls/s")
        core = shown([rate.per_core for rate in found], "polls/s of one core's time")
        ratio = ours / statistics.median(rate.per_core for rate in found)
        print(f"{name:28} {core:50} {wall:40} ours is {ratio:.1f} times that")


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--servers", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--child", nargs=3)
    arguments = parser.parse_args()
    if arguments.child:
        kind, ports, seconds = arguments.child
        poll = {"ours": _ours, "redis-py": _redis_py}[kind]
        rate = asyncio.run(poll([int(port) for port in ports.split(",")], float(seconds)))
        print(rate.polls, rate.seconds, rate.cpu)
    else:
        asyncio.run(_bench(arguments.servers, arguments.seconds))


if __name__ == "__main__":
    main()
