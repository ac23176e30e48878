"""`python -m detector.record --config FILE --seconds N --out FILE`: samples from the log, as Parquet.

By default what arrives in the next N seconds; with `--past` what the log holds of the last N.
"""

import argparse
import asyncio
import sys
from datetime import timedelta
from pathlib import Path

import polars as pl

from detector.core.table import read
from redis_agent.errors import AgentError, Malformed
from redis_agent.fleet_file import load_for
from redis_agent.log import Log, Start
from redis_agent.log.opening import log_of
from redis_agent.topics import METRICS

_READ_AT_MOST = 500
_WAIT_SECONDS = 0.5


async def record(log: Log, seconds: float, *, past: bool) -> tuple[list[pl.DataFrame], int]:
    """The samples as frames, and how many records couldn't be read. Raises LogUnavailable."""
    await log.prepare()
    cursor = await log.cursor([METRICS], timedelta(seconds=seconds) if past else Start.NOW)
    loop = asyncio.get_running_loop()
    ends_at = loop.time() + seconds
    frames: list[pl.DataFrame] = []
    unreadable = 0
    while not cursor.caught_up if past else loop.time() < ends_at:
        for found in await cursor.read(_READ_AT_MOST, _WAIT_SECONDS):
            try:
                frames.append(read(found.value))
            except Malformed:
                unreadable += 1
    await cursor.close()
    return frames, unreadable


async def _run(config: Path, seconds: float, out: Path, *, past: bool) -> int:
    log = log_of(load_for("detector", config).log)
    try:
        frames, unreadable = await record(log, seconds, past=past)
    finally:
        await log.close()
    if not frames:
        sys.stderr.write(f"no samples in {seconds:g} s; is a collector running with {config}?\n")
        return 1
    frame = pl.concat(frames).sort("at")
    out.parent.mkdir(parents=True, exist_ok=True)
    frame.write_parquet(out)
    sys.stderr.write(f"{frame.height} samples in {out}; {unreadable} records could not be read\n")
    return 0


def main() -> int:
    """Read the arguments and record."""
    parser = argparse.ArgumentParser(prog="python -m detector.record")
    parser.add_argument("--config", type=Path, required=True, help="the fleet's file")
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--out", type=Path, required=True, help="the Parquet file to write")
    parser.add_argument("--past", action="store_true", help="the last N seconds instead of the next")
    arguments = parser.parse_args()
    try:
        return asyncio.run(_run(arguments.config, arguments.seconds, arguments.out, past=arguments.past))
    except AgentError as fault:
        sys.stderr.write(f"{fault}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main())
