"""From `append` being called to the record in the hands of a reader that waits, in another process.

200 records of 500 bytes, one each 20 ms, five runs. The embedded log always; Kafka with --kafka HOST:PORT.

    python -m benchmarks.log_latency [--kafka localhost:9092]
"""

import argparse
import asyncio
import subprocess
import sys
import tempfile
import time
import uuid
from datetime import timedelta
from pathlib import Path

from benchmarks.figures import RUNS, percentile, shown
from redis_agent.fleet_log import EmbeddedLogSection, KafkaLogSection, LogSection
from redis_agent.log import Outgoing, Start
from redis_agent.log.opening import log_of
from redis_agent.topics import Topic, TopicName

_TOPIC = Topic(TopicName("redis-agent.bench.v1"), 4, timedelta(hours=1), "bytes")
_RECORDS = 200
_EVERY_SECONDS = 0.02
_PADDING = 500


def _section(where: str) -> LogSection:
    if where.startswith("/"):
        return LogSection(embedded=EmbeddedLogSection(path=Path(where)))
    return LogSection(kafka=KafkaLogSection(bootstrap_servers=where))


async def _read(where: str) -> None:
    """The reader's process: prints each record's delay in seconds."""
    log = log_of(_section(where))
    name = f"bench-{uuid.uuid4().hex[:8]}"
    member = await log.member(name, [_TOPIC], Start.NOW, name)
    print("ready", flush=True)
    left = _RECORDS
    while left > 0:
        records = await member.read(100, 1.0)
        now = time.monotonic()
        for record in records:
            print(now - float(record.value[:32]))
        left -= len(records)
        await member.commit()
    await log.close()


async def _measure(where: str) -> list[float]:
    log = log_of(_section(where))
    await log.prepare([_TOPIC])
    reader = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "benchmarks.log_latency",
        "--read",
        where,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[1],
    )
    if reader.stdout is None:
        raise RuntimeError("no pipe")
    if await reader.stdout.readline() != b"ready\n":
        raise RuntimeError("the reader did not start")
    writer = await log.writer()
    for number in range(_RECORDS):
        value = f"{time.monotonic():<32.9f}".encode() + b"." * _PADDING
        await writer.append([Outgoing(_TOPIC, f"key-{number % 7}", value)])
        await asyncio.sleep(_EVERY_SECONDS)
    delays = [float(line) for line in (await reader.stdout.read()).split()]
    await reader.wait()
    await log.close()
    return delays


async def _bench(name: str, where: str) -> None:
    await _measure(where)
    found = [await _measure(where) for _ in range(RUNS)]
    for share in (0.5, 0.99):
        millis = [percentile(delays, share) * 1000 for delays in found]
        print(f"{name:10} append to reader p{share * 100:.0f}: {shown(millis, 'ms', 1)}")


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kafka", help="host:port of a broker")
    parser.add_argument("--read", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.read:
        asyncio.run(_read(arguments.read))
        return
    with tempfile.TemporaryDirectory() as scratch:
        asyncio.run(_bench("embedded", str(Path(scratch) / "log.db")))
    if arguments.kafka:
        asyncio.run(_bench("kafka", arguments.kafka))


if __name__ == "__main__":
    main()
