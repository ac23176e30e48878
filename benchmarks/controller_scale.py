"""What a controller costs while nothing happens, how soon it counts what is news, and how soon it is ready with a long journal.

A real controller process on the embedded log. Three vantages speak as collectors do: once a second each, by the collector's
own code; every instance has two sites and all are up.

    python -m benchmarks.controller_scale [--instances 100 1000 10000] [--runs 5]
"""

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any

import grpc

from benchmarks.figures import cpu_seconds, percentile, rss_bytes, shown
from collector.core.statements import Statements
from redis_agent.clock import instant, wall
from redis_agent.log import Outgoing, Writer
from redis_agent.log.embedded import EmbeddedLog
from redis_agent.model import (
    Datacenter,
    EventKind,
    FailoverEvent,
    FailoverId,
    InstanceId,
    Kind,
    Observation,
    Observations,
    Origin,
    Plan,
    Reason,
    Record,
    Role,
    SiteId,
    Stage,
    Vantage,
    Verdict,
)
from redis_agent.topics import FAILOVERS, OBSERVATIONS
from redis_agent.v1 import failover_service_pb2 as pb
from redis_agent.v1 import failover_service_pb2_grpc as pb_grpc
from redis_agent.v1 import types_pb2
from redis_agent.wire import failover_event_to, observations_to
from simulator.ports import free_ports

_ROOT = Path(__file__).parents[1]
_EAST, _WEST = Datacenter("dc-east"), Datacenter("dc-west")
_VANTAGES = tuple(map(Vantage, (_EAST, _WEST, "witness")))
_TICK = timedelta(seconds=1)
_SETTLE_SECONDS, _MEASURED_SECONDS, _NEWS = 15.0, 20.0, 10
_JOURNAL_INSTANCES, _BUSY_SHARE, _BUSY_ENTRIES, _OTHER_ENTRIES = 10_000, 0.01, 1000, 20
_JOURNAL_DAYS = 400


def _name(number: int) -> InstanceId:
    return InstanceId(f"database-{number:05}")


def _fleet(directory: Path, count: int) -> Path:
    (port,) = free_ports(1)
    sites = [
        {"datacenter": dc, "url": f"redis://127.0.0.1:{number}", "dns_value": f"{dc}.example.test."}
        for number, dc in enumerate((_EAST, _WEST), 1)
    ]
    fleet = {
        "log": {"embedded": {"path": str(directory / "log.db")}},
        "datacenters": [{"name": _EAST}, {"name": _WEST}],
        "instances": [{"id": _name(number), "kind": "plain", "sites": sites} for number in range(count)],
        "collector": {"vantage": _EAST},
        "failover": {"pause_dir": str(directory / "pause")},
        "grpc": {"ports": {"controller": port}},
    }
    path = directory / "fleet.json"
    path.write_text(json.dumps(fleet))
    return path


@contextmanager
def _controller(path: Path) -> Iterator["subprocess.Popen[bytes]"]:
    output = path.with_suffix(".out").open("wb")
    child = subprocess.Popen(
        [sys.executable, "-m", "controller", "--config", str(path)], cwd=_ROOT, stdout=output, stderr=subprocess.STDOUT
    )
    try:
        yield child
    finally:
        child.terminate()
        child.wait(30)
        output.close()


async def _until_ready(path: Path, within_seconds: float = 300.0) -> None:
    said = path.with_suffix(".out")
    async with asyncio.timeout(within_seconds):
        while b" ready\n" not in said.read_bytes():  # noqa: ASYNC110 - another process's doing
            await asyncio.sleep(0.02)


