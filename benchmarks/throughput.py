"""Samples a second, from a collector's batches being appended to their scores being committed by `python -m detector`.

A sample is one site at one tick. A thousand made-up sites send a batch a tick to each of eight partitions, as the collector
does; ticks are appended as fast as the log takes them, and the clock runs until the detector committed the last. Reading,
decoding, rates, scaling, the model, thresholds and the commit are in it, and so is the appending. Five runs.

    python -m benchmarks.throughput [--kafka localhost:9092] [--sites 1000] [--ticks 200] [--runs 5]
"""

import argparse
import asyncio
import json
import sys
import tempfile
import time
import urllib.request
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from benchmarks.figures import RUNS, rss_bytes, shown
from redis_agent.fleet_log import EmbeddedLogSection, KafkaLogSection, LogSection
from redis_agent.log import Log, Outgoing, Writer
from redis_agent.log.opening import log_of, wait_for
from redis_agent.samples import METRICS, Kind, encode
from redis_agent.topics import METRICS as TOPIC
from redis_agent.topics import partition_of
from simulator.ports import free_ports

VANTAGE = "dc-east"
APPENDED_AT_ONCE = 5
"""Ticks in one append: a collector that caught up after an outage."""
JOIN_SECONDS = 90.0
RUN_SECONDS = 300.0
MIB = 1024 * 1024
_COUNTED = ("redis_agent_samples_scored_total", "redis_agent_samples_skipped_total")


class Fleet:
    """A thousand databases' numbers: counters that grow, gauges that wander by a few percent."""

    def __init__(self, sites: int, partitions: int, seed: int = 1) -> None:
        self._dice = np.random.default_rng(seed)
        self._names = [f"db-{number:05}" for number in range(sites)]
        homes: dict[int, list[int]] = {}
        for number, name in enumerate(self._names):
            homes.setdefault(partition_of(name, partitions), []).append(number)
        self._homes = homes
        self._levels = {m.name: self._dice.lognormal(5, 2, sites) for m in METRICS}
        self._counters = {m.name: self._dice.lognormal(9, 2, sites) for m in METRICS if m.kind is Kind.COUNTER}
        self._ticks = 0

    def tick(self, at: datetime) -> list[Outgoing]:
        """One record a partition."""
        self._ticks += 1
        count = len(self._names)
        values = {m.name: self._levels[m.name] * self._dice.normal(1, 0.03, count) for m in METRICS}
        for name, total in self._counters.items():
            total += np.abs(values[name])
            values[name] = total
        values["uptime_seconds"] = np.full(count, float(self._ticks))
        values["ping_seconds"] = self._dice.gamma(4, 5e-5, count)
        return [self._record(members, at, values) for members in self._homes.values()]

    def _record(
        self, members: list[int], at: datetime, values: dict[str, "np.ndarray[tuple[int], np.dtype[np.float64]]"]
    ) -> Outgoing:
        count = len(members)
        columns: dict[str, list[object]] = {name: list(numbers[members]) for name, numbers in values.items()}
        names: list[object] = [self._names[number] for number in members]
        # The collector's monotonic clock goes as its wall clock does.
        columns |= {"at": [at] * count, "monotonic_us": [int(at.timestamp() * 1e6)] * count, "instance": names}
        columns |= {name: [VANTAGE] * count for name in ("datacenter", "vantage")}
        columns |= {"run_id": ["a" * 40] * count, "role": ["primary"] * count}
        return Outgoing(TOPIC, VANTAGE, encode(columns), spread=str(names[0]))


class Detector:
    """The real process, and what its `/metrics` say."""

    def __init__(self, process: asyncio.subprocess.Process, port: int) -> None:
        self._process = process
        self._url = f"http://127.0.0.1:{port}/metrics"

    @property
    def rss(self) -> int:
        """Bytes resident now."""
        return rss_bytes(self._process.pid)

    async def counted(self) -> tuple[int, int]:
        """Samples that were scored, and all that were committed."""
        try:
            text = await asyncio.to_thread(self._get)
        except OSError:
            return 0, 0
        rows = [line.rpartition(" ") for line in text.splitlines() if line.startswith(_COUNTED)]
        scored = sum(float(value) for name, _, value in rows if name.startswith(_COUNTED[0]))
        return int(scored), int(sum(float(value) for _, _, value in rows))

    def _get(self) -> str:
        with urllib.request.urlopen(self._url, timeout=5) as reply:
            text: str = reply.read().decode()
        return text

    async def reach(self, count: int, seconds: float) -> None:
        """Wait until so many samples were committed. Raises TimeoutError."""
        async with asyncio.timeout(seconds):
            while (await self.counted())[1] < count:
                if self._process.returncode is not None:
                    raise RuntimeError("the detector ended")
                await asyncio.sleep(0.02)

    async def stop(self) -> None:
        """SIGTERM, and wait."""
        if self._process.returncode is None:
            self._process.terminate()
        await self._process.wait()