class _Speaker:
    """One vantage: says what it sees of every site as a collector does."""

    def __init__(self, vantage: Vantage, writer: Writer, count: int) -> None:
        self._vantage, self._writer = vantage, writer
        self._seen = {SiteId(_name(n), dc): Verdict.UP for n in range(count) for dc in (_EAST, _WEST)}
        self._statements = Statements(_TICK, timedelta(seconds=2))
        self._number = 0
        self._saying = asyncio.Lock()

    def _see(self, site: SiteId, verdict: Verdict) -> None:
        self._seen[site] = verdict
        reason = Reason.ANSWERED if verdict is Verdict.UP else Reason.TIMEOUT
        origin = Origin(self._vantage, 0)
        seen = Observation(site, self._vantage, wall(), verdict, reason, "", origin, role=Role.PRIMARY)
        self._statements.see(seen, instant(), fresh_evidence=False)

    async def tick(self) -> None:
        """Every site was just seen as it was, and that is said."""
        for site, verdict in self._seen.items():
            self._see(site, verdict)
        await self._say(news=False)

    async def news(self, site: SiteId, verdict: Verdict) -> None:
        """That one site changed is said at once."""
        self._see(site, verdict)
        await self._say(news=True)

    async def _say(self, *, news: bool) -> None:
        async with self._saying:
            self._statements.begin_tick()
            following = self._statements.news if news else self._statements.of_tick
            while (statement := following(instant())) is not None:
                self._number += 1
                origin = Origin(f"{self._vantage}-bench", self._number)
                said = Observations(self._vantage, origin, statement.observations, statement.holding)
                value = observations_to(said).SerializeToString()
                await self._writer.append([Outgoing(OBSERVATIONS, self._vantage, value)])
                self._statements.said(statement)


async def _speak(speaker: _Speaker) -> None:
    loop = asyncio.get_running_loop()
    at = loop.time()
    while True:
        await speaker.tick()
        at += _TICK.total_seconds()
        await asyncio.sleep(max(0.0, at - loop.time()))


async def _seconds_until_counted(speaker: _Speaker, stub: Any, number: int) -> float:
    """From a vantage's word that a site is down until the controller says so to who asks."""
    began = time.monotonic()
    await speaker.news(SiteId(_name(number), _WEST), Verdict.DOWN)
    while True:
        reply = await stub.GetInstanceStatus(pb.GetInstanceStatusRequest(instance=_name(number)), timeout=5)
        if any(vote.verdict == types_pb2.VERDICT_DOWN for site in reply.status.sites for vote in site.votes):
            return time.monotonic() - began


async def _idle(count: int) -> tuple[float, list[float], float]:
    """Of one run: the share of a core, the seconds until news is counted, the memory in bytes."""
    with tempfile.TemporaryDirectory() as scratch:
        path = _fleet(Path(scratch), count)
        log = EmbeddedLog(Path(scratch) / "log.db")
        await log.prepare()
        speakers = [_Speaker(vantage, await log.writer(), count) for vantage in _VANTAGES]
        with _controller(path) as child:
            await _until_ready(path)
            speaking = [asyncio.create_task(_speak(speaker)) for speaker in speakers]
            await asyncio.sleep(_SETTLE_SECONDS)
            before, began = cpu_seconds(child.pid), time.monotonic()
            await asyncio.sleep(_MEASURED_SECONDS)
            share = (cpu_seconds(child.pid) - before) / (time.monotonic() - began)
            port = json.loads(path.read_text())["grpc"]["ports"]["controller"]
            async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
                stub = pb_grpc.FailoverServiceStub(channel)
                counted = [await _seconds_until_counted(speakers[2], stub, n) for n in range(min(_NEWS, count))]
            memory = rss_bytes(child.pid)
            for task in speaking:
                task.cancel()
            await asyncio.wait(speaking)
        await log.close()
        return share, counted, memory


# --- the journal