def _configuration(scratch: Path, section: LogSection, ports: Sequence[int]) -> Path:
    site = {"datacenter": VANTAGE, "url": "redis://127.0.0.1:6379", "dns_value": "localhost"}
    fleet = {
        "log": section.model_dump(mode="json", exclude_none=True),
        "datacenters": [{"name": VANTAGE}],
        "instances": [{"id": "db-00000", "sites": [site]}],
        "collector": {"vantage": VANTAGE},
        "detector": {"model_dir": str(scratch / "models")},
        "grpc": {"ports": {"detector": ports[0]}},
        "telemetry": {"prometheus_port": ports[1] - 1, "log_level": "WARNING"},
    }
    path = scratch / "fleet.json"
    path.write_text(json.dumps(fleet))
    return path


async def _joined(detector: Detector, writer: Writer, fleet: Fleet, began: datetime) -> None:
    """A tick now and then until the detector counts them: it starts at the log's end."""
    async with asyncio.timeout(JOIN_SECONDS):
        ticks = 0
        while (await detector.counted())[1] == 0:
            ticks += 1
            await writer.append(fleet.tick(began + timedelta(milliseconds=ticks)))
            await asyncio.sleep(1)
    await asyncio.sleep(3)  # what it hadn't counted yet


async def _run(detector: Detector, writer: Writer, ticks: list[list[Outgoing]], samples: int) -> float:
    """Append these ticks; samples a second until all are committed."""
    before = (await detector.counted())[1]
    began = time.perf_counter()
    for first in range(0, len(ticks), APPENDED_AT_ONCE):
        await writer.append([record for tick in ticks[first : first + APPENDED_AT_ONCE] for record in tick])
    await detector.reach(before + samples, RUN_SECONDS)
    return samples / (time.perf_counter() - began)


async def bench(name: str, section: LogSection, scratch: Path, sites: int, ticks: int, runs: int) -> None:
    """Measure one log and print what came out."""
    ports = free_ports(2)
    log: Log = log_of(section)
    await wait_for(log)
    writer = await log.writer()
    started = time.perf_counter()
    config = _configuration(scratch, section, ports)
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "detector", "--config", str(config))
    detector = Detector(process, ports[1])
    try:
        fleet = Fleet(sites, await log.partitions(TOPIC))
        began = datetime.now(UTC) - timedelta(seconds=(runs + 1) * ticks)
        await _joined(detector, writer, fleet, began)
        print(f"{name}: reading {time.perf_counter() - started:.1f} s after its start", flush=True)
        rates = []
        for run in range(runs + 1):
            at = began + timedelta(seconds=run * ticks)
            batches = [fleet.tick(at + timedelta(seconds=1 + tick)) for tick in range(ticks)]
            rates.append(await _run(detector, writer, batches, sites * ticks))
        scored, counted = await detector.counted()
        print(f"{name}: {shown(rates[1:], 'samples/s')}, {sites} sites, {ticks} ticks a run")
        print(
            f"{name}: {scored:,} of {counted:,} samples scored, detector's RSS {detector.rss / MIB:.0f} MiB", flush=True
        )
    finally:
        await detector.stop()
        await log.close()


def main() -> None:
    """Measure the embedded log, and Kafka when given."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kafka", metavar="HOST:PORT", help="measure it, too")
    parser.add_argument("--sites", type=int, default=1000)
    parser.add_argument("--ticks", type=int, default=200, help="in one run")
    parser.add_argument("--runs", type=int, default=RUNS)
    arguments = parser.parse_args()
    sections = {"embedded": None, "kafka": arguments.kafka} if arguments.kafka else {"embedded": None}
    for name, servers in sections.items():
        with tempfile.TemporaryDirectory() as scratch:
            section = (
                LogSection(kafka=KafkaLogSection(bootstrap_servers=servers))
                if servers
                else LogSection(embedded=EmbeddedLogSection(path=Path(scratch) / "log.db"))
            )
            asyncio.run(bench(name, section, Path(scratch), arguments.sites, arguments.ticks, arguments.runs))


if __name__ == "__main__":
    main()