def _failovers(instance: InstanceId, entries: int) -> Iterator[FailoverEvent]:
    """So many entries of failovers that went from one site to the other and back, evenly over the days."""
    between = timedelta(days=_JOURNAL_DAYS) / entries
    began = datetime.now(UTC) - timedelta(days=_JOURNAL_DAYS)
    stages = (Stage.FENCING, Stage.PROMOTING, Stage.REDIRECTING, Stage.PROPAGATING, Stage.VERIFYING)
    kinds = [(EventKind.DECIDED, Stage.FENCING)]
    kinds += [(kind, stage) for stage in stages for kind in (EventKind.INTENT, EventKind.OUTCOME)]
    kinds.append((EventKind.ENDED, Stage.DONE))
    for number in range(entries):
        turn, step = divmod(number, len(kinds))
        source, target = (_EAST, _WEST) if turn % 2 == 0 else (_WEST, _EAST)
        before = Record(f"{instance}.example.test.", "CNAME", f"{source}.example.test.", 30, turn)
        plan = Plan(
            instance=instance,
            source=source,
            target=target,
            kind=Kind.EMERGENCY,
            before=before,
            after=replace(before, value=f"{target}.example.test.", epoch=turn + 1),
            promote=True,
            expected_loss="less than 1 s of writes",
        )
        kind, stage = kinds[step]
        yield FailoverEvent(
            failover=FailoverId(f"{instance}-{turn}"),
            instance=instance,
            kind=kind,
            stage=stage,
            at=began + number * between,
            reason="2 of 3 vantages say that it is down",
            origin=Origin(f"bench@{instance}", number + 1),
            actor="controller",
            plan=plan,
        )


async def _write_journal(log: EmbeddedLog) -> int:
    await log.prepare()
    writer = await log.writer()
    busy, written = int(_JOURNAL_INSTANCES * _BUSY_SHARE), 0
    for number in range(_JOURNAL_INSTANCES):
        events = _failovers(_name(number), _BUSY_ENTRIES if number < busy else _OTHER_ENTRIES)
        while batch := list(islice(events, 1000)):
            values = [failover_event_to(event).SerializeToString() for event in batch]
            await writer.append([Outgoing(FAILOVERS, _name(number), value) for value in values])
            written += len(batch)
    return written


async def _starts(count: int) -> tuple[int, list[float], list[float]]:
    """Entries; of each start the seconds until ready, and the memory then in bytes."""
    seconds: list[float] = []
    memory: list[float] = []
    with tempfile.TemporaryDirectory() as scratch:
        path = _fleet(Path(scratch), _JOURNAL_INSTANCES)
        log = EmbeddedLog(Path(scratch) / "log.db")
        entries = await _write_journal(log)
        for _ in range(count):
            path.with_suffix(".out").unlink(missing_ok=True)
            began = time.monotonic()
            with _controller(path) as child:
                await _until_ready(path)
                seconds.append(time.monotonic() - began)
                memory.append(rss_bytes(child.pid))
        await log.close()
    return entries, seconds, memory


def _print_idle(count: int, runs: int) -> None:
    found = [asyncio.run(_idle(count)) for _ in range(runs)]
    print(
        f"{count:,} instances: {shown([share for share, _, _ in found], 'of a core', 3)}; news counted after"
        f" {shown([1000 * percentile(counted, 0.5) for _, counted, _ in found], 'ms', 1)}, the slowest"
        f" {max(max(counted) for _, counted, _ in found) * 1000:.0f} ms;"
        f" {shown([memory / 2**20 for _, _, memory in found], 'MiB')}",
        flush=True,
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--instances", type=int, nargs="*", default=[100, 1000, 10_000])
    parser.add_argument("--runs", type=int, default=5)
    given = parser.parse_args(arguments)
    for count in given.instances:
        _print_idle(count, given.runs)
    entries, seconds, memory = asyncio.run(_starts(given.runs))
    told = f"{shown(seconds, 's', 1)}, {shown([each / 2**20 for each in memory], 'MiB')}"
    print(f"ready with {entries:,} entries of {_JOURNAL_INSTANCES:,} instances: {told}", flush=True)


if __name__ == "__main__":
    main()
